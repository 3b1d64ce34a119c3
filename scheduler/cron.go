package scheduler

import (
	"errors"
	"fmt"
	"time"
)

// Cron decides when a job fires. It is a value without state of its own: all
// runners that have the same settings decide alike, and what has to survive is
// in [State].
//
// Ticks are the fires of Schedule, never "the last one plus a period", so they
// do not drift. The ticks in question at any moment are those after State.Last
// that are due by now. When the job keeps up that is one tick at a time. After
// an outage, or when the clock was set forward, it is several:
//
//   - By default the newest of them fires, late, and the others are skipped: a
//     job that cleans up has nothing to gain from running five times.
//   - With NextFromPrevious each of them fires, oldest first, as if the next were
//     always computed from the previous.
//   - CatchUp bounds how many fire; the oldest beyond it are skipped.
//   - SkipIfOlderThan skips those which are late by more than that, under either
//     rule. The newest is no exception, so that a nightly job does not run at
//     noon.
//
// A tick that was decided, fired or skipped, is never decided again: when the
// clock is set back, nothing fires until it has passed State.Last again.
type Cron struct {
	// Name is part of the keys of ticks and seeds the jitter.
	Name string
	// Schedule gives the ticks.
	Schedule Schedule
	// NextFromPrevious makes up for every tick that was missed. Default: only
	// for the newest.
	NextFromPrevious bool
	// SkipIfOlderThan is by how much a tick may be late and still fire. Default:
	// 0, by any time.
	SkipIfOlderThan time.Duration
	// CatchUp is how many missed ticks fire at most, the newest ones. It matters
	// only with NextFromPrevious. Default: 0, any number.
	CatchUp int
	// Jitter delays each tick by a time from 0 to less than Jitter, and less
	// than the distance to the next tick. The delay is computed from name and
	// tick, so it is the same on every runner. Default: 0, none.
	Jitter time.Duration
}

// State is what a [Cron] remembers. Store it in the same commit as the ticks of
// the [Decision] it came with: then a crash neither loses nor doubles a tick.
// The zero value is a cron that has never been looked at.
type State struct {
	// Last is the newest tick that was decided or, before the first, the time
	// from which ticks count.
	Last time.Time
	// Schedule tells the schedule by which Last was decided. When it is another
	// one now, ticks count from now on, so a new schedule makes up for nothing.
	// Empty, as where only Last can be stored: this is not checked.
	Schedule string
}

// Tick is one fire of a job.
type Tick struct {
	At  time.Time // the time by the schedule, in its zone
	Due time.Time // At plus the jitter
	Key string    // the same on every runner: "name@2026-01-02T03:04:05Z"
}

// Skipped says which ticks a [Decision] dropped: Count of them in a row, from
// First to Last. Counting ends at [MaxCount]: then there may be more.
type Skipped struct {
	First, Last time.Time
	Count       int
}

// Decision is what a [Cron] wants done. Fire Due in order, store State, and
// decide again at Wake.
type Decision struct {
	// Due are the ticks to fire now, at most [MaxDue]. When more are due, Wake
	// is now.
	Due []Tick
	// Skipped are ticks that will not fire. It comes with the first decision
	// that knows, and is for the log.
	Skipped Skipped
	// State is to be stored if Changed is set.
	State State
	// Changed reports whether State differs from the one that was given.
	Changed bool
	// Wake is when the next tick is due; zero: never, the schedule has ended.
	// It is not after a time at which Decide would do something, unless the
	// clock is set.
	Wake time.Time
	// Ahead is how far the last tick lies in the future, because the clock was
	// set back or ran ahead before. Above 0 the job waits for the clock; above a
	// few hours somebody should know.
	Ahead time.Duration
}

// The bounds that keep one [Decision] small, however long the outage was.
const (
	MaxDue   = 100
	MaxCount = 1000
)

