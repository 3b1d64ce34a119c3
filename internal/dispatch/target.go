package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/storage"
)

// Target is one entity type as callers see it.
type Target struct {
	*Host
	Name  string
	Group string             // shard group
	Type  *runner.EntityType // nil: this process does not host the type
}

// Method is one method of a Target.
type Method struct {
	M    *runner.Method
	What invoke.What
}

// Options are those of one call.
type Options struct {
	At              time.Time
	After           time.Duration
	Scheduled       bool
	Key             string
	Keyed           bool
	Uninterruptible bool
	Immediately     bool
}

func (t *Target) address(id string) crustertype.Address {
	return crustertype.Address{Type: t.Name, ID: id}
}

// Failed names the call in an error of cruster's own. nil stays nil.
func (t *Target) Failed(verb string, m *Method, id string, err error) error {
	if err == nil {
		return nil
	}
	op, addr := verb+" "+t.Name+"."+m.M.Name, t.address(id)
	var e *crustertype.Error
	if errors.As(err, &e) {
		if e.Op == "" && e.Address.IsZero() && e.Code != crustertype.CodeUser { // a sentinel, or not named yet: never modify it
			c := *e
			return c.At(op, addr)
		}
		return err
	}
	return crustertype.Errorf(crustertype.CodeUnknown, "%w", err).At(op, addr)
}

// Check reports what is wrong with a call whatever the entity's state.
func (t *Target) Check(id string, m *Method, o Options) error {
	if err := crustertype.CheckID("entity ID", id); err != nil {
		return invalid("%w", err)
	}
	switch {
	case m.M.Stream:
		return invalid("%s is a stream: call it with cruster.Stream", m.M.Name)
	case o.Keyed && !m.M.Persisted:
		return invalid("Key needs a persisted method: mark %s persisted", m.M.Name)
	case o.Uninterruptible && !m.M.Persisted:
		return invalid("Uninterruptible needs a persisted method: mark %s persisted", m.M.Name)
	case o.Keyed:
		if err := crustertype.CheckID("key", o.Key); err != nil {
			return invalid("%w", err)
		}
	}
	return nil
}

// Admissible reports why a caller may not call a method and wait for it.
func (t *Target) Admissible(m *Method, up *invoke.Context) error {
	if up == nil {
		if m.M.Protected {
			return crustertype.Errorf(crustertype.CodeForbidden, "the method is protected: it can be called from inside handlers and workflows only")
		}
		return nil
	}
	if up.TxOpen() {
		return ErrTxOpen
	}
	return nil
}

// Outcome runs a request to its end. A zero reqID: a new request.
func (t *Target) Outcome(ctx context.Context, up *invoke.Context, id string, m *Method, in any, o Options, reqID crustertype.RequestID) (crustertype.Outcome, error) {
	if !m.M.Persisted && !o.Scheduled {
		return t.volatileOutcome(ctx, up, id, m, in)
	}
	if addr := t.address(id); up != nil && t.Type != nil && t.Type.Options.Concurrency == 1 && up.Awaits(addr) {
		return crustertype.Outcome{}, reentrant(up, addr)
	}
	msg, err := t.message(ctx, up, id, m, in, o, reqID, true)
	if err != nil {
		return crustertype.Outcome{}, err
	}
	if err := t.unknownHere(id); err != nil {
		return crustertype.Outcome{}, err
	}
	return t.CallStored(ctx, msg)
}

// volatileOutcome runs a best-effort request, here or on the shard's owner.
func (t *Target) volatileOutcome(ctx context.Context, up *invoke.Context, id string, m *Method, in any) (crustertype.Outcome, error) {
	if t.Type == nil && t.Router == nil {
		return crustertype.Outcome{}, NotRegistered("entity type", t.Name)
	}
	payload, err := t.Encode(in)
	if err != nil {
		return crustertype.Outcome{}, err
	}
	for {
		if t.Type != nil {
			out, err := t.runHere(ctx, id, &Volatile{m: m, up: up}, t.Codec, payload)
			if t.Router == nil || !errors.Is(err, crustertype.ErrNotOwner) { // a handler's own errors have other codes
				return out, err
			}
		}
		out, err := t.runThere(ctx, up, id, m, payload)
		if !errors.Is(err, ErrHere) {
			return out, err
		}
		if t.Type == nil {
			return out, NotRegistered("entity type", t.Name)
		}
	}
}

