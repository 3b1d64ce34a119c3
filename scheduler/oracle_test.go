package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cruster-go/cruster/scheduler"
)

// randomSet is one field: its text, and its values found without the parser.
type randomSet struct {
	text string
	has  []bool // by value
	all  bool
}

// always is the set of all values of a field.
func always(low, high int) randomSet {
	set := randomSet{text: "*", has: make([]bool, high+1), all: true}
	for v := low; v <= high; v++ {
		set.has[v] = true
	}
	return set
}

// only is the set of one value.
func only(v int) randomSet {
	set := randomSet{text: strconv.Itoa(v), has: make([]bool, max(v+1, 60))}
	set.has[v] = true
	return set
}

var anyYear = always(scheduler.MinYear, scheduler.MaxYear)

// randomField writes one of the forms that a field can have. Dense fields have
// many values, so that fires happen within a short window.
func randomField(rnd *rand.Rand, low, high int, names string) randomSet {
	set := randomSet{has: make([]bool, high+1), all: true}
	add := func(from, to, step int) {
		for v := from; v <= to; v += step {
			set.has[v] = true
		}
	}
	label := func(v int) string {
		if list := strings.Fields(names); len(list) > 0 && rnd.IntN(3) == 0 {
			return list[(v-low)%len(list)]
		}
		return strconv.Itoa(v)
	}
	var texts []string
	for range 1 + rnd.IntN(3)/2*rnd.IntN(4) {
		a := low + rnd.IntN(high-low+1)
		b := a + rnd.IntN(high-a+1)
		step := 1 + rnd.IntN(high-low)
		switch rnd.IntN(7) {
		case 0:
			texts = append(texts, "*")
			add(low, high, 1)
		case 1, 2:
			texts = append(texts, label(a))
			add(a, a, 1)
		case 3:
			texts = append(texts, strconv.Itoa(a)+"-"+strconv.Itoa(b))
			add(a, b, 1)
		case 4:
			texts = append(texts, fmt.Sprintf("*/%d", step))
			add(low, high, step)
		case 5:
			texts = append(texts, fmt.Sprintf("%d/%d", a, step))
			add(a, high, step)
		case 6:
			texts = append(texts, fmt.Sprintf("%d-%d/%d", a, b, step))
			add(a, b, step)
		}
	}
	set.text = strings.Join(texts, ",")
	for v := low; v <= high; v++ {
		set.all = set.all && set.has[v]
	}
	return set
}

// randomExpr is a whole expression with its sets: second, minute, hour, day of
// month, month, day of week, year.
type randomExpr struct {
	text string
	sets [7]randomSet
}

func newRandomExpr(rnd *rand.Rand) randomExpr {
	var e randomExpr
	rarely := func(n, low, high int, names string) randomSet {
		if rnd.IntN(n) > 0 {
			return always(low, high)
		}
		return randomField(rnd, low, high, names)
	}
	count := 5 + rnd.IntN(3)
	e.sets = [7]randomSet{
		only(0),
		rarely(4, 0, 59, ""),
		rarely(2, 0, 23, ""),
		rarely(8, 1, 31, ""),
		rarely(8, 1, 12, "JAN feb Mar APR MAY JUN JUL AUG SEP OCT NOV DEC"),
		rarely(8, 0, 6, "SUN mon Tue WED THU FRI SAT"),
		anyYear,
	}
	first := 1
	if count > 5 {
		first = 0
		if rnd.IntN(2) == 0 {
			e.sets[0] = randomField(rnd, 0, 59, "")
		}
	}
	if count == 7 && rnd.IntN(8) == 0 {
		e.sets[6] = randomField(rnd, scheduler.MinYear, scheduler.MaxYear, "")
	}
	var texts []string
	for _, set := range e.sets[first : first+count] {
		texts = append(texts, set.text)
	}
	e.text = strings.Join(texts, " ")
	return e
}

// matches asks each field about a time on the wall.
func (e *randomExpr) matches(w wall) bool {
	for i, v := range w {
		if !e.sets[i].has[v] {
			return false
		}
	}
	return true
}

// wall is a time on the wall, in the order of the fields.
type wall [7]int

