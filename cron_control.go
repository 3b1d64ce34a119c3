package cruster

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/duty"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/scheduler"
	"github.com/cruster-go/cruster/storage"
)

// CronBody is what a cron's tick sends. See [CronCall] and [CronStart].
type CronBody struct {
	make *func(tick scheduler.Tick) (storage.Unit, error)
}

func (b CronBody) at() func(scheduler.Tick) (storage.Unit, error) {
	if b.make == nil {
		return nil
	}
	return *b.make
}

// CronCall makes each tick a persisted request to an entity: m with what in
// returns for the tick. The same tick is the same request.
func CronCall[E, In, Out any](r Ref[E], m func(E, context.Context, In) (Out, error), in func(tick time.Time) In) CronBody {
	return cronCall(r.h, r.id, m, func(t time.Time) any { return in(t) })
}

// CronCallErr is [CronCall] for a method that returns only an error.
func CronCallErr[E, In any](r Ref[E], m func(E, context.Context, In) error, in func(tick time.Time) In) CronBody {
	return cronCall(r.h, r.id, m, func(t time.Time) any { return in(t) })
}

func cronCall(h *entityHandle, id string, m any, in func(time.Time) any) CronBody {
	f := func(tick scheduler.Tick) (storage.Unit, error) {
		b, err := h.bind(m)
		if err != nil {
			return storage.Unit{}, err
		}
		msg, err := h.TickMessage(id, &b.Method, in(tick.At), tick.Key)
		return storage.Unit{Accepts: []crustertype.Message{msg}}, err
	}
	return CronBody{&f}
}

// CronStart makes each tick an execution of a workflow with the input that in
// returns. Its ID is the cron's name and the tick, such as
// "report@2026-01-02T03:04:05Z": the same tick is the same execution.
func CronStart[In, Out any](c WorkflowClient[In, Out], in func(tick time.Time) In) CronBody {
	f := func(tick scheduler.Tick) (storage.Unit, error) {
		input, err := c.h.svc.calls.Encode(in(tick.At))
		if err != nil {
			return storage.Unit{}, err
		}
		x, err := c.h.svc.workflows.NewExecution(replay.StartParams{
			ExecutionRef: c.h.ref(tick.Key), Group: c.h.group, Codec: c.h.svc.cfg.Codec.Name(), Input: input, Timeout: c.h.timeout,
		})
		return storage.Unit{Starts: []crustertype.Execution{x}}, err
	}
	return CronBody{&f}
}

// CronStatus is how a cron stands.
type CronStatus = duty.Status

// CronFire is one run of a cron's function.
type CronFire = duty.Fire

// Crons returns the names of the crons that are registered with the service.
func (s *Service) Crons() []string { return slices.Sorted(maps.Keys(s.crons)) }

// CronControl looks at a cron and changes it, for all runners.
type CronControl struct {
	s *Service
	c *duty.Cron
}

// Cron returns the control of a registered cron.
func (s *Service) Cron(name string) (CronControl, error) {
	c := s.crons[name]
	if c == nil {
		return CronControl{}, dispatch.NotRegistered("cron", name)
	}
	return CronControl{s, c}, s.serving()
}

// Pause lets no tick begin until Resume. A tick that has begun runs on.
func (c CronControl) Pause(ctx context.Context) error { return c.set(ctx, true) }

// Resume ends a pause. Ticks that came due during it are not made up for.
func (c CronControl) Resume(ctx context.Context) error { return c.set(ctx, false) }

func (c CronControl) set(ctx context.Context, paused bool) error {
	err := c.c.SetPaused(ctx, paused)
	if err == nil {
		c.s.calls.Nudge(c.c.Shard())
	}
	return err
}

// RunNow runs the cron once, beside its schedule, also while it is paused. It
// returns when the run is accepted.
func (c CronControl) RunNow(ctx context.Context) error {
	unit, err := c.c.Now()
	if err != nil {
		return err
	}
	return c.s.calls.Send(ctx, unit)
}

// Status returns how the cron stands, with its next five ticks.
func (c CronControl) Status(ctx context.Context) (CronStatus, error) { return c.c.Status(ctx) }

// History returns the last n runs of the cron's function, the newest first, as
// far as retention has left them.
func (c CronControl) History(ctx context.Context, n int) ([]CronFire, error) {
	return c.c.History(ctx, n)
}
