package scheduler

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field describes one of the seven fields.
type field struct {
	name     string
	min, max int
	any      bool // takes ?
	names    []string
	first    int // value of names[0]
}

var (
	months   = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	weekdays = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}

	layout = [7]field{
		{name: "second", max: 59},
		{name: "minute", max: 59},
		{name: "hour", max: 23},
		{name: "day of month", min: 1, max: 31, any: true},
		{name: "month", min: 1, max: 12, names: months, first: 1},
		{name: "day of week", max: 6, any: true, names: weekdays},
		{name: "year", min: MinYear, max: MaxYear},
	}
)

const (
	secondField = 0
	minuteField = 1
	dowField    = 5
	yearField   = 6
)

// maxExpr is longer than an expression that lists every value of every field
// but the year.
const maxExpr = 1024

const everyPrefix = "@every"

var shortForms = map[string]string{
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
	"@monthly":  "0 0 1 * *",
	"@weekly":   "0 0 * * 0",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@hourly":   "0 * * * *",
}

func parse(expr string) (Schedule, error) {
	whole := func(format string, args ...any) (Schedule, error) {
		return Schedule{}, &SyntaxError{Expr: clip(expr), Reason: fmt.Sprintf(format, args...)}
	}
	if len(expr) > maxExpr {
		return whole("it has %d bytes: at most %d are allowed", len(expr), maxExpr)
	}
	texts := strings.Fields(expr)
	if len(texts) == 0 {
		return whole(`it is empty: use 5, 6 or 7 fields such as "0 9 * * MON-FRI", or "@daily"`)
	}
	if strings.HasPrefix(texts[0], "@") {
		if strings.EqualFold(texts[0], everyPrefix) {
			return parseEvery(expr, texts[1:])
		}
		long, ok := shortForms[strings.ToLower(texts[0])]
		switch {
		case !ok:
			return whole("%q is unknown: use @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually or @every with a duration", texts[0])
		case len(texts) > 1:
			return whole("%q follows %s, which stands alone", texts[1], texts[0])
		}
		texts = strings.Fields(long)
	}
	if strings.HasPrefix(texts[0], "TZ=") || strings.HasPrefix(texts[0], "CRON_TZ=") {
		return whole("%q is not part of it: give the time zone beside the expression", texts[0])
	}
	first := 0
	switch len(texts) {
	case 5:
		first = minuteField
	case 6, 7:
	default:
		return whole("it has %d fields: use 5 (minute hour day-of-month month day-of-week), 6 (second first) or 7 (second first, year last)", len(texts))
	}
	var sets [7]years // the widest type serves all
	for i := range layout {
		text := "*"
		switch n := i - first; {
		case i == secondField && first > 0:
			text = "0"
		case n < len(texts):
			text = texts[n]
		}
		set, reason := layout[i].parse(text)
		if reason != "" {
			return Schedule{}, &SyntaxError{Expr: expr, Field: i - first + 1, Name: layout[i].name, Text: text, Reason: reason}
		}
		sets[i] = set
	}
	s := Schedule{set: fields{
		second: sets[0][0], minute: sets[1][0], hour: sets[2][0],
		dom: sets[3][0], month: sets[4][0], dow: sets[5][0], year: sets[6],
	}}
	if _, ok := s.set.next(0); !ok {
		return whole("%s", impossible(&s.set))
	}
	return s, nil
}

// impossible says why no date matches f.
func impossible(f *fields) string {
	longest, which := 0, ""
	for m := 1; m <= 12; m++ {
		if f.month>>m&1 == 0 {
			continue
		}
		if n := monthLen(2000, m); n > longest { // a leap year
			longest, which = n, time.Month(m).String()
		}
	}
	if first := bits.TrailingZeros64(f.dom); first > longest {
		return fmt.Sprintf("it can never fire: %s has no day %d", which, first)
	}
	return fmt.Sprintf("it can never fire: no date from %d to %d matches day of month, month, day of week and year", MinYear, MaxYear)
}

// maxEvery is a leap year; longer cycles are better said with a calendar.
const maxEvery = 366 * 24 * time.Hour

