package cruster

import (
	"context"
	"reflect"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/transport"
)

// WorkflowClient starts and watches the executions of one workflow. It is a
// small value, for concurrent use.
//
// What identifies an execution is a key: the one given with WithKey or
// WithRawKey, else what the request's method CrusterKey() string returns. Starting
// the same key again finds the same execution, and its outcome, failures too; the
// same key with another request is refused with [ErrKeyConflict]. Without a key
// every start is an execution of its own.
//
// The methods take a [context.Context], or a [*WorkflowContext]: then they are
// steps of that workflow.
type WorkflowClient[In, Out any] struct {
	h     *workflowHandle
	key   string
	keyed bool
	raw   bool
}

// WorkflowClientOf returns the client of a workflow that this process knows the
// type of but need not host: WorkflowClientOf(svc, (*OrderWorkflow).Execute).
func WorkflowClientOf[W, In, Out any](s *Service, exec func(w W, wf *WorkflowContext, in In) (Out, error)) (WorkflowClient[In, Out], error) {
	h, err := s.scannedWorkflow(reflect.TypeFor[W](), exec)
	return WorkflowClient[In, Out]{h: h}, err
}

// WorkflowClientOfErr is [WorkflowClientOf] for an Execute that returns only an
// error.
func WorkflowClientOfErr[W, In any](s *Service, exec func(w W, wf *WorkflowContext, in In) error) (WorkflowClient[In, struct{}], error) {
	h, err := s.scannedWorkflow(reflect.TypeFor[W](), exec)
	return WorkflowClient[In, struct{}]{h: h}, err
}

// NewWorkflowClient returns the client of a workflow that is known by its name
// and types alone. Its keys are hashed and its shard group is the default one,
// unless the workflow is registered with this service.
func NewWorkflowClient[In, Out any](s *Service, name string) (WorkflowClient[In, Out], error) {
	if err := crustertype.CheckName("workflow", name); err != nil {
		return WorkflowClient[In, Out]{}, invalid("%w", err)
	}
	for _, t := range []reflect.Type{reflect.TypeFor[In](), reflect.TypeFor[Out]()} {
		if err := codec.CheckTypeFor(s.cfg.Codec, t); err != nil {
			return WorkflowClient[In, Out]{}, invalid("client of workflow %q: %w", name, err)
		}
	}
	h := &workflowHandle{svc: s, name: name, group: crustertype.DefaultShardGroup, hash: true}
	if d := s.workflows.Definition(name); d != nil {
		h = d.Handle.(*workflowHandle)
	}
	return WorkflowClient[In, Out]{h: h}, nil
}

func (s *Service) scannedWorkflow(t reflect.Type, exec any) (*workflowHandle, error) {
	scan, err := handler.ScanWorkflowType(t, s.markers())
	if err != nil {
		return nil, invalid("client of a workflow: %w", err)
	}
	if handler.PointerOf(exec) != scan.Execute.PC {
		return nil, invalid("client of workflow %q: pass its method expression %s", scan.Name(), scan.Execute)
	}
	return s.workflowHandle(scan), nil
}

// WithKey returns a client whose executions have the key k, hashed into their
// ID.
func (c WorkflowClient[In, Out]) WithKey(k string) WorkflowClient[In, Out] {
	c.key, c.keyed, c.raw = k, true, false
	return c
}

// WithRawKey returns a client whose executions have the ID k itself.
func (c WorkflowClient[In, Out]) WithRawKey(k string) WorkflowClient[In, Out] {
	c.key, c.keyed, c.raw = k, true, true
	return c
}

// Start starts an execution and returns its ID when it is stored. From inside a
// handler or activity the start commits with its outcome.
func (c WorkflowClient[In, Out]) Start(s Scope, req In) (id string, err error) {
	p, err := c.params(s, req)
	if err != nil {
		return "", err
	}
	if wf, ok := s.(*WorkflowContext); ok {
		out, err := wf.run.Do(wf.run.StartCall(c.child(p, req)))
		if err != nil {
			return "", err
		}
		return stepResult[string](wf, out)
	}
	return p.ID, c.h.start(s.(context.Context), p)
}

// Execute starts an execution, unless its key has one, and waits for its
// outcome. When ctx ends first the execution goes on; see Join.
func (c WorkflowClient[In, Out]) Execute(s Scope, req In) (Out, error) {
	var zero Out
	p, err := c.params(s, req)
	if err != nil {
		return zero, err
	}
	if wf, ok := s.(*WorkflowContext); ok {
		out, err := wf.run.Do(wf.run.ExecuteCall(c.child(p, req)))
		if err != nil {
			return zero, err
		}
		return stepResult[Out](wf, out)
	}
	ctx := s.(context.Context)
	if up := invoke.From(ctx); up != nil && up.TxOpen() {
		return zero, c.h.failed("execute", p.ID, dispatch.ErrTxOpen)
	}
	if err := c.h.svc.calls.Start(ctx, p); err != nil {
		return zero, c.h.failed("execute", p.ID, err)
	}
	return c.join(ctx, "execute", p.ID)
}

