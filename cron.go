package cruster

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

// Cron is a job that runs at the ticks of a schedule, on one runner of the
// cluster.
type Cron struct {
	// Name identifies the job in the cluster.
	Name string

	// Schedule has 5, 6 or 7 fields, seconds first and the year last when there
	// are more than 5, or is one of @hourly, @daily, @every 90s and so on; see
	// [scheduler.Parse].
	Schedule string

	// Run does the work of one tick. It is run like a persisted method: at least
	// once, again after a crash or a panic, with [Tx] for effects that happen
	// exactly once. An error is logged, and the job waits for its next tick.
	Run func(ctx context.Context, tick time.Time) error

	// TimeZone is where the schedule's clock hangs. Default: UTC.
	TimeZone *time.Location

	// NextFromPrevious makes up for every tick that was missed while no runner
	// was up, in order. By default only the newest missed one is run.
	NextFromPrevious bool

	// SkipIfOlderThan drops ticks that are late by more. Default: none is
	// dropped.
	SkipIfOlderThan time.Duration

	// Overlap says what happens at a tick while an earlier one still runs.
	// Default: [OverlapQueueOne].
	Overlap Overlap

	// ShardGroup places the job. Default: the default group.
	ShardGroup string
}

// Overlap says what a cron does at a tick while an earlier one still runs.
type Overlap int

// The overlap policies.
const (
	OverlapQueueOne Overlap = iota // one tick waits, more are dropped
	OverlapSkip                    // the tick is dropped
	OverlapAllow                   // ticks run at the same time
)

const (
	cronMethod = "Fire"
	cronEntity = "cron"
)