func parseEvery(expr string, args []string) (Schedule, error) {
	refuse := func(text, format string, a ...any) (Schedule, error) {
		return Schedule{}, &SyntaxError{Expr: expr, Field: 2, Name: "duration", Text: text, Reason: fmt.Sprintf(format, a...)}
	}
	if len(args) != 1 {
		return refuse(strings.Join(args, " "), `use one duration after @every, such as "@every 90s"`)
	}
	d, err := time.ParseDuration(args[0])
	switch {
	case err != nil:
		return refuse(args[0], "it is not a duration: use hours, minutes and seconds such as 90s or 1h30m")
	case d < time.Second || d > maxEvery:
		return refuse(args[0], "it is out of range: use 1s to %dh", int(maxEvery.Hours()))
	case d%time.Second != 0:
		return refuse(args[0], "it is not a number of whole seconds: ticks are at whole seconds")
	}
	return Schedule{every: int64(d / time.Second)}, nil
}

// parse returns the values of a field, or what is wrong with it. A set of years
// counts from MinYear, any other from 0.
func (f *field) parse(text string) (set years, reason string) {
	for item := range strings.SplitSeq(text, ",") {
		from, to, step, reason := f.item(item)
		if reason != "" {
			return set, reason
		}
		for v := from; v <= to; v += step {
			switch {
			case f.max > 63:
				set.add(v)
			case f.name == layout[dowField].name:
				set[0] |= 1 << (v % 7)
			default:
				set[0] |= 1 << v
			}
		}
	}
	return set, ""
}

// item reads one element of a list.
func (f *field) item(item string) (from, to, step int, reason string) {
	fail := func(format string, args ...any) (int, int, int, string) {
		return 0, 0, 0, fmt.Sprintf(format, args...)
	}
	if item == "" {
		return fail("an element of the list is empty: put a value on both sides of each comma")
	}
	span, every, stepped := strings.Cut(item, "/")
	step = 1
	if stepped {
		n, ok := number(every)
		if !ok {
			return fail("%q is not a step: use a number from 1 to %d after the slash", every, f.max-f.min)
		}
		if n < 1 || n > f.max-f.min {
			return fail("step %d is out of range: use 1 to %d", n, f.max-f.min)
		}
		step = n
	}
	low, high, ranged := strings.Cut(span, "-")
	if span == "*" || span == "?" {
		if span == "?" && !f.any {
			return fail("? is for the day fields only: use *")
		}
		return f.min, f.max, step, ""
	}
	from, reason = f.value(low)
	if reason != "" {
		return 0, 0, 0, reason
	}
	switch {
	case ranged:
		to, reason = f.value(high)
		if reason != "" {
			return 0, 0, 0, reason
		}
		if strings.EqualFold(high, "SUN") && from > 0 {
			to = 7 // at the end of a range, it ends a week
		}
	case stepped:
		to = max(f.max, from)
	default:
		to = from
	}
	if from > to {
		split := fmt.Sprintf("%s-%d,%d-%s", low, f.max, f.min, high)
		if f.name == layout[dowField].name && to == 0 {
			split = low + "-7"
		}
		return fail("range %s runs backwards: ranges do not wrap around, write %s", span, split)
	}
	return from, to, step, ""
}

// quartz holds what other schedulers know, alone or after a number.
var quartz = []string{"L", "W", "LW"}

// value reads a number or a name.
func (f *field) value(text string) (v int, reason string) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.first + i, ""
		}
	}
	highest := f.max
	if f.name == layout[dowField].name {
		highest = 7
	}
	allowed := fmt.Sprintf("%d-%d", f.min, highest)
	if len(f.names) > 0 {
		allowed += fmt.Sprintf(" or %s-%s", f.names[0], f.names[len(f.names)-1])
	}
	v, ok := number(text)
	switch {
	case !ok && text == "":
		return 0, fmt.Sprintf("a value is missing: use %s", allowed)
	case !ok && (strings.Contains(text, "#") || slices.Contains(quartz, strings.ToUpper(strings.TrimLeft(text, "0123456789")))):
		return 0, fmt.Sprintf("%q is not supported, as L, W and # are not: use %s", text, allowed)
	case !ok:
		return 0, fmt.Sprintf("%q is not a value: use %s", text, allowed)
	case v < f.min || v > highest:
		return 0, fmt.Sprintf("%d is out of range: use %s", v, allowed)
	}
	return v, ""
}

// number reads up to six decimal digits and nothing else.
func number(text string) (int, bool) {
	if text == "" || len(text) > 6 || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// clip keeps an error about a huge expression short.
func clip(expr string) string {
	if len(expr) > maxExpr {
		return expr[:64] + "..."
	}
	return expr
}
