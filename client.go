package cruster

import (
	"context"
	"errors"
	"iter"

	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/invoke"
)

// Scope is where a call is made from: a [context.Context] in main, handlers
// and activities, or a [*WorkflowContext], where the call becomes a journaled
// step.
type Scope interface{ Value(key any) any }

// Client makes references to the entities of one type. It is a small value, for
// concurrent use.
type Client[E any] struct{ h *entityHandle }

// Entity returns a reference to the entity of that ID. It costs nothing and
// reaches nobody: entities exist while they are used.
func (c Client[E]) Entity(id string) Ref[E] { return Ref[E](ref{c.h, id}) }

// Ref refers to one entity whose methods are those of E.
type Ref[E any] ref

type ref struct {
	h  *entityHandle
	id string
}

// ID returns the entity's ID.
func (r Ref[E]) ID() string { return r.id }

// As views an entity as one of the RPC groups that its type embeds, so that
// code which knows the group alone can call it:
// cruster.Call(ctx, cruster.As[*Auditable](user), (*Auditable).Log, req).
func As[G, E any](r Ref[E]) Ref[G] { return Ref[G](r) }

// Call sends a request to an entity and waits for the reply.
//
// A best-effort method runs at most once, and is cancelled when ctx ends. A
// persisted one is stored first and runs at least once, whatever becomes of the
// caller; its effects through [Tx] happen exactly once. m is a method
// expression such as (*Counter).Increment.
//
// Errors: the handler's own (see [RegisterError]), or one of the conditions in
// this package; [Retryable] and [MaybeExecuted] tell what they mean for the
// caller. Called from a workflow, the call is a step: its reply is journaled.
func Call[E, In, Out any](s Scope, r Ref[E], m func(E, context.Context, In) (Out, error), in In, opts ...CallOption) (Out, error) {
	var zero Out
	b, err := r.h.bind(m)
	if err != nil {
		return zero, err
	}
	if b.direct && len(opts) == 0 {
		if ctx, ok := s.(context.Context); ok {
			return callDirect(ctx, r, b, m, in)
		}
	}
	if b.typed && !b.scanned.Specialized() {
		handler.Specialize(b.scanned, m)
	}
	out, err := r.h.call(s, r.id, b, in, opts, unary[Out])
	if err != nil {
		return zero, err
	}
	return out.(Out), nil
}

// CallErr is [Call] for a method that returns only an error.
func CallErr[E, In any](s Scope, r Ref[E], m func(E, context.Context, In) error, in In, opts ...CallOption) error {
	b, err := r.h.bind(m)
	if err != nil {
		return err
	}
	if b.direct && len(opts) == 0 {
		if ctx, ok := s.(context.Context); ok {
			_, err := callDirect(ctx, r, b, func(e E, ctx context.Context, in In) (struct{}, error) {
				return struct{}{}, m(e, ctx, in)
			}, in)
			return err
		}
	}
	if b.typed && !b.scanned.Specialized() {
		handler.SpecializeErr(b.scanned, m)
	}
	_, err = r.h.call(s, r.id, b, in, opts, nothing)
	return err
}

// Notify sends a request and returns when it is accepted: when a persisted one
// is stored, when a best-effort one is in the entity's mailbox. The reply is
// dropped.
//
// From inside a handler or activity, the request is sent when that commits its
// outcome, and not at all when it fails; see [Immediately].
func Notify[E, In, Out any](s Scope, r Ref[E], m func(E, context.Context, In) (Out, error), in In, opts ...CallOption) error {
	b, err := r.h.bind(m)
	if err != nil {
		return err
	}
	if b.typed && !b.scanned.Specialized() {
		handler.Specialize(b.scanned, m)
	}
	return r.h.notify(s, r.id, b, in, opts)
}

// NotifyErr is [Notify] for a method that returns only an error.
func NotifyErr[E, In any](s Scope, r Ref[E], m func(E, context.Context, In) error, in In, opts ...CallOption) error {
	b, err := r.h.bind(m)
	if err != nil {
		return err
	}
	if b.typed && !b.scanned.Specialized() {
		handler.SpecializeErr(b.scanned, m)
	}
	return r.h.notify(s, r.id, b, in, opts)
}

// Stream calls a method that yields many items. The handler produces an item
// when the consumer asks for it, and is cancelled when the consumer stops or ctx
// ends. An error is yielded once, as the last. Streams are best effort, run
// beside the entity's turn, and cannot be called from a workflow.
func Stream[E, In, Item any](s Scope, r Ref[E], m func(E, context.Context, In) iter.Seq2[Item, error], in In, opts ...CallOption) iter.Seq2[Item, error] {
	b, err := r.h.bind(m)
	if err == nil {
		var ctx context.Context
		if ctx, err = r.h.streamContext(s, r.id, b, opts); err == nil {
			return streamLocal(ctx, r, b, m, in)
		}
	}
	return func(yield func(Item, error) bool) {
		var zero Item
		yield(zero, err)
	}
}

// callDirect runs a best-effort call of a hosted entity: on this goroutine when
// the entity is idle.
func callDirect[E, In, Out any](ctx context.Context, r Ref[E], b *binding, m func(E, context.Context, In) (Out, error), in In) (Out, error) {
	var zero Out
	h := r.h
	up := invoke.From(ctx)
	if err := h.Admissible(&b.Method, up); err != nil {
		return zero, h.Failed("call", &b.Method, r.id, err)
	}
	act, free, err := h.Enter(r.id)
	if err == nil && free {
		return runHere(ctx, r, b, m, in, act, up)
	}
	var out Out
	if err == nil {
		err = h.Queue(ctx, act, &b.Method, up, func(ictx context.Context) error {
			var err error
			out, err = m(h.impl.(E), ictx, in)
			return err
		})
	}
	switch {
	case err == nil:
		return out, nil
	case h.Router != nil && errors.Is(err, ErrNotOwner): // it did not run here
		v, err := h.call(ctx, r.id, b, in, nil, unary[Out])
		if err != nil {
			return zero, err
		}
		return v.(Out), nil
	}
	return zero, h.Failed("call", &b.Method, r.id, err)
}

// nothing decodes the reply of a method that returns only an error.
func nothing(decode func(any) error) (any, error) { return nil, nil }

// unary decodes a reply of type Out.
func unary[Out any](decode func(any) error) (any, error) {
	var out Out
	if err := decode(&out); err != nil {
		return nil, err
	}
	return out, nil
}
