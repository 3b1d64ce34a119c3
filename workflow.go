package cruster

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
)

// RegisterWorkflow makes the service host a workflow and returns its client. w
// is a pointer to a struct with a [Workflow] marker and a method
//
//	func (w *OrderWorkflow) Execute(wf *cruster.WorkflowContext, req OrderRequest) (OrderResult, error)
//
// which must be deterministic: all I/O, clocks and random numbers go through its
// activities and the verbs that take wf. Activities are its exported methods
// that take a [context.Context] first, those of embedded activity groups
// included. The one value serves all executions at once, so its fields are
// dependencies, never an execution's state. Everything that is wrong with the
// type is reported in one error. Register before Start.
func RegisterWorkflow[W interface {
	Execute(wf *WorkflowContext, in In) (Out, error)
}, In, Out any](s *Service, w W) (WorkflowClient[In, Out], error) {
	h, err := s.registerWorkflow(w, func(wf *WorkflowContext, c codec.Codec, input []byte) ([]byte, error) {
		in, err := decodeInput[In](c, input)
		if err != nil {
			return nil, err
		}
		out, err := w.Execute(wf, in)
		if err != nil {
			return nil, err
		}
		return s.calls.Encode(out)
	})
	return WorkflowClient[In, Out]{h: h}, err
}

// RegisterWorkflowErr is [RegisterWorkflow] for an Execute that returns only an
// error.
func RegisterWorkflowErr[W interface {
	Execute(wf *WorkflowContext, in In) error
}, In any](s *Service, w W) (WorkflowClient[In, struct{}], error) {
	h, err := s.registerWorkflow(w, func(wf *WorkflowContext, c codec.Codec, input []byte) ([]byte, error) {
		in, err := decodeInput[In](c, input)
		if err != nil {
			return nil, err
		}
		return nil, w.Execute(wf, in)
	})
	return WorkflowClient[In, struct{}]{h: h}, err
}

func decodeInput[In any](c codec.Codec, input []byte) (In, error) {
	var in In
	if err := c.Unmarshal(input, &in); err != nil {
		return in, errors.Join(replay.ErrBadInput, err)
	}
	return in, nil
}

// workflowHandle is what clients know of one workflow.
type workflowHandle struct {
	svc     *Service
	name    string
	group   string        // shard group
	hash    bool          // CrusterKey is hashed
	timeout time.Duration // of an execution; 0: none
	scan    *handler.Workflow
}

func (s *Service) registerWorkflow(w any, execute func(*WorkflowContext, codec.Codec, []byte) ([]byte, error)) (*workflowHandle, error) {
	scan, err := handler.ScanWorkflow(w, s.markers())
	if err != nil {
		return nil, invalid("register: %w", err)
	}
	if err := s.reserve("workflow", scan.Name()); err != nil {
		return nil, err
	}
	s.retention.Add(scan.Name(), scan.Options.Retention.V, scan.Options.Retention.Set)
	h := s.workflowHandle(scan)
	return h, s.workflows.Register(&replay.Definition{
		Name: h.name, Group: h.group, Timeout: h.timeout, Handle: h,
		Execute: func(r *replay.Run, c codec.Codec, input []byte) ([]byte, error) {
			return execute(&WorkflowContext{run: r, h: h}, c, input)
		},
	})
}

func (s *Service) workflowHandle(scan *handler.Workflow) *workflowHandle {
	o := scan.Options
	return &workflowHandle{
		svc: s, name: scan.Name(), group: o.ShardGroup.Or(crustertype.DefaultShardGroup), hash: o.Hash.Or(true),
		timeout: max(0, o.Timeout.Or(0)), scan: scan,
	}
}

// newWorkflows makes the service's workflow engine.
func (s *Service) newWorkflows() *replay.Engine {
	poll := time.Duration(0) // alone, nobody else stores anything
	if s.cfg.Transport != nil {
		poll = max(0, s.cfg.searchEvery())
	}
	return replay.New(replay.Config{
		Store: s.cfg.Storage, Commit: s.run.Commit, Codec: s.cfg.Codec, Lookup: s.codecs.Lookup, Logger: s.cfg.Logger,
		Lease: s.run.Held, ShardOf: s.run.ShardOf, Encode: encodeError, Decode: decodeError,
		WakeAt: func(_ crustertype.ExecutionRef, _ crustertype.Shard, at time.Time) { s.run.WakeAt(at) },
		Order:  s.run.Order, Sent: s.run.Sent, Sending: s.run.Sending,
		Fenced: func(shards []crustertype.Shard) { s.node.Fenced(shards) }, Probe: s.calls.Probe, Join: s.calls.Join, Poll: poll,
		Nudge: func(shard crustertype.Shard, ref crustertype.ExecutionRef) {
			s.node.Tell(dispatch.Note{Shard: shard, Execution: ref})
		},
		MaxPayload: s.cfg.MaxPayload, MaxDeliveries: s.cfg.MaxDeliveries, SuspendAfter: s.cfg.SuspendAfter, MaxResident: s.cfg.MaxResident,
	})
}

