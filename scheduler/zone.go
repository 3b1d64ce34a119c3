package scheduler

import (
	"math"
	"time"
)

// slack is more than the time on a wall can be ahead of or behind that of
// another place, and more than any zone has ever skipped or repeated.
const slack = 2 * day

// Instants in which a schedule may fire somewhere, as Unix seconds.
var (
	minInstant = int64(-slack)
	maxInstant = daysOf(MaxYear+1, 1, 1)*day + slack
)

// span is a time during which a zone has one offset from UTC.
type span struct {
	start, end int64 // Unix seconds, end excluded; math.MinInt64, math.MaxInt64: open
	offset     int64 // seconds east of UTC
	before     int64 // offset before start
}

func (s *Schedule) spanAt(unix int64) span {
	if s.loc == nil || s.loc == time.UTC {
		return span{start: math.MinInt64, end: math.MaxInt64}
	}
	t := time.Unix(unix, 0).In(s.loc)
	_, offset := t.Zone()
	z := span{start: math.MinInt64, end: math.MaxInt64, offset: int64(offset), before: int64(offset)}
	start, end := t.ZoneBounds()
	if !start.IsZero() {
		z.start = start.Unix()
		_, before := start.Add(-time.Second).Zone()
		z.before = int64(before)
	}
	if !end.IsZero() {
		z.end = end.Unix()
	}
	// Beyond its table of clock changes, package time ends the last span of each
	// year after 365 days, so on the last day of a leap year the end has passed.
	// No rule changes a clock during that day.
	if z.end <= unix {
		z.end = unix - unix%day + day
	}
	return z
}

// fresh returns the first time on the wall in z that z.start has not shown
// before.
func (z span) fresh() int64 { return z.start + max(z.offset, z.before) }

// gapFires reports whether a fire falls into what the clock skipped at z.start.
func (s *Schedule) gapFires(z span) bool {
	if z.before >= z.offset {
		return false
	}
	wall, ok := s.set.next(z.start + z.before)
	return ok && wall < z.start+z.offset
}

// next returns the first fire at unix or after.
func (s *Schedule) next(unix int64) (int64, bool) {
	unix = max(unix, minInstant)
	if s.every > 0 {
		n := (max(unix, 0) + s.every - 1) / s.every * s.every
		return n, n <= maxInstant-slack-1
	}
	once := !s.set.everyHour()
	for unix <= maxInstant {
		z := s.spanAt(unix)
		from := unix + z.offset
		if once && z.start != math.MinInt64 {
			if z.start == unix && s.gapFires(z) {
				return unix, true
			}
			from = max(from, z.fresh())
		}
		wall, ok := s.set.next(from)
		if z.end == math.MaxInt64 {
			return wall - z.offset, ok
		}
		if ok && wall < z.end+z.offset {
			return wall - z.offset, true
		}
		// Not in this span. Nothing later fires for a time on the wall before
		// from-slack, so spans that end before the next such time are skipped.
		wall, ok = s.set.next(from - slack)
		if !ok {
			return 0, false
		}
		unix = max(z.end, wall-slack)
	}
	return 0, false
}

// prev returns the last fire at unix or before.
func (s *Schedule) prev(unix int64) (int64, bool) {
	unix = min(unix, maxInstant)
	if s.every > 0 {
		if unix < 0 {
			return 0, false
		}
		return min(unix, maxInstant-slack-1) / s.every * s.every, true
	}
	once := !s.set.everyHour()
	for unix >= minInstant {
		z := s.spanAt(unix)
		wall, ok := s.set.prev(unix + z.offset)
		if z.start == math.MinInt64 {
			return wall - z.offset, ok
		}
		lowest := z.start + z.offset
		if once {
			lowest = z.fresh()
		}
		if ok && wall >= lowest {
			return wall - z.offset, true
		}
		if once && s.gapFires(z) {
			return z.start, true
		}
		wall, ok = s.set.prev(unix + z.offset + slack)
		if !ok {
			return 0, false
		}
		unix = min(z.start-1, wall+slack)
	}
	return 0, false
}
