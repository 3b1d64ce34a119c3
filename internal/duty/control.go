package duty

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/scheduler"
	"github.com/cruster-go/cruster/storage"
)

// controlTries is how often a change of a schedule is tried that another writer
// gets ahead of.
const controlTries = 20

// SetPaused pauses or resumes a cron, from any runner.
func (c *Cron) SetPaused(ctx context.Context, paused bool) error {
	for range controlTries {
		row, err := c.h.Store.Schedule(ctx, crustertype.ScheduleCron, c.Name)
		if errors.Is(err, storage.ErrNotFound) { // it has not come to its first look
			row, err = crustertype.Schedule{Kind: crustertype.ScheduleCron, Name: c.Name, Shard: c.Shard()}, nil
		}
		if err != nil {
			return crustertype.Errorf(crustertype.CodeUnavailable, "cron %q: read its state: %w", c.Name, err)
		}
		if row.Paused == paused {
			return nil
		}
		row.Paused, row.UpdatedAt = paused, time.Now()
		if !paused && !row.LastTick.IsZero() {
			row.LastTick = row.UpdatedAt // what came due meanwhile was not missed: it was paused
		}
		row.Version++
		_, err = c.h.Store.Commit(ctx, []storage.Unit{{Schedules: []crustertype.Schedule{row}}})
		switch {
		case errors.Is(err, storage.ErrConflict):
			continue
		case err != nil:
			return crustertype.Errorf(crustertype.CodeUnavailable, "cron %q: write its state: %w", c.Name, err)
		}
		return nil
	}
	return crustertype.Errorf(crustertype.CodeUnavailable, "cron %q: others change its state all the time: try again", c.Name)
}

// Now returns what runs the cron once, outside of its schedule.
func (c *Cron) Now() (storage.Unit, error) {
	now := time.Now()
	key := "now-" + crustertype.NewRequestID().String()
	if c.Body != nil {
		return c.Body(scheduler.Tick{At: now.In(c.Zone), Due: now, Key: c.Name + "@" + key})
	}
	return storage.Unit{Accepts: []crustertype.Message{c.message(key, now)}}, nil
}

// Status is how a cron stands.
type Status struct {
	Name     string
	Schedule string // as it was given
	Describe string // in English
	Paused   bool
	Last     time.Time   // the newest tick that was decided; zero: none
	Next     []time.Time // the next five ticks; none while it is paused
}

// Status returns how the cron stands.
func (c *Cron) Status(ctx context.Context) (Status, error) {
	s := Status{Name: c.Name, Schedule: c.Schedule.String(), Describe: c.Schedule.Describe()}
	row, err := c.h.Store.Schedule(ctx, crustertype.ScheduleCron, c.Name)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return s, crustertype.Errorf(crustertype.CodeUnavailable, "cron %q: read its state: %w", c.Name, err)
	}
	s.Paused, s.Last = row.Paused, row.LastTick
	from := time.Now()
	for len(s.Next) < 5 && !s.Paused {
		next, ok := c.Schedule.Next(from)
		if !ok {
			break
		}
		s.Next = append(s.Next, next)
		from = next
	}
	return s, nil
}

// Fire is one run of a cron's function.
type Fire struct {
	Tick     time.Time // zero when retention has taken it
	Accepted time.Time
	Finished time.Time // zero: it waits or runs
	Attempts int
	Err      string // "": it succeeded, or is not finished
}

// History returns the newest runs of the cron's function, the newest first. What
// a body sent is found at its receiver.
func (c *Cron) History(ctx context.Context, n int) ([]Fire, error) {
	list, _, err := c.h.Store.Messages(ctx, storage.MessageFilter{Type: c.typ.Name, Limit: n})
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeUnavailable, "cron %q: list its runs: %w", c.Name, err)
	}
	fires := make([]Fire, 0, len(list))
	for _, m := range list {
		f := Fire{Accepted: m.CreatedAt, Finished: m.FinishedAt, Attempts: m.Attempts}
		if m.Outcome.Failure != nil {
			f.Err = m.Outcome.Failure.Message
		}
		if full, err := c.h.Store.Message(ctx, m.ID); err == nil {
			f.Tick, _ = time.Parse(time.RFC3339Nano, string(full.Payload)) // zero: retention has taken the payload
		}
		fires = append(fires, f)
	}
	return fires, nil
}
