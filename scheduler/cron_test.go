package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cruster-go/cruster/scheduler"
)

// clock is a time on 2026-03-10 in UTC, or with a date in front.
func clock(tb testing.TB, text string) time.Time {
	tb.Helper()
	if len(text) < len("2006-01-02") {
		text = "2026-03-10 " + text
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	tb.Fatalf("%q is not a time", text)
	return time.Time{}
}

// show writes a decision as "fire 10:00 10:05 skip 09:00-09:55 (12) wake 10:10".
func show(d scheduler.Decision) string {
	format := func(t time.Time) string {
		layout := "15:04:05"
		if t.Second() == 0 {
			layout = "15:04"
		}
		if t.YearDay() != 69 {
			layout = "01-02 " + layout
		}
		return t.Format(layout)
	}
	var b strings.Builder
	for i, tick := range d.Due {
		if i == 0 {
			b.WriteString("fire ")
		}
		b.WriteString(format(tick.At) + " ")
	}
	if s := d.Skipped; s.Count > 0 {
		fmt.Fprintf(&b, "skip %s-%s (%d) ", format(s.First), format(s.Last), s.Count)
	}
	if d.Ahead > 0 {
		fmt.Fprintf(&b, "ahead %s ", d.Ahead)
	}
	if d.Wake.IsZero() {
		return b.String() + "ended"
	}
	return b.String() + "wake " + format(d.Wake)
}

// TestDecide plays the life of a cron: at each time one decision, whose state
// goes into the next, as it does over a failover.
func TestDecide(t *testing.T) {
	t.Parallel()
	type step struct{ now, want string }
	for _, tc := range []struct {
		name  string
		cron  scheduler.Cron
		expr  string
		zone  string
		steps []step
	}{
		{"keeps up", scheduler.Cron{}, "0 */5 * * * * *", "", []step{
			{"09:02", "wake 09:05"},
			{"09:05", "fire 09:05 wake 09:10"},
			{"09:05", "wake 09:10"},
			{"09:07", "wake 09:10"},
			{"09:10:03", "fire 09:10 wake 09:15"},
		}},
		{"starts on a tick: that one is not due", scheduler.Cron{}, "*/5 * * * *", "", []step{
			{"09:05", "wake 09:10"},
			{"09:10", "fire 09:10 wake 09:15"},
		}},
		{"late wake-ups do not drift", scheduler.Cron{NextFromPrevious: true}, "@every 10s", "", []step{
			{"09:00:07", "wake 09:00:10"},
			{"09:00:19", "fire 09:00:10 wake 09:00:20"},
			{"09:00:29", "fire 09:00:20 wake 09:00:30"},
			{"09:00:30", "fire 09:00:30 wake 09:00:40"},
		}},
		{"outage: newest only", scheduler.Cron{}, "*/10 * * * *", "", []step{
			{"09:02", "wake 09:10"},
			{"10:05", "fire 10:00 skip 09:10-09:50 (5) wake 10:10"},
			{"10:10", "fire 10:10 wake 10:20"},
		}},
		{"outage: every tick", scheduler.Cron{NextFromPrevious: true}, "*/10 * * * *", "", []step{
			{"09:02", "wake 09:10"},
			{"09:45", "fire 09:10 09:20 09:30 09:40 wake 09:50"},
		}},
		{"outage: every tick, at most three", scheduler.Cron{NextFromPrevious: true, CatchUp: 3}, "*/10 * * * *", "", []step{
			{"09:02", "wake 09:10"},
			{"10:05", "fire 09:40 09:50 10:00 skip 09:10-09:30 (3) wake 10:10"},
			{"10:25", "fire 10:10 10:20 wake 10:30"},
		}},
		{"outage: every tick that is not too old", scheduler.Cron{NextFromPrevious: true, SkipIfOlderThan: 15 * time.Minute}, "*/10 * * * *", "", []step{
			{"09:02", "wake 09:10"},
			{"10:05", "fire 09:50 10:00 skip 09:10-09:40 (4) wake 10:10"},
		}},
		{"outage: the newest is too old as well", scheduler.Cron{SkipIfOlderThan: time.Hour}, "0 3 * * *", "", []step{
			{"02:00", "wake 03:00"},
			{"12:00", "skip 03:00-03:00 (1) wake 03-11 03:00"},
			{"12:00", "wake 03-11 03:00"},
		}},
		{"exactly as old as allowed fires", scheduler.Cron{SkipIfOlderThan: time.Hour}, "0 3 * * *", "", []step{
			{"02:00", "wake 03:00"},
			{"04:00", "fire 03:00 wake 03-11 03:00"},
			{"2026-03-11 04:00:01", "skip 03-11 03:00-03-11 03:00 (1) wake 03-12 03:00"},
		}},
		{"all of several are too old", scheduler.Cron{NextFromPrevious: true, SkipIfOlderThan: time.Minute}, "0 1,2,3 * * *", "", []step{
			{"00:30", "wake 01:00"},
			{"12:00", "skip 01:00-03:00 (3) wake 03-11 01:00"},
		}},
		{"clock set forward an hour", scheduler.Cron{}, "*/20 * * * *", "", []step{
			{"09:00", "wake 09:20"},
			{"09:20", "fire 09:20 wake 09:40"},
			{"10:25", "fire 10:20 skip 09:40-10:00 (2) wake 10:40"},
		}},
		{"clock set forward an hour, every tick", scheduler.Cron{NextFromPrevious: true}, "*/20 * * * *", "", []step{
			{"09:00", "wake 09:20"},
			{"10:25", "fire 09:20 09:40 10:00 10:20 wake 10:40"},
		}},
		{"clock set back an hour: nothing twice", scheduler.Cron{}, "*/20 * * * *", "", []step{
			{"09:50", "wake 10:00"},
			{"10:00:01", "fire 10:00 wake 10:20"},
			{"09:00:02", "ahead 59m58s wake 10:20"},
			{"09:20", "ahead 40m0s wake 10:20"},
			{"10:00", "wake 10:20"},
			{"10:20", "fire 10:20 wake 10:40"},
		}},
		{"clock set back an hour, every tick: nothing twice", scheduler.Cron{NextFromPrevious: true}, "*/20 * * * *", "", []step{
			{"09:50", "wake 10:00"},
			{"10:00:01", "fire 10:00 wake 10:20"},
			{"09:00:02", "ahead 59m58s wake 10:20"},
			{"10:41", "fire 10:20 10:40 wake 11:00"},
		}},
		{"clock set back before the first tick", scheduler.Cron{}, "*/20 * * * *", "", []step{
			{"09:50", "wake 10:00"},
			{"08:50", "ahead 1h0m0s wake 10:00"},
			{"10:00", "fire 10:00 wake 10:20"},
		}},
		{"schedule ends", scheduler.Cron{}, "0 0 9 10 3 * 2026", "", []step{
			{"08:00", "wake 09:00"},
			{"09:30", "fire 09:00 ended"},
			{"10:30", "ended"},
		}},
		{"schedule ended before it was seen", scheduler.Cron{NextFromPrevious: true}, "0 0 9 10 3 * 2026", "", []step{
			{"10:00", "ended"},
		}},
		{"schedule ends in the outage, too old", scheduler.Cron{NextFromPrevious: true, SkipIfOlderThan: 1}, "0 0 9 10 3 * 2026", "", []step{
			{"08:00", "wake 09:00"},
			{"10:30", "skip 09:00-09:00 (1) ended"},
		}},
		{"night of the skipped hour", scheduler.Cron{NextFromPrevious: true}, "30 2 * * *", "Europe/Berlin", []step{
			{"2026-03-28 12:00", "wake 03-29 03:00"},
			{"2026-03-29 01:00", "fire 03-29 03:00 wake 03-30 02:30"}, // 01:00 UTC is 03:00 there
			{"2026-03-30 00:30", "fire 03-30 02:30 wake 03-31 02:30"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.cron.Name, tc.cron.Schedule = "job", scheduler.MustParse(tc.expr).In(zone(t, tc.zone))
			var state scheduler.State
			for i, s := range tc.steps {
				d := tc.cron.Decide(state, clock(t, s.now))
				if got := show(d); got != s.want {
					t.Errorf("step %d at %s: %s, want %s", i, s.now, got, s.want)
				}
				if changed := !d.State.Last.Equal(state.Last); d.Changed != changed {
					t.Errorf("step %d at %s: Changed = %v, but Last went from %v to %v", i, s.now, d.Changed, state.Last, d.State.Last)
				}
				state = d.State
			}
		})
	}
}

func TestDecideInPortions(t *testing.T) {
	t.Parallel()
	cron := scheduler.Cron{Name: "job", Schedule: scheduler.MustParse("* * * * * *"), NextFromPrevious: true}
	state := scheduler.State{Last: epoch}
	now := epoch.Add(250 * time.Second)
	var fired []scheduler.Tick
	for i, want := range []int{scheduler.MaxDue, scheduler.MaxDue, 50} {
		d := cron.Decide(state, now)
		if len(d.Due) != want {
			t.Fatalf("portion %d has %d ticks, want %d", i, len(d.Due), want)
		}
		if more := i < 2; more != d.Wake.Equal(now) {
			t.Errorf("portion %d: wake %v at %v, with more due: %v", i, d.Wake, now, more)
		}
		fired, state = append(fired, d.Due...), d.State
	}
	for i, tick := range fired {
		if want := epoch.Add(time.Duration(i+1) * time.Second); !tick.At.Equal(want) {
			t.Fatalf("tick %d is %v, want %v", i, tick.At, want)
		}
	}
	// Years of ticks cost no more than the bounds say.
	cron.NextFromPrevious = false
	d := cron.Decide(state, now.AddDate(20, 0, 0))
	if len(d.Due) != 1 || d.Skipped.Count != scheduler.MaxCount || !d.Due[0].At.Equal(now.AddDate(20, 0, 0)) {
		t.Errorf("after 20 years: %s, want the newest tick and a count that stops", show(d))
	}
}

func TestDecideNewSchedule(t *testing.T) {
	t.Parallel()
	cron := scheduler.Cron{Name: "job", Schedule: scheduler.MustParse("0 3 * * *"), NextFromPrevious: true}
	old := cron.Decide(scheduler.State{}, clock(t, "02:00"))
	fired := cron.Decide(old.State, clock(t, "03:00"))
	cron.Schedule = scheduler.MustParse("0 * * * *")
	d := cron.Decide(fired.State, clock(t, "10:30"))
	if got := show(d); got != "wake 11:00" || !d.Changed {
		t.Errorf("after a new schedule: %s, changed %v, want wake 11:00: its earlier ticks were never promised", got, d.Changed)
	}
	if again := cron.Decide(d.State, clock(t, "10:30")); again.Changed {
		t.Error("a new schedule is noticed twice")
	}
	if back := cron.Decide(fired.State, clock(t, "02:30")); !back.State.Last.Equal(clock(t, "03:00")) || back.Ahead != 30*time.Minute {
		t.Errorf("new schedule while the clock is set back: Last = %v, want it to stay", back.State.Last)
	}
	zoned := cron
	zoned.Schedule = cron.Schedule.In(zone(t, "Asia/Kolkata"))
	if d := zoned.Decide(d.State, clock(t, "11:45")); len(d.Due) != 0 || !d.Changed {
		t.Errorf("after a new zone: %s, want nothing yet", show(d))
	}
	fired.State.Schedule = "" // a store that keeps the tick alone
	if got := show(cron.Decide(fired.State, clock(t, "05:30"))); got != "fire 04:00 05:00 wake 06:00" {
		t.Errorf("without the schedule in the state: %s, want its ticks since the last", got)
	}
}

func TestJitterIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	cron := scheduler.Cron{Name: "job", Schedule: scheduler.MustParse("*/10 * * * *"), Jitter: time.Minute}
	other := cron
	other.Name = "other"
	state := scheduler.State{Last: clock(t, "09:00")}
	d := cron.Decide(state, clock(t, "09:00"))
	delay := d.Wake.Sub(clock(t, "09:10"))
	if delay != 20688054309 {
		t.Errorf("delay is %d, pinned 20688054309: runners of different versions would fire at different times", delay)
	}
	if o := other.Decide(state, clock(t, "09:00")); o.Wake.Equal(d.Wake) {
		t.Error("two jobs have the same jitter")
	}
	if early := cron.Decide(state, d.Wake.Add(-1)); len(early.Due) != 0 || !early.Wake.Equal(d.Wake) {
		t.Errorf("just before it is due: %s", show(early))
	}
	fire := cron.Decide(state, d.Wake)
	if len(fire.Due) != 1 || !fire.Due[0].At.Equal(clock(t, "09:10")) || !fire.Due[0].Due.Equal(d.Wake) || fire.Due[0].Key != "job@2026-03-10T09:10:00Z" {
		t.Errorf("when it is due: %+v", fire.Due)
	}
	if !fire.State.Last.Equal(clock(t, "09:10")) {
		t.Errorf("Last = %v, want the tick by the schedule", fire.State.Last)
	}

	cron.Jitter = 24 * time.Hour // more than the distance of ticks: the order stays
	var least, most time.Duration = time.Hour, 0
	last := time.Time{}
	cron.NextFromPrevious = true
	for now := clock(t, "10:00"); now.Before(clock(t, "2026-03-13 10:00")); {
		d := cron.Decide(state, now)
		for _, tick := range d.Due {
			if !tick.At.After(last) || tick.Due.Before(tick.At) || tick.Due.Sub(tick.At) >= 10*time.Minute {
				t.Fatalf("tick %v is due at %v, after %v", tick.At, tick.Due, last)
			}
			last = tick.At
			least, most = min(least, tick.Due.Sub(tick.At)), max(most, tick.Due.Sub(tick.At))
		}
		state, now = d.State, d.Wake
	}
	if least > time.Minute || most < 9*time.Minute {
		t.Errorf("delays are from %v to %v, want them spread over 10 minutes", least, most)
	}
}

// TestDecideProperties runs crons through random times, outages and clock
// changes, and compares with the list of all ticks.
func TestDecideProperties(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(9, 10))
	exprs := []string{"*/5 * * * *", "0 */2 * * *", "@every 7m", "*/13 1-5 * * *", "30 2 * * *", "0 0 * * MON"}
	rounds := 150
	if testing.Short() || raceEnabled {
		rounds = 30
	}
	for round := range rounds {
		cron := scheduler.Cron{
			Name:     fmt.Sprint("job-", round),
			Schedule: scheduler.MustParse(exprs[rnd.IntN(len(exprs))]).In(zone(t, []string{"UTC", "Europe/Berlin", "Australia/Lord_Howe"}[rnd.IntN(3)])),
			Jitter:   time.Duration(rnd.IntN(2)) * time.Duration(rnd.IntN(600)) * time.Second, NextFromPrevious: rnd.IntN(2) == 0,
		}
		if rnd.IntN(2) == 0 {
			cron.SkipIfOlderThan = time.Duration(1+rnd.IntN(100)) * time.Minute
		}
		if cron.NextFromPrevious && rnd.IntN(2) == 0 {
			cron.CatchUp = 1 + rnd.IntN(5)
		}
		start := time.Date(2026, time.Month(3+7*rnd.IntN(2)), 24, rnd.IntN(24), rnd.IntN(60), 0, 0, time.UTC)
		state := cron.Decide(scheduler.State{}, start).State
		now, highest := start, start
		decided := map[time.Time]string{}
		newest := start
		for range 200 {
			d := cron.Decide(state, now)
			if len(d.Due) > 1 && !cron.NextFromPrevious {
				t.Fatalf("%+v: %s: several ticks without NextFromPrevious", cron, show(d))
			}
			if cron.CatchUp > 0 && len(d.Due) > cron.CatchUp {
				t.Fatalf("%+v: %s: more ticks than CatchUp", cron, show(d))
			}
			mark := func(tick time.Time, what string) {
				if !tick.After(newest) || decided[tick.UTC()] != "" {
					t.Fatalf("%+v: tick %v %s after %v: ticks are decided once and in order", cron, tick, what, newest)
				}
				decided[tick.UTC()], newest = what, tick
			}
			for tick := d.Skipped.First; d.Skipped.Count > 0 && !tick.After(d.Skipped.Last); tick, _ = cron.Schedule.Next(tick) {
				mark(tick, "skipped")
			}
			for _, tick := range d.Due {
				if tick.Due.After(now) {
					t.Fatalf("%+v: tick %v fires at %v, before it is due", cron, tick, now)
				}
				if cron.SkipIfOlderThan > 0 && now.Sub(tick.Due) > cron.SkipIfOlderThan {
					t.Fatalf("%+v: tick %v fires at %v, too late", cron, tick, now)
				}
				mark(tick.At, "fired")
			}
			if d.Skipped.Count > 0 && cron.NextFromPrevious && cron.CatchUp == 0 && now.Sub(d.Skipped.Last) <= cron.SkipIfOlderThan {
				t.Fatalf("%+v: %s at %v: a tick was skipped that is not too old", cron, show(d), now)
			}
			state = d.State
			if again := cron.Decide(state, now); again.Changed && !d.Wake.Equal(now) {
				t.Fatalf("%+v: deciding twice at %v changes something: %s", cron, now, show(again))
			}
			if now.After(highest) {
				highest = now
			}
			switch rnd.IntN(12) {
			case 0:
				now = now.Add(-time.Duration(rnd.IntN(7200)) * time.Second)
			case 1, 2:
				now = now.Add(time.Duration(rnd.IntN(30_000)) * time.Second)
			default: // wake a little late, as timers do
				now = d.Wake.Add(time.Duration(rnd.IntN(90)) * time.Second)
			}
		}
		// Every tick up to the last one has been decided.
		n := 0
		for tick, _ := cron.Schedule.Next(start); !tick.After(newest); tick, _ = cron.Schedule.Next(tick) {
			n++
			if decided[tick.UTC()] == "" {
				t.Fatalf("%+v: tick %v was lost", cron, tick)
			}
		}
		if n != len(decided) {
			t.Fatalf("%+v: %d ticks decided, schedule has %d", cron, len(decided), n)
		}
		// And the last one is as new as it can be.
		if next, _ := cron.Schedule.Next(newest); highest.Sub(next) > cron.Jitter {
			t.Fatalf("%+v: decided at %v, but tick %v was left", cron, highest, next)
		}
	}
}

