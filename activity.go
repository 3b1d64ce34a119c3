package cruster

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/scheduler"
)

// StepOption changes how one step is made; see [Retries], [Timeout],
// [ExponentialBackoff] and [ConstantBackoff]. It comes before what the
// activity's marker says.
type StepOption interface{ applyStep(*replay.Call) }

type stepOption func(*replay.Call)

func (f stepOption) applyStep(c *replay.Call) { f(c) }

// Retries lets a step that returns an error be tried n times more. An error that
// is marked with [Permanent] is not tried again. Attempts, and the time of the
// next one, survive crashes.
func Retries(n int) StepOption {
	return stepOption(func(c *replay.Call) { c.Retries = max(0, n) })
}

// Timeout bounds each attempt of a step.
func Timeout(d time.Duration) StepOption {
	return stepOption(func(c *replay.Call) { c.Timeout = max(0, d) })
}

// ExponentialBackoff pauses between attempts, doubling from initial to longest,
// with some jitter. It is the default, from 1s to 60s.
func ExponentialBackoff(initial, longest time.Duration) StepOption {
	return stepOption(func(c *replay.Call) { c.Backoff = exponential(initial, longest) })
}

// ConstantBackoff pauses for d between attempts.
func ConstantBackoff(d time.Duration) StepOption {
	return stepOption(func(c *replay.Call) {
		c.Backoff = scheduler.Policy{Kind: scheduler.Constant, Initial: d}
	})
}

func exponential(initial, longest time.Duration) scheduler.Policy {
	return scheduler.Policy{Kind: scheduler.Exponential, Initial: initial, Max: longest, Jitter: 0.2}
}

// Do runs an activity and returns its result. m is a method expression of the
// running workflow, such as (*OrderWorkflow).Charge, or of one of its activity
// groups, such as (*Inventory).Reserve.
//
// The activity runs at least once, and its result is recorded once: when the
// workflow replays, Do returns what is recorded. What the activity writes
// through [Tx] commits together with that record, exactly once.
func Do[W, In, Out any](wf *WorkflowContext, m func(W, context.Context, In) (Out, error), in In, opts ...StepOption) (Out, error) {
	var zero Out
	c, found, err := activityCall[In](wf, m, in, opts)
	if err != nil {
		return zero, err
	}
	if !found.Specialized() {
		handler.Specialize(found, m)
	}
	out, err := wf.run.Do(c)
	if err != nil {
		return zero, err
	}
	return stepResult[Out](wf, out)
}

// DoErr is [Do] for an activity that returns only an error.
func DoErr[W, In any](wf *WorkflowContext, m func(W, context.Context, In) error, in In, opts ...StepOption) error {
	c, found, err := activityCall[In](wf, m, in, opts)
	if err != nil {
		return err
	}
	if !found.Specialized() {
		handler.SpecializeErr(found, m)
	}
	out, err := wf.run.Do(c)
	if err != nil {
		return err
	}
	_, err = stepResult[struct{}](wf, out)
	return err
}

// Go begins an activity that runs beside the workflow's code. Wait for it with
// [Future.Get], [All], [Any] or [Select]. Activities that still run when Execute
// returns are cancelled.
func Go[W, In, Out any](wf *WorkflowContext, m func(W, context.Context, In) (Out, error), in In, opts ...StepOption) Future[Out] {
	c, found, err := activityCall[In](wf, m, in, opts)
	if err != nil {
		return Future[Out]{err: err}
	}
	if !found.Specialized() {
		handler.Specialize(found, m)
	}
	return Future[Out]{f: wf.run.Go(c)}
}

// GoErr is [Go] for an activity that returns only an error.
func GoErr[W, In any](wf *WorkflowContext, m func(W, context.Context, In) error, in In, opts ...StepOption) Future[struct{}] {
	c, found, err := activityCall[In](wf, m, in, opts)
	if err != nil {
		return Future[struct{}]{err: err}
	}
	if !found.Specialized() {
		handler.SpecializeErr(found, m)
	}
	return Future[struct{}]{f: wf.run.Go(c)}
}

