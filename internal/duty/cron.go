package duty

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/mailbox"
	"github.com/cruster-go/cruster/scheduler"
	"github.com/cruster-go/cruster/storage"
)

const (
	cronMethod = "Fire"
	cronEntity = "cron"
)

// CronType returns the entity type that runs the ticks of a cron.
func CronType(name string) string { return cronEntity + "." + name }

// CronParams are the settings of a cron.
type CronParams struct {
	Name, Group      string
	Schedule         scheduler.Schedule
	Zone             *time.Location
	Run              func(ctx context.Context, tick time.Time) error
	Parallel         bool // ticks run at the same time
	Waiting          bool // one tick may wait for the one that runs
	NextFromPrevious bool
	SkipIfOlderThan  time.Duration
}

// Cron is a hidden entity that runs the ticks, and a loop that sends it one when
// it is due.
type Cron struct {
	CronParams
	h   Host
	typ *runner.EntityType
	row crustertype.Schedule
}

// NewCron returns a cron. Register its Type with the runner, then run Loop.
func NewCron(h Host, p CronParams) *Cron {
	c := &Cron{CronParams: p, h: h}
	concurrency := 1
	if p.Parallel {
		concurrency = 0
	}
	c.typ = &runner.EntityType{
		Name: CronType(p.Name), Group: p.Group, Options: mailbox.Options{Capacity: h.Capacity, Concurrency: concurrency},
		Methods: map[string]*runner.Method{cronMethod: c.method()},
	}
	return c
}

// Type returns the entity type that runs the ticks.
func (c *Cron) Type() *runner.EntityType { return c.typ }

func (c *Cron) method() *runner.Method {
	return &runner.Method{
		Name: cronMethod, Persisted: true, Protected: true,
		Backoff: scheduler.Policy{Initial: time.Second, Max: time.Minute},
		Decode: func(_ codec.Codec, payload []byte) (any, error) {
			return time.Parse(time.RFC3339Nano, string(payload))
		},
		Invoke: func(ctx context.Context, in any) (any, error) {
			tick := in.(time.Time).In(c.Zone)
			err := c.Run(ctx, tick)
			if err != nil && ctx.Err() == nil {
				c.h.Logger.WarnContext(ctx, "cron failed", "cron", c.Name, "tick", tick, "error", err)
			}
			return nil, err
		},
		Iterate: func(context.Context, any) iter.Seq2[any, error] { return func(func(any, error) bool) {} },
	}
}

// Shard returns the shard whose owner fires the ticks.
func (c *Cron) Shard() crustertype.Shard { return c.h.Run.ShardOf(c.Group, cronEntity) }

// Loop fires ticks while the runner owns the cron's shard.
func (c *Cron) Loop(life, kill context.Context) {
	c.row = crustertype.Schedule{} // others may have fired meanwhile
	for life.Err() == nil {
		wait, err := c.step(kill)
		if err != nil && life.Err() == nil {
			c.h.Logger.Warn("cron cannot fire, trying again", "cron", c.Name, "error", err)
			c.row, wait = crustertype.Schedule{}, time.Second
		}
		if wait < 0 {
			return // the schedule has ended
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-life.Done():
			t.Stop()
			return
		}
	}
}

// step fires what is due and returns how long it is until the next tick; below
// 0: there is none.
func (c *Cron) step(ctx context.Context) (time.Duration, error) {
	if c.row.Version == 0 {
		row, err := c.h.Store.Schedule(ctx, crustertype.ScheduleCron, c.Name)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			row = crustertype.Schedule{Kind: crustertype.ScheduleCron, Name: c.Name}
		case err != nil:
			return 0, err
		}
		c.row = row
	}
	if c.row.Paused {
		c.row = crustertype.Schedule{} // read it again then
		return time.Minute, nil
	}
	now := time.Now()
	core := scheduler.Cron{Name: c.Name, Schedule: c.Schedule, NextFromPrevious: c.NextFromPrevious, SkipIfOlderThan: c.SkipIfOlderThan}
	d := core.Decide(scheduler.State{Last: c.row.LastTick, Schedule: string(c.row.History)}, now)
	if d.Skipped.Count > 0 {
		c.h.Logger.InfoContext(ctx, "cron skips ticks that were missed", "cron", c.Name, "first", d.Skipped.First, "last", d.Skipped.Last, "count", d.Skipped.Count)
	}
	if d.Changed {
		due := d.Due
		if len(due) == 1 && !c.room() { // several: an outage is made up for, one after the other
			due = nil
		}
		if err := c.commit(ctx, d, due); err != nil {
			return 0, err
		}
	}
	if d.Wake.IsZero() {
		return -1, nil
	}
	return max(0, time.Until(d.Wake)), nil
}

// room reports whether the overlap policy lets another tick begin.
func (c *Cron) room() bool {
	act, err := c.typ.Activate(cronEntity)
	if err != nil {
		return true
	}
	running, waiting := act.Load()
	switch {
	case c.Parallel:
		return true
	case c.Waiting:
		return waiting == 0
	}
	return running+waiting == 0
}

// commit records what was decided and sends the ticks to the entity, in one
// transaction.
func (c *Cron) commit(ctx context.Context, d scheduler.Decision, due []scheduler.Tick) error {
	shard := c.h.Run.ShardOf(c.Group, cronEntity)
	lease, ok := c.h.Run.Lease(shard)
	if !ok {
		return crustertype.ErrNotOwner
	}
	row := c.row
	row.Shard, row.LastTick, row.NextTick, row.UpdatedAt = shard, d.State.Last, d.Wake, time.Now()
	row.History = []byte(d.State.Schedule)
	row.Version++
	unit := storage.Unit{Leases: []crustertype.Lease{lease}, Schedules: []crustertype.Schedule{row}}
	addr := crustertype.Address{Type: c.typ.Name, ID: cronEntity}
	for _, tick := range due {
		// The ID makes the tick one; no Key, so that retention leaves nothing.
		unit.Accepts = append(unit.Accepts, crustertype.Message{
			ID: crustertype.KeyedRequestID(addr, cronMethod, tick.Key), Shard: shard, Address: addr, Method: cronMethod, Codec: c.h.Codec,
			Payload: []byte(tick.At.UTC().Format(time.RFC3339Nano)), State: crustertype.MessagePending, CreatedAt: row.UpdatedAt,
		})
	}
	done := make(chan error, 1)
	c.h.Run.Send(unit, func(_ storage.Result, err error) { done <- err })
	select {
	case err := <-done:
		if err == nil {
			c.row = row
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
