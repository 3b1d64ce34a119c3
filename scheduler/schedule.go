package scheduler

import (
	"fmt"
	"time"
)

// The years in which schedules fire.
const (
	MinYear = 1970
	MaxYear = 2199
)

// Schedule is a parsed cron expression in a time zone: a set of points in time,
// all at whole seconds. [Parse] makes one. The zero value never fires.
//
// # Expression
//
// Five fields are minute, hour, day of month, month and day of week; six begin
// with the second; seven begin with the second and end with the year. Without
// them the second is 0 and the year is any.
//
//	field         values              names
//	second        0-59
//	minute        0-59
//	hour          0-23
//	day of month  1-31
//	month         1-12                JAN-DEC
//	day of week   0-7 (0, 7: Sunday)  SUN-SAT
//	year          1970-2199
//
// A field is a list, separated by commas, of:
//
//   - every value; in the two day fields also ?
//     5       one value, or its name in capitals or not
//     1-5     a range; the end may not come before the start, but SUN ends a week
//     */15    every 15th value from the lowest on
//     10/15   every 15th value from 10 to the highest (in day of week: Saturday)
//     1-9/2   every second value of a range
//
// A time must match every field, day of month and day of week both: "0 0 13 *
// FRI" is Friday the 13th. L, W and # are not supported.
//
// The short forms @yearly (@annually), @monthly, @weekly (Sunday), @daily
// (@midnight) and @hourly fire at the beginning of what they name. "@every
// 90s" fires at the Unix times that are multiples of 90 seconds, so that all
// runners agree on its ticks; the duration is one of [time.ParseDuration], in
// whole seconds, at most 366 days. The time zone does not matter to it.
//
// # Daylight saving time
//
// An expression with all 24 hours follows the clock on the wall: what the clock
// skips does not fire, and what it shows twice fires twice. So "*/5 * * * *"
// fires every five minutes of real time, whatever the clock does.
//
// With fewer hours every fire happens once. One at a time that the clock skips
// happens at the first moment after the gap, and several in the same gap happen
// together, as one. One at a time that the clock shows twice happens the first
// time. So "30 2 * * *" fires once each day of the year.
//
// A Schedule is a value; any number of goroutines may use it.
type Schedule struct {
	set   fields
	every int64 // seconds; 0: set counts
	loc   *time.Location
}

// Parse reads a cron expression; its times are in UTC. Every error is a
// [*SyntaxError]. An expression that no date can match, such as February 30, is
// one.
func Parse(expr string) (Schedule, error) { return ParseIn(expr, time.UTC) }

// ParseIn is Parse for times in loc. nil means UTC. [time.Local] is accepted,
// but runners may differ in it.
func ParseIn(expr string, loc *time.Location) (Schedule, error) {
	s, err := parse(expr)
	if err != nil {
		return Schedule{}, err
	}
	return s.In(loc), nil
}

// MustParse is Parse for expressions in source code: it panics when expr is
// wrong.
func MustParse(expr string) Schedule {
	s, err := Parse(expr)
	if err != nil {
		panic(err) //nolint:forbidigo // a Must function is for constants
	}
	return s
}

// In returns the same expression for times in loc. nil means UTC.
func (s Schedule) In(loc *time.Location) Schedule {
	if loc == nil {
		loc = time.UTC
	}
	s.loc = loc
	return s
}

// Location returns the time zone of the schedule.
func (s Schedule) Location() *time.Location {
	if s.loc == nil {
		return time.UTC
	}
	return s.loc
}

// IsZero reports whether the schedule is the zero value, which never fires.
func (s Schedule) IsZero() bool { return s.every == 0 && s.set == fields{} }

// Equal reports whether both fire at the same times, for the same expression
// and zone, however they were written.
func (s Schedule) Equal(t Schedule) bool {
	return s.set == t.set && s.every == t.every && s.Location().String() == t.Location().String()
}

// Next returns the first fire after the given time, in the zone of the
// schedule. It reports false when there is none in the years [MinYear] to
// [MaxYear] or in those of the year field.
//
// The cost does not depend on how far away the fire is, save for schedules
// that fire less than once a year: those take some microseconds more.
func (s Schedule) Next(after time.Time) (time.Time, bool) {
	t, ok := s.next(min(after.Unix(), maxInstant) + 1) // Unix rounds down
	return s.at(t, ok)
}

// Prev returns the last fire before the given time; otherwise it is as Next.
func (s Schedule) Prev(before time.Time) (time.Time, bool) {
	t := max(before.Unix(), minInstant)
	if before.Nanosecond() == 0 {
		t--
	}
	t, ok := s.prev(t)
	return s.at(t, ok)
}

func (s Schedule) at(unix int64, ok bool) (time.Time, bool) {
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(unix, 0).In(s.Location()), true
}

// SyntaxError says what is wrong with a cron expression, and where.
type SyntaxError struct {
	Expr   string // the expression
	Field  int    // position of the field, from 1; 0: the expression as a whole
	Name   string // name of the field, such as "day of month"
	Text   string // text of the field
	Reason string // what is wrong and what is allowed
}

// Error returns the text for people: expression, field and reason.
func (e *SyntaxError) Error() string {
	if e.Field == 0 {
		return fmt.Sprintf("cron expression %q: %s", e.Expr, e.Reason)
	}
	return fmt.Sprintf("cron expression %q: field %d (%s) is %q: %s", e.Expr, e.Field, e.Name, e.Text, e.Reason)
}
