package cruster

import (
	"context"
	"errors"
	"iter"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/runner"
)

// runHere runs a request on the caller's goroutine. The caller has the turn.
func runHere[E, In, Out any](ctx context.Context, r Ref[E], b *binding, m func(E, context.Context, In) (Out, error), in In,
	act *runner.Activation, up *invoke.Context,
) (out Out, err error) {
	h := r.h
	if b.M.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, b.M.Timeout, crustertype.ErrTimeout)
		defer cancel()
	}
	ictx := invoke.NewLight(ctx, act.Lifetime(), &b.What, r.id, up)
	var end func(error)
	if h.Probe != nil {
		end = h.Probed(ctx, ictx)
	}
	returned := false
	defer func() {
		ictx.End()
		act.Leave(h.svc.spawn)
		if !returned {
			if p := recover(); p != nil {
				err = h.Failed("call", &b.Method, r.id, invoke.PanicError(p))
			}
			if end != nil {
				end(err)
			}
		}
	}()
	out, err = m(h.impl.(E), ictx, in)
	returned = true
	if end != nil {
		end(err)
	}
	if err != nil {
		return out, dispatch.Travelled(err)
	}
	if ictx.Collected() {
		err = h.CommitSends(ctx, ictx)
	}
	return out, err
}

// streamLocal iterates a stream of a hosted entity on the consumer's goroutine.
func streamLocal[E, In, Item any](ctx context.Context, r Ref[E], b *binding, m func(E, context.Context, In) iter.Seq2[Item, error], in In) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		var zero Item
		h := r.h
		life, leave, err := h.EnterStream(r.id)
		if h.Router != nil && errors.Is(err, ErrNotOwner) {
			streamRemote(ctx, h, r.id, b, in, streamLocal(ctx, r, b, m, in))(yield)
			return
		} else if err != nil {
			yield(zero, h.Failed("stream", &b.Method, r.id, err))
			return
		}
		defer leave()
		if b.M.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, b.M.Timeout, crustertype.ErrTimeout)
			defer cancel()
		}
		ictx := invoke.NewLight(ctx, life, &b.What, r.id, invoke.From(ctx))
		defer ictx.End()
		var failure error
		if h.Probe != nil {
			end := h.ProbedStream(ctx, ictx)
			defer func() { end(failure) }()
		}
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
				deliver(zero, h.Failed("stream", &b.Method, r.id, invoke.PanicError(p)))
			}
		}()
		seq := untyped[Item](b.M, ictx, in)
		if b.typed {
			seq = m(h.impl.(E), ictx, in)
		}
		for item, err := range seq {
			if err == nil && ictx.Err() != nil {
				err = context.Cause(ictx)
			}
			if err != nil {
				failure = err
				deliver(zero, dispatch.Travelled(err))
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

// streamRemote iterates a stream on the owner of the entity's shard; here does
// when that has become this runner.
func streamRemote[Item any](ctx context.Context, h *entityHandle, id string, b *binding, in any, here iter.Seq2[Item, error]) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for v, err := range h.StreamThere(ctx, id, &b.Method, in, unary[Item]) {
			if errors.Is(err, dispatch.ErrHere) && h.Type != nil {
				here(yield)
				return
			}
			if errors.Is(err, dispatch.ErrHere) {
				err = dispatch.NotRegistered("entity type", h.Name)
			}
			item, _ := v.(Item)
			if !yield(item, h.Failed("stream", &b.Method, id, err)) {
				return
			}
		}
	}
}