// unknownHere reports that this runner owns an entity whose type it does not
// host. Others would be told so by it.
func (t *Target) unknownHere(id string) error {
	if t.Type == nil && t.Router != nil && t.Run.Open(t.Run.ShardOf(t.Group, id)) {
		return NotRegistered("entity type", t.Name)
	}
	return nil
}

// runHere runs an encoded best-effort request on this runner.
func (t *Target) runHere(ctx context.Context, id string, v *Volatile, c codec.Codec, payload []byte) (crustertype.Outcome, error) {
	var err error
	if v.act, err = t.Type.Activate(id); err != nil {
		return crustertype.Outcome{}, err
	}
	var out crustertype.Outcome
	v.run = func(ictx context.Context) error {
		reply, err := t.invoke(ictx, v.m, c, payload)
		if err != nil {
			return err
		}
		out.Payload, err = t.Encode(reply)
		out.Codec = t.Codec.Name()
		return err
	}
	if err := t.queue(ctx, v); err != nil {
		return crustertype.Outcome{}, err // the handler may be running still
	}
	return out, nil
}

// invoke runs a method with an encoded request.
func (t *Target) invoke(ictx context.Context, m *Method, c codec.Codec, payload []byte) (any, error) {
	in, err := m.M.Decode(c, payload)
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeEncoding, "decode the request of %s: %w", m.M.Name, err)
	}
	return m.M.Invoke(ictx, in)
}

// Accept returns when a request is accepted.
func (t *Target) Accept(ctx context.Context, up *invoke.Context, id string, m *Method, in any, o Options, reqID crustertype.RequestID) error {
	if !m.M.Persisted && !o.Scheduled {
		payload, err := t.Encode(in) // the sender may go on using in
		if err != nil {
			return err
		}
		if up != nil && !o.Immediately && up.Collect(invoke.Sends{After: []func(){func() { t.postLater(up, id, m, payload) }}}) {
			return nil
		}
		return t.post(ctx, up, id, m, payload)
	}
	msg, err := t.message(ctx, up, id, m, in, o, reqID, false)
	if err != nil {
		return err
	}
	unit := storage.Unit{Accepts: []crustertype.Message{msg}}
	if box := storage.OutboxFrom(ctx); box != nil && !o.Immediately {
		return t.SendThrough(ctx, box, unit)
	}
	if up != nil && !o.Immediately {
		if o.Keyed {
			if dup, err := t.KnownKey(ctx, &msg); dup || err != nil {
				return err
			}
		}
		if up.Collect(invoke.Sends{Accepts: unit.Accepts}) {
			return nil
		}
	}
	if up != nil && up.TxOpen() {
		return ErrTxOpen
	}
	if err := t.unknownHere(id); err != nil {
		return err
	}
	return t.SendStored(ctx, msg)
}

// postLater sends a best-effort notification of a handler that has committed.
// Nobody waits for it, so a failure is logged.
func (t *Target) postLater(up *invoke.Context, id string, m *Method, payload []byte) {
	send := func(ctx context.Context) {
		if err := t.post(ctx, up, id, m, payload); err != nil {
			t.Logger.WarnContext(ctx, "notification is dropped", "type", t.Name, "method", m.M.Name, "error", err)
		}
	}
	if t.Type != nil && t.Run.Open(t.Run.ShardOf(t.Group, id)) || t.Router == nil {
		send(t.Run.Lifetime())
		return
	}
	t.Run.Spawn(func() { send(t.Run.Lifetime()) }) // the caller may be the commit lane
}

// post puts a best-effort notification into the entity's mailbox.
func (t *Target) post(ctx context.Context, up *invoke.Context, id string, m *Method, payload []byte) error {
	for {
		err := t.postHere(id, m, payload)
		if t.Router == nil || !errors.Is(err, crustertype.ErrNotOwner) {
			return err
		}
		if err = t.postThere(ctx, up, id, m, payload); !errors.Is(err, ErrHere) {
			return err
		}
		if t.Type == nil {
			return NotRegistered("entity type", t.Name)
		}
	}
}

