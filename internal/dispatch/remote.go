package dispatch

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/transport"
)

// Router finds the owner of a shard and asks it.
type Router interface {
	// Ask sends a request to the owner of a shard. While there is none, or it
	// cannot be reached, it tries again, as long as patience and ctx allow. It
	// returns ErrHere when the owner is this runner.
	Ask(ctx context.Context, shard crustertype.Shard, op transport.Op, body []byte, p Patience) ([]byte, error)
	// Stream does the same for a stream. What has begun is not begun again.
	Stream(ctx context.Context, shard crustertype.Shard, op transport.Op, body []byte) iter.Seq2[[]byte, error]
	// Tell lets the owner of a shard know of work that was stored for it. It
	// does not block, and may fail unseen: storage is searched too.
	Tell(n Note)
}

// Patience says how long to look for an owner.
type Patience struct {
	// For is how long, when ctx does not end before; 0: the router's default;
	// below 0: as long as ctx.
	For time.Duration
	// Idempotent requests are sent again also when they may have been received.
	Idempotent bool
}

// Note tells of work that was stored for a shard.
type Note struct {
	Shard     crustertype.Shard
	At        time.Time                // a message is due then; zero: now
	Execution crustertype.ExecutionRef // zero: a message
}

// fallback is how long the owner is looked for before a persisted request is
// written straight to storage.
const fallback = time.Second

// longestLook is how long a waiter tries to reach an owner before it looks into
// storage again, where the outcome may be meanwhile.
const longestLook = 8 * time.Second

// unreachable reports that the owner of a shard was not found or not reached.
func unreachable(err error) bool {
	switch crustertype.CodeOf(err) {
	case crustertype.CodeUnavailable, crustertype.CodeNotOwner, crustertype.CodeShuttingDown, crustertype.CodeNotStarted:
		return true
	default:
		return false
	}
}

// runThere runs an encoded best-effort request on the shard's owner.
func (t *Target) runThere(ctx context.Context, up *invoke.Context, id string, m *Method, payload []byte) (crustertype.Outcome, error) {
	defer invoke.Rest(ctx)()
	reply, err := t.Router.Ask(ctx, t.Run.ShardOf(t.Group, id), OpVolatile, t.envelope(ctx, up, id, m, payload, true), Patience{})
	if err != nil {
		return crustertype.Outcome{}, err
	}
	return outcomeOf(reply)
}

func (t *Target) postThere(ctx context.Context, up *invoke.Context, id string, m *Method, payload []byte) error {
	_, err := t.Router.Ask(ctx, t.Run.ShardOf(t.Group, id), OpPost, t.envelope(ctx, up, id, m, payload, false), Patience{})
	return err
}

func (t *Target) envelope(ctx context.Context, up *invoke.Context, id string, m *Method, payload []byte, awaited bool) []byte {
	e := transport.Envelope{
		Address: t.address(id), Method: m.M.Name, Internal: up != nil, OneWay: !awaited, Codec: t.Codec.Name(), Payload: payload, Meta: t.metaOf(ctx, up, awaited),
	}
	size := envelopeHead + len(t.Name) + len(id) + len(e.Method) + len(e.Codec) + len(e.Meta) + len(payload)
	return e.Encode(make([]byte, 0, size))
}

// envelopeHead is enough for what has a fixed size in an envelope, and for the
// lengths of the rest.
const envelopeHead = 48

func outcomeOf(reply []byte) (crustertype.Outcome, error) {
	out, err := crustertype.DecodeOutcome(reply)
	if err != nil {
		e := crustertype.Errorf(crustertype.CodeEncoding, "%w", err)
		e.Executed = true
		return out, e
	}
	return out, nil
}

