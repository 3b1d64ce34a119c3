package cruster

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/duty"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/scheduler"
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

	// Send is what a tick does in place of Run: it sends a request to an entity
	// ([CronCall]) or starts a workflow ([CronStart]), in the commit that records
	// the tick.
	Send CronBody

	// TimeZone is where the schedule's clock hangs. Default: UTC.
	TimeZone *time.Location

	// NextFromPrevious makes up for every tick that was missed while no runner
	// was up, in order. By default only the newest missed one is run.
	NextFromPrevious bool

	// CatchUp is how many missed ticks are made up for at most with
	// NextFromPrevious, the newest ones. Default: any number.
	CatchUp int

	// Jitter delays each tick by a time below it, always the same for one tick,
	// so that jobs of many services do not begin together. Default: none.
	Jitter time.Duration

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

// The overlap policies. A request or workflow that a tick has sent counts as
// running until it has its outcome.
const (
	OverlapQueueOne Overlap = iota // one tick waits, more are dropped
	OverlapSkip                    // the tick is dropped
	OverlapAllow                   // ticks run at the same time
)

// RegisterCron registers a job. A tick and the record that it is due are one
// commit, so a failover neither loses a tick nor runs it for two runners.
// Register before Start.
func RegisterCron(s *Service, c Cron) error {
	var errs []error
	if err := crustertype.CheckName("cron name", c.Name); err != nil {
		errs = append(errs, err)
	}
	if (c.Run == nil) == (c.Send == CronBody{}) {
		errs = append(errs, invalid("cron %q: set Run or Send, one of them", c.Name))
	}
	if c.CatchUp < 0 || c.Jitter < 0 || c.SkipIfOlderThan < 0 {
		errs = append(errs, invalid("cron %q: CatchUp is %d, Jitter %v and SkipIfOlderThan %v: they must not be negative", c.Name, c.CatchUp, c.Jitter, c.SkipIfOlderThan))
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
	if err := s.reserve("cron", duty.CronType(c.Name)); err != nil {
		return err
	}
	job := duty.NewCron(s.dutyHost(), duty.CronParams{
		Name: c.Name, Group: c.ShardGroup, Schedule: schedule.In(c.TimeZone), Zone: c.TimeZone, Run: c.Run,
		Parallel: c.Overlap == OverlapAllow, Waiting: c.Overlap == OverlapQueueOne,
		NextFromPrevious: c.NextFromPrevious, SkipIfOlderThan: c.SkipIfOlderThan, CatchUp: c.CatchUp, Jitter: c.Jitter, Body: c.Send.at(),
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.Register(job.Type())
	s.run.AddDuty(runner.Duty{Shard: job.Shard(), Run: job.Loop, Wake: job.Wake})
	s.crons[c.Name] = job
	return nil
}