func (t *Target) postHere(id string, m *Method, payload []byte) error {
	if t.Type == nil {
		if t.Router != nil {
			return crustertype.ErrNotOwner
		}
		return NotRegistered("entity type", t.Name)
	}
	act, err := t.Type.Activate(id)
	if err != nil {
		return err
	}
	v := &Volatile{ctx: act.Lifetime(), t: t, act: act, m: m, run: func(ictx context.Context) error {
		_, err := t.invoke(ictx, m, t.Codec, payload)
		return err
	}}
	v.Job = v
	return act.Push(&v.Entry, &t.Type.Options, t.Run.Spawn)
}

// message makes the stored form of a request.
func (t *Target) message(ctx context.Context, up *invoke.Context, id string, b *Method, in any, o Options, reqID crustertype.RequestID, awaited bool) (crustertype.Message, error) {
	now := time.Now()
	m := crustertype.Message{
		ID: reqID, Shard: t.Run.ShardOf(t.Group, id), Address: t.address(id), Method: b.M.Name,
		Codec: t.Codec.Name(), State: crustertype.MessagePending, CreatedAt: now, Uninterrupted: o.Uninterruptible,
	}
	var err error
	if m.Payload, err = t.Encode(in); err != nil {
		return m, err
	}
	switch {
	case o.Keyed:
		m.Key, m.ID = o.Key, crustertype.KeyedRequestID(m.Address, b.M.Name, o.Key)
		if m.Digest, err = codec.Digest(in); err != nil {
			return m, crustertype.Errorf(crustertype.CodeEncoding, "digest the request of %s: %w", b.M.Name, err)
		}
	case m.ID.IsZero():
		m.ID = crustertype.NewRequestID()
	}
	if o.Scheduled {
		m.DeliverAt = o.At
		if o.At.IsZero() {
			m.DeliverAt = now.Add(o.After)
		}
	}
	m.Meta = t.metaOf(ctx, up, awaited)
	return m, nil
}

// TickMessage makes the request that a cron's tick sends. Equal keys make equal
// requests. It leaves no tombstone.
func (t *Target) TickMessage(id string, m *Method, in any, key string) (crustertype.Message, error) {
	if err := t.Check(id, m, Options{}); err != nil {
		return crustertype.Message{}, err
	}
	reqID := crustertype.KeyedRequestID(t.address(id), m.M.Name, key)
	msg, err := t.message(t.Run.Lifetime(), nil, id, m, in, Options{}, reqID, false)
	if err == nil {
		msg.Meta = crustertype.EncodeMeta(crustertype.Meta{Internal: true, Caller: "cron"})
	}
	return msg, err
}

// Meta returns what travels with a start: the trace context.
func (h *Host) Meta(ctx context.Context) []byte {
	var meta crustertype.Meta
	h.Probe.Inject(ctx, &meta)
	return crustertype.EncodeMeta(meta)
}

func (h *Host) metaOf(ctx context.Context, up *invoke.Context, awaited bool) []byte {
	var meta crustertype.Meta
	h.Probe.Inject(ctx, &meta)
	if up != nil {
		meta.Internal = true
		meta.Caller = up.Address().String()
		if awaited {
			meta.Chain = up.Callers()
		}
	}
	return crustertype.EncodeMeta(meta)
}

func invalid(format string, args ...any) *crustertype.Error {
	return crustertype.Errorf(crustertype.CodeInvalid, format, args...)
}

// NotRegistered is the error of a name that this process does not know.
func NotRegistered(what, name string) *crustertype.Error {
	return crustertype.Errorf(crustertype.CodeNotRegistered, "%s %q is not registered: register it before Start, on every runner that hosts its %ss", what, name, what)
}

// ErrTxOpen is returned by calls that wait while the caller's transaction is
// open.
var ErrTxOpen = crustertype.Errorf(crustertype.CodeTxOpen,
	"an awaiting call while the transaction is open would wait for it: call before the first statement, or use Notify, which commits with the transaction")