func TestCronValidate(t *testing.T) {
	t.Parallel()
	good := scheduler.Cron{Name: "job", Schedule: scheduler.MustParse("@daily")}
	if err := good.Validate(); err != nil {
		t.Errorf("Validate() = %v", err)
	}
	bad := scheduler.Cron{SkipIfOlderThan: -1, CatchUp: -1, Jitter: -1}
	err := bad.Validate()
	for _, want := range []string{`cron ""`, "Name is empty", "Schedule is empty", "SkipIfOlderThan is -1ns", "CatchUp is -1", "Jitter is -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want %q in it", err, want)
		}
	}
	good.CatchUp = 3
	if err := good.Validate(); err == nil || !strings.Contains(err.Error(), "NextFromPrevious") {
		t.Errorf("Validate() = %v, want CatchUp refused without NextFromPrevious", err)
	}
	if d := (scheduler.Cron{}).Decide(scheduler.State{}, epoch); !d.Wake.IsZero() || len(d.Due) != 0 {
		t.Errorf("a cron without a schedule decides %s", show(d))
	}
}

func BenchmarkDecide(b *testing.B) {
	cron := scheduler.Cron{Name: "job", Schedule: scheduler.MustParse("*/5 * * * *").In(zone(b, "Europe/Berlin")), Jitter: time.Second}
	state := cron.Decide(scheduler.State{}, epoch).State
	b.ReportAllocs()
	for b.Loop() {
		cron.Decide(state, epoch)
	}
}