// StreamThere iterates a stream on the shard's owner: decode takes an item from
// an outcome's form.
func (t *Target) StreamThere(ctx context.Context, id string, m *Method, in any, item Decoder) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		up := invoke.From(ctx)
		payload, err := t.Encode(in)
		if err != nil {
			yield(nil, err)
			return
		}
		body := t.envelope(ctx, up, id, m, payload, true)
		for chunk, err := range t.Router.Stream(ctx, t.Run.ShardOf(t.Group, id), OpStream, body) {
			var v any
			if err == nil {
				var out crustertype.Outcome
				if out, err = outcomeOf(chunk); err == nil {
					v, err = t.DecodeOutcome(out, item)
				}
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// briefly pauses before something is tried again that met a shard which is just
// moving, and reports whether ctx did not end meanwhile.
func briefly(ctx context.Context, try int) bool {
	t := time.NewTimer(time.Millisecond << min(try, 6))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// CallStored stores a request with the owner of its shard and waits for the
// outcome, whoever owns the shard meanwhile.
func (h *Host) CallStored(ctx context.Context, m crustertype.Message) (crustertype.Outcome, error) {
	defer invoke.Rest(ctx)()
	switch {
	case h.Router == nil:
		return h.Run.Call(ctx, m)
	case h.Client:
		return h.clientCall(ctx, m)
	}
	for try := 0; ; try++ {
		out, err := h.Run.Call(ctx, m)
		if !errors.Is(err, crustertype.ErrNotOwner) || ctx.Err() != nil {
			return out, err
		}
		// To send it twice does no harm: its ID makes it one, and whoever has sent
		// another body under its key hears of it.
		reply, err := h.Router.Ask(ctx, m.Shard, OpCall, encodeMessage(&m), Patience{For: fallback, Idempotent: true})
		switch {
		case errors.Is(err, ErrHere):
			briefly(ctx, try)
			continue
		case err == nil:
			return outcomeOf(reply)
		case ctx.Err() != nil || !unreachable(err):
			return out, err
		}
		if err := h.storeFor(ctx, m); err != nil {
			return out, err
		}
		return h.AwaitStored(ctx, m.Shard, m.ID)
	}
}

func executed(err error) bool {
	var e *crustertype.Error
	return errors.As(err, &e) && e.Executed
}

// SendStored returns when a request is durable.
func (h *Host) SendStored(ctx context.Context, m crustertype.Message) error {
	p := Patience{For: fallback, Idempotent: true}
	if h.Client { // which has nothing to fall back to
		p.For = 0
	}
	for h.Router != nil && !h.Run.Open(m.Shard) {
		_, err := h.Router.Ask(ctx, m.Shard, OpSend, encodeMessage(&m), p)
		switch {
		case errors.Is(err, ErrHere):
			continue
		case h.Client:
			return noStorage(ctx, err)
		case ctx.Err() == nil && unreachable(err):
			return h.storeFor(ctx, m)
		}
		return err
	}
	return h.Send(ctx, storage.Unit{Accepts: []crustertype.Message{m}})
}

// storeFor writes a request straight to storage: the owner is not there. It gets
// its place in the order from the next one.
func (h *Host) storeFor(ctx context.Context, m crustertype.Message) error {
	res, err := h.Run.Commit.Do(ctx, storage.Unit{Accepts: []crustertype.Message{m}})
	switch {
	case ctx.Err() != nil && err != nil:
		return StoppedWaiting(ctx, true)
	case err != nil:
		return crustertype.Errorf(crustertype.CodeUnavailable, "not stored: %w", err)
	}
	if err := conflict(res, [][16]byte{m.Digest}); err != nil {
		return err
	}
	h.Router.Tell(Note{Shard: m.Shard, At: m.DeliverAt})
	return nil
}

// AwaitStored waits for the outcome of a stored request. A zero shard: the one
// that storage says.
func (h *Host) AwaitStored(ctx context.Context, shard crustertype.Shard, id crustertype.RequestID) (crustertype.Outcome, error) {
	defer invoke.Rest(ctx)()
	if h.Client {
		return h.clientAwait(ctx, shard, id)
	}
	for look := fallback; ; look = min(2*look, longestLook) {
		out, err := h.Run.Await(ctx, id)
		if h.Router == nil || !errors.Is(err, crustertype.ErrNotOwner) || ctx.Err() != nil {
			return out, err
		}
		if h.Run.Lifetime().Err() != nil {
			return out, stopsWaiting()
		}
		if shard.Group == "" {
			m, err := h.Store.Message(ctx, id)
			if err != nil {
				return out, crustertype.Errorf(crustertype.CodeUnavailable, "look up request %s: %w", id, err)
			}
			shard = m.Shard
		}
		reply, err := h.Router.Ask(ctx, shard, OpAwait, id[:], Patience{For: look, Idempotent: true})
		switch {
		case errors.Is(err, ErrHere), unreachable(err) && ctx.Err() == nil:
			briefly(ctx, 3)
			continue
		case err != nil:
			return out, err
		}
		return outcomeOf(reply)
	}
}

// stopsWaiting is the error of who waits on a runner that has stopped.
func stopsWaiting() error {
	e := crustertype.Errorf(crustertype.CodeShuttingDown, "the service has stopped; what is waited for goes on elsewhere: wait for it there")
	e.Executed = true
	return e
}

// Join waits for the outcome of an execution.
func (h *Host) Join(ctx context.Context, shard crustertype.Shard, ref crustertype.ExecutionRef) (crustertype.Outcome, error) {
	defer invoke.Rest(ctx)()
	if h.Client {
		return h.clientJoin(ctx, shard, ref)
	}
	for look := fallback; ; look = min(2*look, longestLook) {
		out, err := h.Workflows.Wait(ctx, ref)
		if h.Router == nil || !errors.Is(err, crustertype.ErrNotOwner) || ctx.Err() != nil {
			return out, err
		}
		if h.Run.Lifetime().Err() != nil {
			return out, stopsWaiting()
		}
		if x, err := h.Store.Execution(ctx, ref); err == nil {
			shard = x.Shard // the workflow's group may be unknown here
		}
		reply, err := h.Router.Ask(ctx, shard, OpJoin, encodeExecution(ref, ""), Patience{For: look, Idempotent: true})
		switch {
		case errors.Is(err, ErrHere), unreachable(err) && ctx.Err() == nil:
			briefly(ctx, 3)
			continue
		case err != nil:
			return out, err
		}
		return outcomeOf(reply)
	}
}

// Act cancels, terminates or retries an execution, on the owner of its shard.
func (h *Host) Act(ctx context.Context, op transport.Op, shard crustertype.Shard, ref crustertype.ExecutionRef, reason string) error {
	for h.Router != nil && !h.Run.Open(shard) {
		_, err := h.Router.Ask(ctx, shard, op, encodeExecution(ref, reason), Patience{Idempotent: op != OpRetry})
		if !errors.Is(err, ErrHere) {
			return err
		}
	}
	return h.act(ctx, op, ref, reason)
}

func (h *Host) act(ctx context.Context, op transport.Op, ref crustertype.ExecutionRef, reason string) error {
	switch op {
	case OpCancel:
		return h.Workflows.Cancel(ctx, ref, reason)
	case OpTerminate:
		return h.Workflows.Terminate(ctx, ref, reason)
	default:
		return h.Workflows.Retry(ctx, ref)
	}
}

// Nudge tells the owner of a shard to look at what is stored for it.
func (h *Host) Nudge(shard crustertype.Shard) {
	if h.Router == nil || h.Run.Open(shard) {
		h.Run.NudgeAdopt()
		h.Run.WakeDuties(shard)
		return
	}
	h.Router.Tell(Note{Shard: shard})
}