// RegisterCron registers a job. A tick and the record that it is due are one
// commit, so a failover neither loses a tick nor runs it for two runners.
// Register before Start.
func RegisterCron(s *Service, c Cron) error {
	var errs []error
	if err := crustertype.CheckName("cron name", c.Name); err != nil {
		errs = append(errs, err)
	}
	if c.Run == nil {
		errs = append(errs, invalid("cron %q: Run is nil", c.Name))
	}
	if c.SkipIfOlderThan < 0 {
		errs = append(errs, invalid("cron %q: SkipIfOlderThan is %v: it must not be negative", c.Name, c.SkipIfOlderThan))
	}
	if c.Overlap < OverlapQueueOne || c.Overlap > OverlapAllow {
		errs = append(errs, invalid("cron %q: Overlap is %d: use OverlapQueueOne, OverlapSkip or OverlapAllow", c.Name, c.Overlap))
	}
	schedule, err := scheduler.Parse(c.Schedule)
	if err != nil {
		errs = append(errs, invalid("cron %q: %w", c.Name, err))
	}
	if c.ShardGroup == "" {
		c.ShardGroup = crustertype.DefaultShardGroup
	}
	if err := crustertype.CheckName("shard group", c.ShardGroup); err != nil {
		errs = append(errs, invalid("cron %q: %w", c.Name, err))
	}
	if err := errors.Join(errs...); err != nil {
		return invalid("register cron: %w", err)
	}
	if c.TimeZone == nil {
		c.TimeZone = time.UTC
	}
	name := cronEntity + "." + c.Name
	if err := s.reserve("cron", name); err != nil {
		return err
	}
	job := &cronJob{Cron: c, svc: s, schedule: schedule.In(c.TimeZone)}
	concurrency := 1
	if c.Overlap == OverlapAllow {
		concurrency = 0
	}
	job.typ = &runner.EntityType{
		Name: name, Group: c.ShardGroup, Options: mailbox.Options{Capacity: s.cfg.MailboxCapacity, Concurrency: concurrency},
		Methods: map[string]*runner.Method{cronMethod: job.method()},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.Register(job.typ)
	s.crons = append(s.crons, job)
	return nil
}

// cronJob is a registered cron: a hidden entity that runs the ticks, and a loop
// that sends it one when it is due.
type cronJob struct {
	Cron
	svc      *Service
	schedule scheduler.Schedule
	typ      *runner.EntityType
	row      crustertype.Schedule
}

func (c *cronJob) method() *runner.Method {
	return &runner.Method{
		Name: cronMethod, Persisted: true, Protected: true,
		Backoff: scheduler.Policy{Initial: time.Second, Max: time.Minute},
		Decode: func(_ codec.Codec, payload []byte) (any, error) {
			return time.Parse(time.RFC3339Nano, string(payload))
		},
		Invoke: func(ctx context.Context, in any) (any, error) {
			tick := in.(time.Time).In(c.TimeZone)
			err := c.Run(ctx, tick)
			if err != nil && ctx.Err() == nil {
				c.svc.cfg.Logger.WarnContext(ctx, "cron failed", "cron", c.Name, "tick", tick, "error", err)
			}
			return nil, err
		},
		Iterate: func(context.Context, any) iter.Seq2[any, error] { return func(func(any, error) bool) {} },
	}
}

// loop fires ticks until the service drains.
func (c *cronJob) loop(kill context.Context) {
	life := c.svc.run.Lifetime()
	for life.Err() == nil {
		wait, err := c.step(kill)
		if err != nil && life.Err() == nil {
			c.svc.cfg.Logger.Warn("cron cannot fire, trying again", "cron", c.Name, "error", err)
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
func (c *cronJob) step(ctx context.Context) (time.Duration, error) {
	now := time.Now()
	if c.row.Version == 0 {
		row, err := c.svc.cfg.Storage.Schedule(ctx, crustertype.ScheduleCron, c.Name)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			row = crustertype.Schedule{Kind: crustertype.ScheduleCron, Name: c.Name}
			if err := c.commit(ctx, row, now, false); err != nil { // ticks count from now on
				return 0, err
			}
		case err != nil:
			return 0, err
		default:
			c.row = row
		}
	}
	for !c.row.Paused {
		tick, ok := c.schedule.Next(c.row.LastTick)
		if !ok {
			return -1, nil
		}
		if tick.After(now) {
			return tick.Sub(now), nil
		}
		if !c.NextFromPrevious {
			if newest, ok := c.schedule.Prev(now.Add(time.Nanosecond)); ok && newest.After(tick) {
				tick = newest
			}
		}
		late := c.SkipIfOlderThan > 0 && now.Sub(tick) > c.SkipIfOlderThan
		if err := c.commit(ctx, c.row, tick, !late && c.room()); err != nil {
			return 0, err
		}
	}
	return time.Minute, nil
}

// room reports whether the overlap policy lets another tick begin.
func (c *cronJob) room() bool {
	act, err := c.typ.Activate(cronEntity)
	if err != nil {
		return true
	}
	running, waiting := act.Load()
	switch c.Overlap {
	case OverlapSkip:
		return running+waiting == 0
	case OverlapQueueOne:
		return waiting == 0
	}
	return true
}

// commit records a tick as decided and, when fire is set, sends it to the
// entity in the same transaction.
func (c *cronJob) commit(ctx context.Context, row crustertype.Schedule, tick time.Time, fire bool) error {
	s := c.svc
	shard := s.run.ShardOf(c.ShardGroup, cronEntity)
	lease, ok := s.run.Lease(shard)
	if !ok {
		return crustertype.ErrNotOwner
	}
	row.Shard, row.LastTick, row.UpdatedAt = shard, tick, time.Now()
	row.NextTick, _ = c.schedule.Next(tick)
	row.Version++
	unit := storage.Unit{Leases: []crustertype.Lease{lease}, Schedules: []crustertype.Schedule{row}}
	if fire {
		addr := crustertype.Address{Type: c.typ.Name, ID: cronEntity}
		key := tick.UTC().Format(time.RFC3339Nano)
		unit.Accepts = []crustertype.Message{{
			ID: crustertype.KeyedRequestID(addr, cronMethod, key), Shard: shard, Address: addr, Method: cronMethod, Key: key,
			Codec: s.cfg.Codec.Name(), Payload: []byte(key), State: crustertype.MessagePending, CreatedAt: row.UpdatedAt,
		}}
	}
	done := make(chan error, 1)
	s.run.Send(unit, func(_ storage.Result, err error) { done <- err })
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
