package duty

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
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
	CatchUp          int
	Jitter           time.Duration
	// Body makes what a tick sends, in place of Run: a unit with one request or
	// one start, whose ID is the same whenever it is made for the same tick.
	Body func(tick scheduler.Tick) (storage.Unit, error)
}

// Cron is a hidden entity that runs the ticks, and a loop that sends it one when
// it is due.
type Cron struct {
	CronParams
	h    Host
	typ  *runner.EntityType
	row  crustertype.Schedule
	wake chan struct{} // the row was changed by somebody else
}

// memory is what a cron remembers beside the last tick.
type memory struct {
	Schedule string   `json:"schedule,omitempty"`
	Sent     []string `json:"sent,omitempty"` // of a body: what was sent last, at most two, the newest last
}

func remembered(b []byte) (m memory) {
	if json.Unmarshal(b, &m) != nil { // of a version that kept the schedule alone
		m.Schedule = string(b)
	}
	return m
}

// pausedLook is how often a cron that is paused looks whether it still is, in
// case nobody tells.
const pausedLook = time.Minute

// NewCron returns a cron. Register its Type with the runner, then run Loop.
func NewCron(h Host, p CronParams) *Cron {
	c := &Cron{CronParams: p, h: h, wake: make(chan struct{}, 1)}
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

// Wake makes the loop read what is stored: somebody has changed it.
func (c *Cron) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

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
		case <-c.wake:
			t.Stop()
			c.row = crustertype.Schedule{}
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
		return pausedLook, nil
	}
	now := time.Now()
	core := scheduler.Cron{Name: c.Name, Schedule: c.Schedule, NextFromPrevious: c.NextFromPrevious, SkipIfOlderThan: c.SkipIfOlderThan, CatchUp: c.CatchUp, Jitter: c.Jitter}
	mem := remembered(c.row.History)
	d := core.Decide(scheduler.State{Last: c.row.LastTick, Schedule: mem.Schedule}, now)
	if d.Skipped.Count > 0 {
		c.h.Logger.InfoContext(ctx, "cron skips ticks that were missed", "cron", c.Name, "first", d.Skipped.First, "last", d.Skipped.Last, "count", d.Skipped.Count)
	}
	if d.Changed {
		due := d.Due
		if len(due) == 1 { // several: an outage is made up for, one after the other
			room, err := c.room(ctx, &mem)
			if err != nil {
				return 0, err
			}
			if !room {
				due = nil
			}
		}
		if err := c.commit(ctx, d, due, mem); err != nil {
			return 0, err
		}
	}
	if d.Wake.IsZero() {
		return -1, nil
	}
	return pauseUntil(d.Wake, time.Now().Round(0)), nil // by the wall clock
}

// longestPause bounds how late a tick is after the wall clock was set, or the
// machine was asleep.
const longestPause = time.Minute

// pauseUntil returns how long to wait before looking at the clock again.
func pauseUntil(t, now time.Time) time.Duration {
	return max(0, min(t.Sub(now), longestPause))
}

// room reports whether the overlap policy lets another tick begin.
func (c *Cron) room(ctx context.Context, mem *memory) (bool, error) {
	if c.Parallel {
		return true, nil
	}
	running, waiting := 0, 0
	if c.Body != nil {
		var err error
		if running, err = c.unfinished(ctx, mem); err != nil {
			return false, err
		}
		running, waiting = min(running, 1), max(0, running-1)
	} else if act, err := c.typ.Activate(cronEntity); err == nil {
		running, waiting = act.Load()
	}
	if c.Waiting {
		return waiting == 0, nil
	}
	return running+waiting == 0, nil
}

// commit records what was decided and sends the ticks to the entity, in one
// transaction.
func (c *Cron) commit(ctx context.Context, d scheduler.Decision, due []scheduler.Tick, mem memory) error {
	shard := c.Shard()
	lease, ok := c.h.Run.Lease(shard)
	if !ok {
		return crustertype.ErrNotOwner
	}
	row := c.row
	row.Shard, row.LastTick, row.NextTick, row.UpdatedAt = shard, d.State.Last, d.Wake, time.Now()
	mem.Schedule = d.State.Schedule
	unit := storage.Unit{Leases: []crustertype.Lease{lease}}
	for _, tick := range due {
		if err := c.add(&unit, &mem, tick); err != nil { // a tick that cannot be made is lost, not the job
			c.h.Logger.ErrorContext(ctx, "cron cannot send a tick", "cron", c.Name, "tick", tick.At, "error", err)
		}
	}
	var err error
	if row.History, err = json.Marshal(mem); err != nil {
		return err
	}
	row.Version++
	unit.Schedules = []crustertype.Schedule{row}
	done := make(chan error, 1)
	c.h.Run.Send(unit, func(res storage.Result, err error) {
		if err == nil {
			c.h.Started(unit.Starts, res.Starts)
		}
		done <- err
	})
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

// add adds what a tick sends to a unit.
func (c *Cron) add(unit *storage.Unit, mem *memory, tick scheduler.Tick) error {
	if c.Body == nil {
		unit.Accepts = append(unit.Accepts, c.message(tick.Key, tick.At))
		return nil
	}
	made, err := c.made(tick)
	if err != nil {
		return err
	}
	unit.Accepts, unit.Starts = append(unit.Accepts, made.Accepts...), append(unit.Starts, made.Starts...)
	for _, m := range made.Accepts {
		mem.Sent = append(mem.Sent, m.ID.String())
	}
	for _, x := range made.Starts {
		mem.Sent = append(mem.Sent, x.Type+"/"+x.ID)
	}
	mem.Sent = mem.Sent[max(0, len(mem.Sent)-2):]
	return nil
}

// made calls the body, which is code of the user's.
func (c *Cron) made(tick scheduler.Tick) (u storage.Unit, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = invoke.PanicError(p)
		}
	}()
	return c.Body(tick)
}

// message is the request that makes the cron's own entity run a tick. Its ID
// makes the tick one; it has no Key, so that retention leaves nothing.
func (c *Cron) message(key string, tick time.Time) crustertype.Message {
	addr := crustertype.Address{Type: c.typ.Name, ID: cronEntity}
	return crustertype.Message{
		ID: crustertype.KeyedRequestID(addr, cronMethod, key), Shard: c.Shard(), Address: addr, Method: cronMethod, Codec: c.h.Codec,
		Payload: []byte(tick.UTC().Format(time.RFC3339Nano)), State: crustertype.MessagePending, CreatedAt: time.Now(),
	}
}

// unfinished returns how many of the ticks that a body sent last go on, and
// forgets the others.
func (c *Cron) unfinished(ctx context.Context, mem *memory) (int, error) {
	var open []string
	for _, sent := range mem.Sent {
		busy, err := c.busy(ctx, sent)
		if err != nil {
			return 0, err
		}
		if busy {
			open = append(open, sent)
		}
	}
	mem.Sent = open
	return len(open), nil
}

func (c *Cron) busy(ctx context.Context, sent string) (bool, error) {
	if typ, id, ok := strings.Cut(sent, "/"); ok {
		x, err := c.h.Store.Execution(ctx, crustertype.ExecutionRef{Type: typ, ID: id})
		if errors.Is(err, storage.ErrNotFound) {
			return false, nil
		}
		return err == nil && (x.Status == crustertype.StatusRunning || x.Status == crustertype.StatusSuspended), err
	}
	id, err := crustertype.ParseRequestID(sent)
	if err != nil {
		return false, nil //nolint:nilerr // of another version: it counts as finished
	}
	m, err := c.h.Store.Message(ctx, id)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil && m.State == crustertype.MessagePending, err
}
