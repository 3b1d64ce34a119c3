package cruster

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/storage"
)

// entityHandle is what clients know of one entity type.
type entityHandle struct {
	svc   *Service
	name  string
	group string             // shard group
	typ   *runner.EntityType // nil: this process does not host the type
	scan  *handler.Table     // of the implementation, or of the contract
	print handler.Fingerprint
	impl  any // nil: not hosted here

	methods map[string]*runner.Method

	bound atomic.Pointer[map[uintptr]*binding]
}

// binding is what a method expression stands for.
type binding struct {
	m       *runner.Method
	what    invoke.What
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

// failed names the call in an error of cruster's own.
func (h *entityHandle) failed(verb string, b *binding, id string, err error) error {
	op, addr := verb+" "+h.name+"."+b.m.Name, crustertype.Address{Type: h.name, ID: id}
	var e *Error
	if errors.As(err, &e) {
		if e.Op == "" && e.Address.IsZero() && e.Code != crustertype.CodeUser { // a sentinel, or not named yet: never modify it
			c := *e
			return c.At(op, addr)
		}
		return err
	}
	return crustertype.Errorf(crustertype.CodeUnknown, "%w", err).At(op, addr)
}

// call is the general form of [Call].
func (h *entityHandle) call(s Scope, id string, b *binding, in any, opts []CallOption, reply dispatch.Decoder) (any, error) {
	o, err := h.check(s, id, b, opts)
	if err != nil {
		return nil, h.failed("call", b, id, err)
	}
	if wf, ok := s.(*WorkflowContext); ok {
		out, err := wf.journal(crustertype.StepCall, h.name+"."+b.m.Name, journaledCall{Entity: id, Request: in}, func(ctx context.Context, reqID crustertype.RequestID) (crustertype.Outcome, error) {
			return h.outcome(ctx, nil, id, b, in, o, reqID)
		})
		if err != nil {
			return nil, err
		}
		return h.svc.calls.DecodeOutcome(out, reply)
	}
	ctx, ok := s.(context.Context)
	if !ok {
		return nil, h.failed("call", b, id, invalid("a call is made with a context.Context or a *WorkflowContext, not %T", s))
	}
	up := invoke.From(ctx)
	if err := h.admissible(b, up); err != nil {
		return nil, h.failed("call", b, id, err)
	}
	out, err := h.outcome(ctx, up, id, b, in, o, crustertype.RequestID{})
	if err != nil {
		return nil, h.failed("call", b, id, err)
	}
	return h.svc.calls.DecodeOutcome(out, reply)
}

// journaledCall is what a workflow's journal compares of an entity call.
type journaledCall struct {
	Entity  string
	Request any
}

// check reports what is wrong with a call whatever the entity's state.
func (h *entityHandle) check(s Scope, id string, b *binding, opts []CallOption) (callOptions, error) {
	o := callOptionsOf(opts)
	if err := crustertype.CheckID("entity ID", id); err != nil {
		return o, invalid("%w", err)
	}
	switch {
	case s == nil:
		return o, invalid("the scope is nil: pass a context.Context or a *WorkflowContext")
	case b.m.Stream:
		return o, invalid("%s is a stream: call it with cruster.Stream", b.m.Name)
	case o.keyed && !b.m.Persisted:
		return o, invalid("Key needs a persisted method: mark %s persisted", b.m.Name)
	case o.uninterruptible && !b.m.Persisted:
		return o, invalid("Uninterruptible needs a persisted method: mark %s persisted", b.m.Name)
	case o.keyed:
		if err := crustertype.CheckID("key", o.key); err != nil {
			return o, invalid("%w", err)
		}
	}
	return o, h.svc.serving()
}

// outcome runs a request to its end. A zero reqID: a new request.
func (h *entityHandle) outcome(ctx context.Context, up *invoke.Context, id string, b *binding, in any, o callOptions, reqID crustertype.RequestID) (crustertype.Outcome, error) {
	if b.m.Persisted || o.scheduled {
		addr := crustertype.Address{Type: h.name, ID: id}
		if up != nil && h.typ != nil && h.typ.Options.Concurrency == 1 && up.Awaits(addr) {
			return crustertype.Outcome{}, reentrant(up, addr)
		}
		msg, err := h.message(up, id, b, in, o, reqID, true)
		if err != nil {
			return crustertype.Outcome{}, err
		}
		return h.svc.run.Call(ctx, msg)
	}
	if h.typ == nil {
		return crustertype.Outcome{}, notRegistered("entity type", h.name)
	}
	act, err := h.typ.Activate(id)
	if err != nil {
		return crustertype.Outcome{}, err
	}
	payload, err := h.svc.calls.Encode(in)
	if err != nil {
		return crustertype.Outcome{}, err
	}
	var out crustertype.Outcome
	err = h.queue(ctx, act, b, up, func(ictx context.Context) error {
		v, err := h.invoke(ictx, b, payload)
		if err != nil {
			return err
		}
		out.Payload, err = h.svc.calls.Encode(v)
		out.Codec = h.svc.cfg.Codec.Name()
		return err
	})
	return out, err
}

// notify is the general form of [Notify].
func (h *entityHandle) notify(s Scope, id string, b *binding, in any, opts []CallOption) error {
	o, err := h.check(s, id, b, opts)
	if err != nil {
		return h.failed("notify", b, id, err)
	}
	if wf, ok := s.(*WorkflowContext); ok {
		_, err := wf.journal(crustertype.StepNotify, h.name+"."+b.m.Name, journaledCall{Entity: id, Request: in}, func(ctx context.Context, reqID crustertype.RequestID) (crustertype.Outcome, error) {
			return crustertype.Outcome{}, h.accept(ctx, nil, id, b, in, o, reqID)
		})
		return err
	}
	ctx, ok := s.(context.Context)
	if !ok {
		return h.failed("notify", b, id, invalid("a notification is made with a context.Context or a *WorkflowContext, not %T", s))
	}
	up := invoke.From(ctx)
	if up == nil && b.m.Protected {
		return h.failed("notify", b, id, h.admissible(b, up))
	}
	if err := h.accept(ctx, up, id, b, in, o, crustertype.RequestID{}); err != nil {
		return h.failed("notify", b, id, err)
	}
	return nil
}

// accept returns when a request is accepted.
func (h *entityHandle) accept(ctx context.Context, up *invoke.Context, id string, b *binding, in any, o callOptions, reqID crustertype.RequestID) error {
	if !b.m.Persisted && !o.scheduled {
		payload, err := h.svc.calls.Encode(in) // the sender may go on using in
		if err != nil {
			return err
		}
		if up != nil && !o.immediately && h.typ != nil && up.Collect(invoke.Sends{After: []func(){func() {
			if err := h.post(id, b, payload); err != nil {
				h.svc.cfg.Logger.Warn("notification is dropped", "type", h.name, "method", b.m.Name, "error", err)
			}
		}}}) {
			return nil
		}
		return h.post(id, b, payload)
	}
	msg, err := h.message(up, id, b, in, o, reqID, false)
	if err != nil {
		return err
	}
	unit := storage.Unit{Accepts: []crustertype.Message{msg}}
	if box := storage.OutboxFrom(ctx); box != nil && !o.immediately {
		return h.svc.calls.SendThrough(ctx, box, unit)
	}
	if up != nil && !o.immediately {
		if o.keyed {
			if dup, err := h.svc.calls.KnownKey(ctx, &msg); dup || err != nil {
				return err
			}
		}
		if up.Collect(invoke.Sends{Accepts: unit.Accepts}) {
			return nil
		}
	}
	if up != nil && up.TxOpen() {
		return errTxOpen
	}
	return h.svc.calls.Send(ctx, unit)
}

// post puts a best-effort notification into the entity's mailbox.
func (h *entityHandle) post(id string, b *binding, payload []byte) error {
	if h.typ == nil {
		return notRegistered("entity type", h.name)
	}
	act, err := h.typ.Activate(id)
	if err != nil {
		return err
	}
	v := &volatile{ctx: h.svc.run.Lifetime(), h: h, act: act, b: b, run: func(ictx context.Context) error {
		_, err := h.invoke(ictx, b, payload)
		return err
	}}
	v.Job = v
	return act.Push(&v.Entry, &h.typ.Options, h.svc.spawn)
}

// invoke runs a method with an encoded request.
func (h *entityHandle) invoke(ictx context.Context, b *binding, payload []byte) (any, error) {
	in, err := b.m.Decode(h.svc.cfg.Codec, payload)
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeEncoding, "decode the request of %s: %w", b.m.Name, err)
	}
	return b.m.Invoke(ictx, in)
}