// WorkflowContext is what a workflow's code works with. It is no
// [context.Context], so that I/O in workflow code does not compile by accident:
// activities get a context of their own. It is used by the goroutine that runs
// Execute, and by no other.
//
// A run that sleeps for long leaves memory: its goroutine ends, deferred
// functions run, and whatever they ask of the WorkflowContext is refused with
// [ErrSuspended]. Compensation belongs in [WorkflowContext.OnFailure].
type WorkflowContext struct {
	run *replay.Run
	h   *workflowHandle
	log *slog.Logger
}

// Value returns nil: it makes a WorkflowContext a [Scope].
func (wf *WorkflowContext) Value(any) any { return nil }

// Now returns the time of the latest step whose outcome the code has seen; at
// first, when the execution was started. It is the same at every replay.
func (wf *WorkflowContext) Now() time.Time { return wf.run.Now() }

// NewID returns a unique ID, in the form of a UUID, that is the same at every
// replay.
func (wf *WorkflowContext) NewID() string { return wf.run.NewID().String() }

// ExecutionID returns the execution's ID.
func (wf *WorkflowContext) ExecutionID() string { return wf.run.Execution().ID }

// Run returns which run of the execution this is, from 1: a retry of a finished
// execution opens the next.
func (wf *WorkflowContext) Run() int { return wf.run.Execution().Run }

// Cancelled reports whether the code was told that the execution is to end,
// because it was cancelled or its timeout passed: some verb returned
// [ErrCancelled] or [ErrTimeout]. All that can wait then return it at once.
func (wf *WorkflowContext) Cancelled() bool { return wf.run.Cancelled() != nil }

// OnFailure registers a compensation. If the execution fails or is cancelled,
// compensations run after Execute has returned, journaled like any other code,
// the one registered last first. A cancel does not concern them. Their errors
// are added to the text of the execution's error.
func (wf *WorkflowContext) OnFailure(f func(wf *WorkflowContext) error) {
	wf.run.OnFailure(func(*replay.Run) error { return f(wf) })
}

// Changed lets changed code run beside executions that the old code began:
//
//	if wf.Changed("charge-in-euro") { ... new ... } else { ... old ... }
//
// It is true for executions that had not come so far when the change was
// deployed, and false for those that had. The answer is journaled.
func (wf *WorkflowContext) Changed(id string) bool { return wf.run.Changed(id) }

// Logger returns a logger with the execution's name that is silent while the
// code replays what it did before.
func (wf *WorkflowContext) Logger() *slog.Logger {
	if wf.log == nil {
		wf.log = wf.run.Logger(wf.h.svc.cfg.Logger.Handler())
	}
	return wf.log
}

// journal makes a step of a call that is no activity: exec runs at most until it
// has an outcome, with the same id at every attempt.
func (wf *WorkflowContext) journal(kind crustertype.StepKind, name string, in any, exec func(ctx context.Context, id crustertype.RequestID) (crustertype.Outcome, error)) (crustertype.Outcome, error) {
	if wf == nil || wf.run == nil {
		return crustertype.Outcome{}, errNoWorkflow
	}
	return wf.run.Do(replay.Call{Kind: kind, Name: name, In: in, Fn: func(ctx *invoke.Context, _ []byte) (crustertype.Outcome, error) {
		return exec(ctx, ctx.Info().RequestID)
	}})
}

var errNoWorkflow = invalid("the *WorkflowContext is nil: use the one that Execute was given")

// stepResult turns a step's outcome into the caller's type. A result that does
// not fit it any more ends the run: the code was changed.
func stepResult[Out any](wf *WorkflowContext, o crustertype.Outcome) (Out, error) {
	var out Out
	if o.Failure != nil {
		return out, decodeError(o.Failure)
	}
	if o.Codec == "" && len(o.Payload) == 0 {
		return out, nil
	}
	c, err := wf.h.svc.codecs.Lookup(o.Codec)
	if err == nil {
		err = c.Unmarshal(o.Payload, &out)
	}
	if err != nil {
		wf.run.Refuse(crustertype.Errorf(crustertype.CodeEncoding, "decode into %s: %w", reflect.TypeFor[Out](), err))
	}
	return out, nil
}