// Go begins an execution that runs beside the workflow's code, which waits for
// its outcome later. It is cancelled when the workflow ends before.
func (c WorkflowClient[In, Out]) Go(wf *WorkflowContext, req In) Future[Out] {
	p, err := c.params(wf, req)
	if err != nil {
		return Future[Out]{err: err}
	}
	return Future[Out]{f: wf.run.Go(wf.run.ExecuteCall(c.child(p, req)))}
}

// Poll returns the outcome of an execution if it has one; done says so.
func (c WorkflowClient[In, Out]) Poll(ctx context.Context, id string) (out Out, done bool, err error) {
	var zero Out
	if err := c.h.check(ctx, id); err != nil {
		return zero, false, err
	}
	o, done, err := c.h.svc.calls.Poll(ctx, c.h.shard(id), c.h.ref(id))
	if err != nil || !done {
		return zero, false, c.h.failed("poll", id, err)
	}
	v, err := c.h.svc.calls.DecodeOutcome(o, unary[Out])
	if err != nil {
		return zero, true, err
	}
	return v.(Out), true, nil
}

// Join waits for the outcome of an execution that was started before, from
// anywhere. An execution that waits for a person gives [ErrParked] or
// [ErrDeadLettered]; neither is final.
func (c WorkflowClient[In, Out]) Join(s Scope, id string) (Out, error) {
	var zero Out
	if err := c.h.check(s, id); err != nil {
		return zero, err
	}
	if wf, ok := s.(*WorkflowContext); ok {
		out, err := wf.run.Do(wf.run.JoinCall(c.h.name, c.h.ref(id)))
		if err != nil {
			return zero, err
		}
		return stepResult[Out](wf, out)
	}
	return c.join(s.(context.Context), "join", id)
}

func (c WorkflowClient[In, Out]) join(ctx context.Context, verb, id string) (Out, error) {
	var zero Out
	if up := invoke.From(ctx); up != nil && up.TxOpen() {
		return zero, c.h.failed(verb, id, dispatch.ErrTxOpen)
	}
	o, err := c.h.svc.calls.Join(ctx, c.h.shard(id), c.h.ref(id))
	if err != nil {
		return zero, c.h.failed(verb, id, err)
	}
	v, err := c.h.svc.calls.DecodeOutcome(o, unary[Out])
	if err != nil {
		return zero, err
	}
	return v.(Out), nil
}

// Cancel asks an execution to cancel; the request is stored when Cancel returns.
// The contexts of its activities are cancelled, its verbs return [ErrCancelled],
// and its compensations run. A finished execution is left alone.
func (c WorkflowClient[In, Out]) Cancel(s Scope, id, reason string) error {
	return c.h.act(s, "cancel", id, reason, dispatch.OpCancel)
}

// Terminate ends an execution at once: its code is not asked, and no
// compensation runs. A finished execution is left alone.
func (c WorkflowClient[In, Out]) Terminate(s Scope, id, reason string) error {
	return c.h.act(s, "terminate", id, reason, dispatch.OpTerminate)
}

// Retry resumes a parked or dead execution where it stopped, after the fault was
// removed, or opens a new run of a failed, cancelled or terminated one.
func (c WorkflowClient[In, Out]) Retry(s Scope, id string) error {
	return c.h.act(s, "retry", id, "", dispatch.OpRetry)
}

// Execution describes one execution, for people and tools.
type Execution = crustertype.Execution

// StepRecord is one row of an execution's journal.
type StepRecord = crustertype.Step

// Describe returns an execution and the journal of its present run.
func (c WorkflowClient[In, Out]) Describe(ctx context.Context, id string) (Execution, []StepRecord, error) {
	if err := c.h.check(ctx, id); err != nil {
		return Execution{}, nil, err
	}
	x, steps, err := c.h.svc.calls.Describe(ctx, c.h.ref(id))
	return x, steps, c.h.failed("describe", id, err)
}

// params makes what a start needs.
func (c WorkflowClient[In, Out]) params(s Scope, req In) (replay.StartParams, error) {
	var p replay.StartParams
	h := c.h
	if err := h.check(s, "-"); err != nil {
		return p, err
	}
	key, keyed, raw := c.key, c.keyed, c.raw
	if k, ok := any(req).(interface{ CrusterKey() string }); ok && !keyed {
		key, keyed, raw = k.CrusterKey(), true, !h.hash
	} else if k, ok := any(&req).(interface{ CrusterKey() string }); ok && !keyed {
		key, keyed, raw = k.CrusterKey(), true, !h.hash
	}
	p = replay.StartParams{ExecutionRef: h.ref(""), Group: h.group, Codec: h.svc.cfg.Codec.Name(), Timeout: h.timeout}
	var err error
	switch {
	case keyed:
		if err := crustertype.CheckID("key", key); err != nil {
			return p, h.failed("start", "", invalid("%w", err))
		}
		p.Key, p.ID = key, key
		if !raw {
			p.ID = crustertype.HashedExecutionID(h.name, key)
		}
		if p.Digest, err = codec.Digest(req); err != nil {
			return p, h.failed("start", p.ID, crustertype.Errorf(crustertype.CodeEncoding, "digest %T: %w", req, err))
		}
	default:
		p.ID = crustertype.NewRequestID().String()
	}
	if ctx, ok := s.(context.Context); ok {
		p.Meta = h.svc.calls.Meta(ctx)
	}
	if p.Input, err = h.svc.calls.Encode(req); err != nil {
		return p, h.failed("start", p.ID, err)
	}
	return p, nil
}

