package runner

import (
	"context"
	"sync"
	"time"

	"github.com/cruster-go/cruster/storage"
)

// alarms wakes what storage has scheduled: messages with a delivery time and
// suspended executions. Memory holds the next due time alone, however many
// timers there are; a fire reads what has become due since the last one, in
// pages. What it has woken may stay due for a while: it is not woken again.
type alarms struct {
	r *Runner

	mu   sync.Mutex
	next time.Time // zero: nothing is known to be scheduled
	seen time.Time // what is due up to here was woken; zero: nothing was
	poke chan struct{}

	full time.Time // when all that is due was read last; of the loop
}

// rescan is how often a fire reads all that is due, also what was woken before.
const rescan = time.Minute

// coalesce is how long a fire waits for others that are due at about the same
// time.
const coalesce = 2 * time.Millisecond

func newAlarms(r *Runner) *alarms { return &alarms{r: r, poke: make(chan struct{}, 1)} }

// at tells that something has been scheduled for t.
func (a *alarms) at(t time.Time) {
	a.mu.Lock()
	earlier := a.next.IsZero() || t.Before(a.next)
	if earlier {
		a.next = t
	}
	if !t.After(a.seen) {
		a.seen = t.Add(-time.Microsecond) // storage may round it down by less
	}
	a.mu.Unlock()
	if earlier {
		select {
		case a.poke <- struct{}{}:
		default:
		}
	}
}

// reload makes the loop read what is scheduled: there are new shards.
func (a *alarms) reload() {
	a.forget()
	a.at(time.Now())
}

// forget makes the next fire read all that is due.
func (a *alarms) forget() {
	a.mu.Lock()
	a.seen = time.Time{}
	a.mu.Unlock()
}

// WakeAt makes the runner fire what storage has scheduled for t when t comes.
func (r *Runner) WakeAt(t time.Time) { r.alarms.at(t) }

func (a *alarms) run(ctx context.Context) {
	timer := time.NewTimer(0) // what became due while nobody was up
	defer timer.Stop()
	for {
		select {
		case <-a.poke:
			a.mu.Lock()
			next := a.next
			a.mu.Unlock()
			timer.Reset(pauseUntil(next))
			continue
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		wait, err := a.fire(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			a.r.cfg.Logger.WarnContext(ctx, "timers cannot be read, trying again", "error", err)
			a.forget()
			wait = a.until(time.Now().Add(time.Second))
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// fire wakes what is due and returns how long it is until the next, 0 when
// nothing is scheduled.
func (a *alarms) fire(ctx context.Context) (time.Duration, error) {
	now := time.Now()
	a.mu.Lock()
	a.next = time.Time{} // from here on at() compares with nothing
	seen := a.seen
	a.seen = now
	a.mu.Unlock()
	if now.Before(seen) || now.Sub(a.full) >= rescan { // the clock was set back, or it is time
		seen = time.Time{}
	}
	if seen.IsZero() {
		a.full = now
	}
	q := storage.TimerQuery{Shards: a.r.shards(), After: seen, Until: now, Limit: pageSize}
	messages := false
	for {
		due, cursor, err := a.r.cfg.Store.Timers(ctx, q)
		if err != nil {
			return 0, err
		}
		for _, t := range due {
			if !t.Message.IsZero() {
				messages = true
			} else if a.r.cfg.Wake != nil {
				a.r.cfg.Wake(t.Execution)
			}
		}
		if cursor == "" {
			break
		}
		q.Cursor = cursor
	}
	if messages {
		a.r.NudgeAdopt()
	}
	next, _, err := a.r.cfg.Store.Timers(ctx, storage.TimerQuery{Shards: q.Shards, After: now, Until: now.AddDate(1000, 0, 0), Limit: 1})
	if err != nil {
		return 0, err
	}
	if len(next) == 0 {
		return a.until(time.Time{}), nil
	}
	return a.until(next[0].At), nil
}

// until takes t, if it is not zero, for the next due time unless an earlier one
// is known, and returns how long it is until then; 0: nothing is scheduled.
func (a *alarms) until(t time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !t.IsZero() && (a.next.IsZero() || t.Before(a.next)) {
		a.next = t
	}
	if a.next.IsZero() {
		return 0
	}
	return pauseUntil(a.next)
}

// longestPause bounds how late an alarm is after the wall clock was set, or the
// machine was asleep.
const longestPause = time.Hour

// pauseUntil returns how long to wait for t.
func pauseUntil(t time.Time) time.Duration {
	return max(min(time.Until(t), longestPause)+coalesce, time.Nanosecond)
}

// after calls f on a goroutine of the runner after d, or never when the runner
// stops before.
func (r *Runner) after(d time.Duration, f func()) {
	if d <= 0 {
		f()
		return
	}
	r.pool.spawn(func() {
		if sleep(r.life, d) == nil {
			f()
		}
	})
}