func wallOf(t time.Time) wall {
	year, month, day := t.Date()
	return wall{t.Second(), t.Minute(), t.Hour(), day, int(month), int(t.Weekday()), year}
}

// moment is one second of a window: what the wall shows, whether it has shown
// it before, and what the clock skipped just before.
type moment struct {
	unix    int64
	wall    wall
	again   bool
	skipped []wall
}

// window looks at each second from a time on, by the rules of the package
// comment and nothing else.
func window(loc *time.Location, from int64, seconds int) []moment {
	const before = 3 * 3600               // more than any clock in these zones is set back
	shown := func(unix int64) time.Time { // as if in UTC
		_, offset := time.Unix(unix, 0).In(loc).Zone()
		return time.Unix(unix+int64(offset), 0).UTC()
	}
	var ms []moment
	last := shown(from - before)
	highest := last
	for unix := from - before + 1; unix < from+int64(seconds); unix++ {
		now := shown(unix)
		m := moment{unix: unix, wall: wallOf(now), again: !now.After(highest)}
		for w := last.Add(time.Second); w.Before(now); w = w.Add(time.Second) {
			m.skipped = append(m.skipped, wallOf(w))
		}
		last = now
		if now.After(highest) {
			highest = now
		}
		if unix >= from {
			ms = append(ms, m)
		}
	}
	return ms
}

func (e *randomExpr) fires(m *moment) bool {
	if e.sets[2].all {
		return e.matches(m.wall)
	}
	if !m.again && e.matches(m.wall) {
		return true
	}
	for _, w := range m.skipped {
		if e.matches(w) {
			return true
		}
	}
	return false
}

// TestAgainstOracle compares Next and Prev with a search second by second.
func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	const seconds = 5400
	windows, exprs := 20, 1250          // for each of four zones: 100,000 cases
	if testing.Short() || raceEnabled { // nothing here is shared
		windows = 4
	}
	seed := uint64(20260101)
	for z, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, uint64(z)))
			loc := zone(t, name)
			fires, beyond := 0, 0
			for w := range windows {
				from := rnd.Int64N(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
				if w%4 != 0 { // around a clock change, if the zone has one
					if _, end := time.Unix(from, 0).In(loc).ZoneBounds(); !end.IsZero() {
						from = end.Unix() - 1 - rnd.Int64N(seconds)
					}
				}
				ms := window(loc, from, seconds)
				for range exprs {
					e := newRandomExpr(rnd)
					s, err := scheduler.ParseIn(e.text, loc)
					if err != nil {
						if !strings.Contains(err.Error(), "never") {
							t.Fatalf("Parse(%q) = %v", e.text, err)
						}
						continue
					}
					start := rnd.IntN(seconds / 2)
					want := -1
					for i := start + 1; i < seconds && want < 0; i++ {
						if e.fires(&ms[i]) {
							want = i
						}
					}
					got, ok := s.Next(time.Unix(ms[start].unix, int64(rnd.IntN(2))))
					switch {
					case want < 0 && ok && got.Unix() < from+seconds,
						want >= 0 && (!ok || got.Unix() != ms[want].unix):
						t.Fatalf("seed %d: %q in %s: Next(%v) = %v, %v, want index %d of the window from %v",
							seed, e.text, name, time.Unix(ms[start].unix, 0).In(loc), got, ok, want, time.Unix(from, 0).In(loc))
					case want < 0:
						beyond++
						continue
					}
					fires++
					// Back from some time after that fire: the last one before.
					end := want + rnd.IntN(seconds-want)
					for want = end - 1; want >= 0 && !e.fires(&ms[want]); want-- {
					}
					if got, ok := s.Prev(time.Unix(ms[end].unix, 0)); want >= 0 && (!ok || got.Unix() != ms[want].unix) {
						t.Fatalf("seed %d: %q in %s: Prev(%v) = %v, %v, want %v",
							seed, e.text, name, time.Unix(ms[end].unix, 0).In(loc), got, ok, time.Unix(ms[want].unix, 0).In(loc))
					}
				}
			}
			t.Logf("%d fires found, %d beyond their window", fires, beyond)
			if fires < windows*exprs/4 {
				t.Errorf("only %d of %d expressions fired: the test looks at too little", fires, windows*exprs)
			}
		})
	}
}

