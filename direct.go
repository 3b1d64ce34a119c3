package cruster

import (
	"context"
	"errors"
	"iter"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/mailbox"
)

// enter finds the entity, or brings it into memory, and takes its turn if that is
// free. An entity that is evicted meanwhile is brought in again.
func (h *entityHandle) enter(id string) (*runner.Activation, bool, error) {
	if act := h.typ.Find(id); act != nil {
		if free, err := act.Enter(&h.typ.Options); err == nil {
			return act, free, nil
		}
	}
	act, err := h.typ.Activate(id)
	if err != nil {
		return nil, false, err
	}
	free, err := act.Enter(&h.typ.Options)
	return act, free, err
}

// runHere runs a request on the caller's goroutine. The caller has the turn.
func runHere[E, In, Out any](ctx context.Context, r Ref[E], b *binding, m func(E, context.Context, In) (Out, error), in In,
	act *runner.Activation, up *invoke.Context,
) (out Out, err error) {
	h := r.h
	if b.m.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, b.m.Timeout, crustertype.ErrTimeout)
		defer cancel()
	}
	ictx := invoke.NewLight(ctx, h.svc.run.Lifetime(), &b.what, r.id, up)
	returned := false
	defer func() {
		ictx.End()
		act.Leave(h.svc.spawn)
		if !returned {
			if p := recover(); p != nil {
				err = h.failed("call", b, r.id, invoke.PanicError(p))
			}
		}
	}()
	out, err = m(h.impl.(E), ictx, in)
	returned = true
	if err != nil {
		return out, travelled(err)
	}
	if ictx.Collected() {
		err = h.svc.calls.CommitSends(ctx, ictx)
	}
	return out, err
}

// volatile is a best-effort request that waits for its turn.
type volatile struct {
	mailbox.Entry
	ctx  context.Context
	h    *entityHandle
	act  *runner.Activation
	b    *binding
	up   *invoke.Context
	run  func(context.Context) error
	done chan error // nil: nobody waits
}

// Run runs the request on a worker.
func (v *volatile) Run() {
	answered := false
	answer := func(err error) {
		answered = true
		if v.done != nil {
			v.done <- err
		} else if err != nil {
			v.h.svc.cfg.Logger.Warn("notified handler failed", "type", v.h.name, "method", v.b.m.Name, "error", err)
		}
	}
	ctx := v.ctx
	if v.b.m.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, v.b.m.Timeout, crustertype.ErrTimeout)
		defer cancel()
	}
	ictx := invoke.NewLight(ctx, v.h.svc.run.Lifetime(), &v.b.what, v.act.Address().ID, v.up)
	defer func() {
		ictx.End()
		if answered {
			return
		}
		err := error(crustertype.Errorf(crustertype.CodePanic, "the handler called runtime.Goexit"))
		if p := recover(); p != nil {
			err = invoke.PanicError(p)
		}
		answer(v.h.failed("call", v.b, v.act.Address().ID, err))
	}()
	err := v.run(ictx)
	if err != nil {
		answer(travelled(err))
		return
	}
	if ictx.Collected() {
		err = v.h.svc.calls.CommitSends(ctx, ictx)
	}
	answer(err)
}

// Abandon answers a request that still waits when its entity is closed.
func (v *volatile) Abandon(err error) {
	if v.done != nil {
		v.done <- v.h.failed("call", v.b, v.act.Address().ID, err)
	}
}

// queue runs a request when the entity's turn comes, and waits for it.
func (h *entityHandle) queue(ctx context.Context, act *runner.Activation, b *binding, up *invoke.Context, run func(context.Context) error) error {
	addr := act.Address()
	if h.typ.Options.Concurrency == 1 && up != nil && up.Awaits(addr) {
		return reentrant(up, addr).At("call "+h.name+"."+b.m.Name, addr)
	}
	v := &volatile{ctx: ctx, h: h, act: act, b: b, up: up, run: run, done: make(chan error, 1)}
	v.Job = v
	err := act.Push(&v.Entry, &h.typ.Options, h.svc.spawn)
	if errors.Is(err, crustertype.ErrNotOwner) { // evicted since it was found
		if v.act, err = h.typ.Activate(addr.ID); err == nil {
			err = v.act.Push(&v.Entry, &h.typ.Options, h.svc.spawn)
		}
	}
	if err != nil {
		return h.failed("call", b, addr.ID, err)
	}
	select {
	case err := <-v.done:
		return err
	case <-ctx.Done():
	}
	if v.act.Remove(&v.Entry) {
		return h.failed("call", b, addr.ID, dispatch.StoppedWaiting(ctx, false))
	}
	select {
	case err := <-v.done:
		return err
	default: // it runs, and is told to stop
		return h.failed("call", b, addr.ID, dispatch.StoppedWaiting(ctx, true))
	}
}

func reentrant(up *invoke.Context, target crustertype.Address) *Error {
	chain := ""
	for _, a := range up.Callers() {
		chain += a.String() + " -> "
	}
	return crustertype.Errorf(crustertype.CodeReentrant,
		"%s%s would wait for itself: use Notify, give the type concurrency, or pass what is needed along", chain, target)
}

// admissible reports why a caller may not call a method.
func (h *entityHandle) admissible(b *binding, up *invoke.Context) error {
	if up == nil {
		if b.m.Protected {
			return crustertype.Errorf(crustertype.CodeForbidden, "the method is protected: it can be called from inside handlers and workflows only")
		}
		return nil
	}
	if up.TxOpen() {
		return errTxOpen
	}
	return nil
}

// streamLocal iterates a stream of a hosted entity on the consumer's goroutine.
func streamLocal[E, In, Item any](ctx context.Context, r Ref[E], b *binding, m func(E, context.Context, In) iter.Seq2[Item, error], in In) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		var zero Item
		h := r.h
		leave, err := h.svc.calls.Streams.Enter()
		if err != nil {
			yield(zero, h.failed("stream", b, r.id, err))
			return
		}
		defer leave()
		if b.m.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, b.m.Timeout, crustertype.ErrTimeout)
			defer cancel()
		}
		ictx := invoke.NewLight(ctx, h.svc.run.Lifetime(), &b.what, r.id, invoke.From(ctx))
		defer ictx.End()
		consuming := false
		deliver := func(item Item, err error) bool {
			consuming = true
			ok := yield(item, err)
			consuming = false
			return ok
		}
		finished := false
		defer func() {
			if finished || consuming {
				return // the consumer's own panic is not ours to catch
			}
			if p := recover(); p != nil {
				deliver(zero, h.failed("stream", b, r.id, invoke.PanicError(p)))
			}
		}()
		seq := untyped[Item](b.m, ictx, in)
		if b.typed {
			seq = m(h.impl.(E), ictx, in)
		}
		for item, err := range seq {
			if err == nil && ictx.Err() != nil {
				err = context.Cause(ictx)
			}
			if err != nil {
				deliver(zero, travelled(err))
				break
			}
			if !deliver(item, nil) {
				break
			}
		}
		finished = true
	}
}

// untyped iterates a stream that the method expression at hand cannot reach: one
// of an embedded group.
func untyped[Item any](m *runner.Method, ctx context.Context, in any) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for v, err := range m.Iterate(ctx, in) {
			item, _ := v.(Item)
			if !yield(item, err) {
				return
			}
		}
	}
}