// message makes the stored form of a request.
func (h *entityHandle) message(up *invoke.Context, id string, b *binding, in any, o callOptions, reqID crustertype.RequestID, awaited bool) (crustertype.Message, error) {
	now := time.Now()
	m := crustertype.Message{
		ID: reqID, Shard: h.svc.run.ShardOf(h.group, id), Address: crustertype.Address{Type: h.name, ID: id}, Method: b.m.Name,
		Codec: h.svc.cfg.Codec.Name(), State: crustertype.MessagePending, CreatedAt: now, Uninterrupted: o.uninterruptible,
	}
	var err error
	if m.Payload, err = h.svc.calls.Encode(in); err != nil {
		return m, err
	}
	switch {
	case o.keyed:
		m.Key, m.ID = o.key, crustertype.KeyedRequestID(m.Address, b.m.Name, o.key)
		if m.Digest, err = codec.Digest(in); err != nil {
			return m, crustertype.Errorf(crustertype.CodeEncoding, "digest the request of %s: %w", b.m.Name, err)
		}
	case m.ID.IsZero():
		m.ID = crustertype.NewRequestID()
	}
	if o.scheduled {
		m.DeliverAt = o.at
		if o.at.IsZero() {
			m.DeliverAt = now.Add(o.after)
		}
	}
	var meta crustertype.Meta
	if up != nil {
		meta.Internal = true
		meta.Caller = up.Address().String()
		if awaited {
			meta.Chain = up.Callers()
		}
	}
	m.Meta = crustertype.EncodeMeta(meta)
	return m, nil
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
	case !b.m.Stream:
		err = invalid("%s is not a stream", b.m.Name)
	case h.typ == nil:
		err = notRegistered("entity type", h.name)
	default:
		if err = crustertype.CheckID("entity ID", id); err != nil {
			err = invalid("%w", err)
		} else if err = h.svc.serving(); err == nil {
			err = h.admissible(b, invoke.From(ctx))
		}
	}
	if err != nil {
		return nil, h.failed("stream", b, id, err)
	}
	return ctx, nil
}