// Step runs f as a step: an activity without a method. It suits small things,
// such as reading the clock or making a random number.
func Step[T any](wf *WorkflowContext, name string, f func(ctx context.Context) (T, error), opts ...StepOption) (T, error) {
	var zero T
	switch {
	case wf == nil || wf.run == nil:
		return zero, errNoWorkflow
	case name == "":
		return zero, invalid("step: the name is empty: it tells steps apart in reports")
	}
	c := replay.Call{Kind: crustertype.StepLocal, Name: name, Backoff: exponential(0, 0), Fn: func(ctx *invoke.Context, _ []byte) (crustertype.Outcome, error) {
		v, err := f(ctx)
		if err != nil {
			return crustertype.Outcome{}, err
		}
		return wf.h.svc.stepOutcome(v)
	}}
	for _, o := range opts {
		o.applyStep(&c)
	}
	out, err := wf.run.Do(c)
	if err != nil {
		return zero, err
	}
	return stepResult[T](wf, out)
}

// Sleep waits for d, across crashes and restarts. While it waits for long, the
// execution takes no memory. It returns [ErrCancelled] or [ErrTimeout] when the
// execution is to end before.
func Sleep(wf *WorkflowContext, d time.Duration) error {
	if wf == nil || wf.run == nil {
		return errNoWorkflow
	}
	return wf.run.Sleep(d)
}

// SleepUntil is [Sleep] until t.
func SleepUntil(wf *WorkflowContext, t time.Time) error {
	if wf == nil || wf.run == nil {
		return errNoWorkflow
	}
	return wf.run.SleepUntil(t)
}

// activityCall finds the activity that m names in the running workflow.
func activityCall[In any](wf *WorkflowContext, m any, in In, opts []StepOption) (replay.Call, *handler.Method, error) {
	if wf == nil || wf.run == nil {
		return replay.Call{}, nil, errNoWorkflow
	}
	scan := wf.h.scan
	found, ok := scan.ByPointer(handler.PointerOf(m))
	if !ok {
		var err error
		if found, err = scan.Resolve(m); err != nil {
			return replay.Call{}, nil, invalid("activity of workflow %q: %w", wf.h.name, err)
		}
	}
	svc := wf.h.svc
	c := replay.Call{
		Kind: crustertype.StepActivity, Name: found.Name, In: in, Retries: found.Retries.Or(0), Timeout: max(0, found.Timeout.Or(0)),
		Backoff: exponential(max(0, found.Initial.Or(0)), max(0, found.Max.Or(0))),
		Fn: func(ctx *invoke.Context, args []byte) (crustertype.Outcome, error) {
			// Every attempt gets a value of its own: what it does to it must not be
			// seen by the workflow, which a replay would not repeat.
			var arg In
			if err := svc.cfg.Codec.Unmarshal(args, &arg); err != nil {
				return crustertype.Outcome{}, Permanent(crustertype.Errorf(crustertype.CodeEncoding, "decode the arguments of %s: %w", found, err))
			}
			out, err := found.Invoke(ctx, &arg)
			if err != nil || found.Out == nil {
				return crustertype.Outcome{}, err
			}
			return svc.stepOutcome(out)
		},
	}
	if found.Backoff.Or(handler.Exponential) == handler.Constant {
		c.Backoff.Kind, c.Backoff.Jitter = scheduler.Constant, 0
	}
	for _, o := range opts {
		o.applyStep(&c)
	}
	return c, found, nil
}

// stepOutcome encodes a step's result. A value that cannot travel, or is too
// large, will not do so at the next attempt either.
func (s *Service) stepOutcome(v any) (crustertype.Outcome, error) {
	b, err := s.calls.Encode(v)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Permanent = true
		}
		return crustertype.Outcome{}, err
	}
	return crustertype.Outcome{Codec: s.cfg.Codec.Name(), Payload: b}, nil
}
