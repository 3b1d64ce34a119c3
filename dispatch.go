package cruster

import (
	"context"
	"maps"
	"sync/atomic"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/runner"
)

// entityHandle is what clients know of one entity type.
type entityHandle struct {
	dispatch.Target
	svc   *Service
	scan  *handler.Table // of the implementation, or of the contract
	print handler.Fingerprint
	impl  any // nil: not hosted here

	methods map[string]*runner.Method

	bound atomic.Pointer[map[uintptr]*binding]
}

// binding is what a method expression stands for.
type binding struct {
	dispatch.Method
	scanned *handler.Method
	typed   bool // hosted here, and callable with the method expression itself
	direct  bool // typed, and best effort
}

// bind finds the method that a method expression names. The table is copied on
// write: after the first call a look-up costs one load.
func (h *entityHandle) bind(m any) (*binding, error) {
	if h == nil {
		return nil, invalid("this reference names nothing: make it with Client.Entity of a client that Register or NewClient returned")
	}
	pc := handler.PointerOf(m)
	if table := h.bound.Load(); table != nil {
		if b, ok := (*table)[pc]; ok {
			return b, nil
		}
	}
	b, err := h.resolve(m, pc)
	if err != nil {
		return nil, err
	}
	for {
		old := h.bound.Load()
		next := make(map[uintptr]*binding)
		if old != nil {
			maps.Copy(next, *old)
		}
		next[pc] = b
		if h.bound.CompareAndSwap(old, &next) {
			return b, nil
		}
	}
}

// call is the general form of [Call].
func (h *entityHandle) call(s Scope, id string, b *binding, in any, opts []CallOption, reply dispatch.Decoder) (any, error) {
	o, err := h.check(s, id, b, opts)
	if err != nil {
		return nil, h.Failed("call", &b.Method, id, err)
	}
	if wf, ok := s.(*WorkflowContext); ok {
		out, err := wf.journal(crustertype.StepCall, h.Name+"."+b.M.Name, journaledCall{Entity: id, Request: in}, func(ctx context.Context, reqID crustertype.RequestID) (crustertype.Outcome, error) {
			return h.Outcome(ctx, nil, id, &b.Method, in, o, reqID)
		})
		if err != nil {
			return nil, err
		}
		return h.DecodeOutcome(out, reply)
	}
	ctx, ok := s.(context.Context)
	if !ok {
		return nil, h.Failed("call", &b.Method, id, invalid("a call is made with a context.Context or a *WorkflowContext, not %T", s))
	}
	up := invoke.From(ctx)
	err = h.Admissible(&b.Method, up)
	var out crustertype.Outcome
	if err == nil {
		out, err = h.Outcome(ctx, up, id, &b.Method, in, o, crustertype.RequestID{})
	}
	if err != nil {
		return nil, h.Failed("call", &b.Method, id, err)
	}
	return h.DecodeOutcome(out, reply)
}

// journaledCall is what a workflow's journal compares of an entity call.
type journaledCall struct {
	Entity  string
	Request any
}

// check reports what is wrong with a call whatever the entity's state.
func (h *entityHandle) check(s Scope, id string, b *binding, opts []CallOption) (dispatch.Options, error) {
	o := callOptionsOf(opts)
	if s == nil {
		return o, invalid("the scope is nil: pass a context.Context or a *WorkflowContext")
	}
	if err := h.Check(id, &b.Method, o); err != nil {
		return o, err
	}
	return o, h.svc.serving()
}

// notify is the general form of [Notify].
func (h *entityHandle) notify(s Scope, id string, b *binding, in any, opts []CallOption) error {
	o, err := h.check(s, id, b, opts)
	if err != nil {
		return h.Failed("notify", &b.Method, id, err)
	}
	if wf, ok := s.(*WorkflowContext); ok {
		_, err := wf.journal(crustertype.StepNotify, h.Name+"."+b.M.Name, journaledCall{Entity: id, Request: in}, func(ctx context.Context, reqID crustertype.RequestID) (crustertype.Outcome, error) {
			return crustertype.Outcome{}, h.Accept(ctx, nil, id, &b.Method, in, o, reqID)
		})
		return err
	}
	ctx, ok := s.(context.Context)
	if !ok {
		return h.Failed("notify", &b.Method, id, invalid("a notification is made with a context.Context or a *WorkflowContext, not %T", s))
	}
	up := invoke.From(ctx)
	if up == nil && b.M.Protected {
		return h.Failed("notify", &b.Method, id, h.Admissible(&b.Method, up))
	}
	return h.Failed("notify", &b.Method, id, h.Accept(ctx, up, id, &b.Method, in, o, crustertype.RequestID{}))
}

// streamContext checks a stream call.
func (h *entityHandle) streamContext(s Scope, id string, b *binding, opts []CallOption) (context.Context, error) {
	ctx, ok := s.(context.Context)
	var err error
	switch {
	case !ok:
		err = invalid("a stream is called with a context.Context, not %T: in a workflow, read it in an activity", s)
	case len(opts) > 0:
		err = invalid("a stream takes no call options: it is best effort")
	case !b.M.Stream:
		err = invalid("%s is not a stream", b.M.Name)
	case h.Type == nil && h.Router == nil:
		err = dispatch.NotRegistered("entity type", h.Name)
	default:
		if err = crustertype.CheckID("entity ID", id); err != nil {
			err = invalid("%w", err)
		} else if err = h.svc.serving(); err == nil {
			err = h.Admissible(&b.Method, invoke.From(ctx))
		}
	}
	if err != nil {
		return nil, h.Failed("stream", &b.Method, id, err)
	}
	return ctx, nil
}