// child makes the step of a start. Without a key the ID follows from the step.
func (c WorkflowClient[In, Out]) child(p replay.StartParams, req In) replay.Child {
	in := journaledStart{Key: p.Key, Request: req}
	return replay.Child{Call: replay.Call{Name: c.h.name, In: in}, Params: func(id crustertype.RequestID) (replay.StartParams, error) {
		if p.Key == "" {
			p.ID = id.String()
		}
		return p, nil
	}}
}

// journaledStart is what a workflow's journal compares of a start.
type journaledStart struct {
	Key     string
	Request any
}

func (h *workflowHandle) ref(id string) crustertype.ExecutionRef {
	return crustertype.ExecutionRef{Type: h.name, ID: id}
}

func (h *workflowHandle) shard(id string) crustertype.Shard { return h.svc.run.ShardOf(h.group, id) }

// check reports what is wrong with the use of a client.
func (h *workflowHandle) check(s Scope, id string) error {
	if h == nil {
		return invalid("this workflow client is the zero value: use one that RegisterWorkflow, WorkflowClientOf or NewWorkflowClient returned")
	}
	switch s := s.(type) {
	case nil:
		return invalid("the scope is nil: pass a context.Context or a *WorkflowContext")
	case *WorkflowContext:
		if s == nil || s.run == nil {
			return errNoWorkflow
		}
	case context.Context:
	default:
		return invalid("a workflow client is used with a context.Context or a *WorkflowContext, not %T", s)
	}
	if err := crustertype.CheckID("execution ID", id); err != nil {
		return invalid("%w", err)
	}
	return h.svc.serving()
}

// start stores an execution, with the outcome of the handler that it is called
// from, or in the user's transaction, if there is one.
func (h *workflowHandle) start(ctx context.Context, p replay.StartParams) error {
	up, box := invoke.From(ctx), storage.OutboxFrom(ctx)
	if up == nil && box == nil {
		return h.failed("start", p.ID, h.svc.calls.Start(ctx, p))
	}
	if up != nil {
		p.Parent = up.Info().Execution
	}
	x, err := h.svc.workflows.NewExecution(p)
	if err != nil {
		return h.failed("start", p.ID, err)
	}
	starts := []crustertype.Execution{x}
	if box != nil {
		return h.failed("start", p.ID, h.svc.calls.SendThrough(ctx, box, storage.Unit{Starts: starts}))
	}
	if up.Collect(invoke.Sends{Starts: starts, After: []func(){func() { h.svc.workflows.Feed(x.ExecutionRef) }}}) {
		return nil
	}
	_, err = h.svc.workflows.Start(ctx, p)
	return h.failed("start", p.ID, err)
}

// act does what is no start, and in a workflow makes it a step.
func (h *workflowHandle) act(s Scope, verb, id, reason string, op transport.Op) error {
	if err := h.check(s, id); err != nil {
		return err
	}
	f := func(ctx context.Context) error { return h.svc.calls.Act(ctx, op, h.shard(id), h.ref(id), reason) }
	if wf, ok := s.(*WorkflowContext); ok {
		out, err := wf.journal(crustertype.StepLocal, verb+" "+h.name, [2]string{id, reason}, func(ctx context.Context, _ crustertype.RequestID) (crustertype.Outcome, error) {
			return crustertype.Outcome{}, f(ctx)
		})
		if err != nil {
			return err
		}
		_, err = stepResult[struct{}](wf, out)
		return err
	}
	return h.failed(verb, id, f(s.(context.Context)))
}

// failed names the operation in an error of cruster's own. nil stays nil.
func (h *workflowHandle) failed(verb, id string, err error) error {
	if err == nil {
		return nil
	}
	op, addr := verb+" workflow "+h.name, crustertype.Address{Type: h.name, ID: id}
	if e, ok := err.(*Error); ok { //nolint:errorlint // only an error of cruster's own, unwrapped, lacks a name
		if e.Op != "" || !e.Address.IsZero() || e.Code == crustertype.CodeUser {
			return err
		}
		c := *e // a sentinel: never modify it
		return c.At(op, addr)
	}
	return crustertype.Errorf(crustertype.CodeOf(err), "%w", err).At(op, addr)
}