// Decide returns what is to be done at now, given what was remembered. The
// first call with a zero State fires nothing: ticks count from then on.
func (c Cron) Decide(state State, now time.Time) Decision {
	id := c.Schedule.String() + " " + c.Schedule.Location().String()
	other := state.Schedule != "" && state.Schedule != id
	d := Decision{State: State{Last: state.Last, Schedule: id}, Changed: other}
	if (state.Last.IsZero() || other) && now.After(state.Last) {
		d.State.Last = now.Round(0)
		d.Changed = true
	}
	if d.State.Last.After(now) {
		d.Ahead = d.State.Last.Sub(now)
	}

	oldest, ok := c.Schedule.Next(d.State.Last)
	if !ok {
		return d
	}
	if due := c.due(oldest); due.After(now) {
		d.Wake = due
		return d
	}
	d.Changed = true
	newest, _ := c.Schedule.Prev(now.Add(1)) // there is one: oldest
	if c.due(newest).After(now) {
		newest, _ = c.Schedule.Prev(newest)
	}

	first := c.first(oldest, newest, now)
	if first.After(oldest) {
		d.Skipped = c.skipped(oldest, first)
	}
	d.State.Last = newest
	for t := first; !t.After(newest); {
		if len(d.Due) == MaxDue {
			d.State.Last, d.Wake = d.Due[MaxDue-1].At, now
			return d
		}
		d.Due = append(d.Due, Tick{At: t, Due: c.due(t), Key: c.key(t)})
		if t, ok = c.Schedule.Next(t); !ok {
			break
		}
	}
	if next, ok := c.Schedule.Next(newest); ok {
		d.Wake = c.due(next)
	}
	return d
}

// first returns the first of the due ticks that fires, or a time after newest.
func (c Cron) first(oldest, newest, now time.Time) time.Time {
	first := newest
	if c.NextFromPrevious {
		first = oldest
		if c.CatchUp > 0 {
			first = newest
			for range c.CatchUp - 1 {
				t, ok := c.Schedule.Prev(first)
				if !ok || t.Before(oldest) {
					break
				}
				first = t
			}
		}
	}
	if c.SkipIfOlderThan > 0 {
		limit := now.Add(-c.SkipIfOlderThan)
		// A tick is due before the next one, so all before the last tick at
		// limit or before are late, and none after it is.
		if t, ok := c.Schedule.Prev(limit.Add(1)); ok && !t.Before(first) {
			if c.due(t).Before(limit) {
				if t, ok = c.Schedule.Next(t); !ok {
					t = newest.Add(1)
				}
			}
			first = t
		}
	}
	return first
}

func (c Cron) skipped(from, to time.Time) Skipped {
	s := Skipped{First: from, Count: 1}
	s.Last, _ = c.Schedule.Prev(to)
	for t := from; s.Count < MaxCount; s.Count++ {
		t, _ = c.Schedule.Next(t)
		if t.After(s.Last) || t.IsZero() {
			break
		}
	}
	return s
}

// due returns when a tick is to fire.
func (c Cron) due(tick time.Time) time.Time {
	if c.Jitter <= 0 {
		return tick
	}
	most := c.Jitter
	if next, ok := c.Schedule.Next(tick); ok {
		most = min(most, next.Sub(tick))
	}
	// FNV-1a of name and tick, then mixed so that close ticks are far apart.
	h := uint64(14695981039346656037)
	for i := range len(c.Name) {
		h = (h ^ uint64(c.Name[i])) * 1099511628211
	}
	h ^= uint64(tick.Unix())
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	return tick.Add(time.Duration(h % uint64(most)))
}

func (c Cron) key(tick time.Time) string {
	return c.Name + "@" + tick.UTC().Format(time.RFC3339)
}

// Validate reports every setting that cannot be meant. Decide works without it;
// it is for the place where a user writes a cron.
func (c Cron) Validate() error {
	var errs []error
	add := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("cron %q: "+format, append([]any{c.Name}, args...)...))
	}
	if c.Name == "" {
		add("Name is empty: ticks could not be told from those of another job")
	}
	if c.Schedule.IsZero() {
		add("Schedule is empty: parse one with scheduler.Parse")
	}
	if c.SkipIfOlderThan < 0 {
		add("SkipIfOlderThan is %s: use a positive duration, or 0 for any delay", c.SkipIfOlderThan)
	}
	if c.CatchUp < 0 {
		add("CatchUp is %d: use a positive number, or 0 for any", c.CatchUp)
	}
	if c.CatchUp > 0 && !c.NextFromPrevious {
		add("CatchUp is %d, but without NextFromPrevious only the newest tick is made up: set NextFromPrevious or leave CatchUp out", c.CatchUp)
	}
	if c.Jitter < 0 {
		add("Jitter is %s: use a positive duration, or 0 for none", c.Jitter)
	}
	return errors.Join(errs...)
}