// TestAgainstOracleOfDays looks for rare dates, day by day.
func TestAgainstOracleOfDays(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	n := 3000
	if testing.Short() || raceEnabled {
		n = 300
	}
	for range n {
		e := newRandomExpr(rnd)
		e.sets[0], e.sets[1], e.sets[2] = only(0), only(30), only(12)
		e.sets[3], e.sets[4] = randomField(rnd, 1, 31, ""), randomField(rnd, 1, 12, "")
		if rnd.IntN(2) == 0 {
			e.sets[5] = randomField(rnd, 0, 6, "")
		}
		var texts []string
		for _, set := range e.sets {
			texts = append(texts, set.text)
		}
		expr := strings.Join(texts, " ")
		day := time.Date(1970+rnd.IntN(230), 1, 1+rnd.IntN(366), 12, 30, 0, 0, time.UTC)
		s, err := scheduler.Parse(expr)
		next, ok := s.Next(day)
		want := day
		for range 12 * 366 {
			want = want.AddDate(0, 0, 1)
			if want.Year() > scheduler.MaxYear || e.matches(wallOf(want)) {
				break
			}
		}
		switch found := want.Year() <= scheduler.MaxYear && e.matches(wallOf(want)); {
		case found && (err != nil || !ok || !next.Equal(want)):
			t.Fatalf("%q: %v, Next(%v) = %v, %v, want %v", expr, err, day, next, ok, want)
		case !found && err == nil && ok && !next.After(want):
			t.Fatalf("%q: Next(%v) = %v, which does not match", expr, day, next)
		case found:
			if prev, ok := s.Prev(next.Add(1)); !ok || !prev.Equal(next) {
				t.Fatalf("%q: Prev just after %v = %v, %v", expr, next, prev, ok)
			}
			if prev, ok := s.Prev(next); ok && prev.After(day) {
				t.Fatalf("%q: Prev(%v) = %v, but Next(%v) did not find it", expr, next, prev, day)
			}
		}
	}
}

// FuzzParse checks that nothing panics or hangs, that an error names its
// expression, and that the canonical form means the same.
func FuzzParse(f *testing.F) {
	for _, expr := range []string{
		"0 */5 * * * * *", "*/5 9-17 * * MON-FRI", "0 0 13 * FRI", "@every 90s", "@daily", "0 0 29 2 *", "0 0 30 2 *",
		"5/7,1-3/2,* ? * jan-DEC 0-7", "0 0 0 1 1 ? 2027-2199/3", "50-10 * * * *", "\xff * * * *", "@every 9223372036854775807ns",
	} {
		f.Add(expr, int64(1772000000))
	}
	berlin := zone(f, "Europe/Berlin")
	f.Fuzz(func(t *testing.T, expr string, unix int64) {
		s, err := scheduler.ParseIn(expr, berlin)
		if err != nil {
			if _, ok := err.(*scheduler.SyntaxError); !ok { //nolint:errorlint // the type itself is the contract
				t.Fatalf("Parse(%q) returned a %T", expr, err)
			}
			return
		}
		again, err := scheduler.ParseIn(s.String(), berlin)
		if err != nil || again != s || again.String() != s.String() {
			t.Fatalf("%q is written as %q, which reads as %q, %v", expr, s, again, err)
		}
		if s.Describe() == "" {
			t.Fatalf("%q has no description", expr)
		}
		when := time.Unix(unix, 0)
		if next, ok := s.Next(when); ok {
			if next.Unix() <= unix {
				t.Fatalf("%q: Next(%v) = %v, which is not after it", expr, when, next)
			}
			if prev, ok := s.Prev(next.Add(1)); !ok || !prev.Equal(next) {
				t.Fatalf("%q: fire %v is not found from behind: %v, %v", expr, next, prev, ok)
			}
			if prev, ok := s.Prev(next); ok && prev.Unix() > unix {
				t.Fatalf("%q: Prev(%v) = %v, but Next(%v) skipped it", expr, next, prev, when)
			}
		}
		if prev, ok := s.Prev(when); ok && prev.Unix() >= unix {
			t.Fatalf("%q: Prev(%v) = %v, which is not before it", expr, when, prev)
		}
	})
}
