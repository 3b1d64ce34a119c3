package dispatch

import (
	"context"
	"errors"
	"slices"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/internal/userror"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/transport"
)

// Serve answers a request of another runner. Type, method, visibility and
// ownership are checked before a body is decoded.
func (h *Host) Serve(ctx context.Context, op transport.Op, body []byte) ([]byte, error) {
	switch op {
	case OpVolatile, OpPost:
		return h.serveVolatile(ctx, body, op == OpVolatile)
	case OpCall, OpSend:
		return h.serveStored(ctx, body, op == OpCall)
	case OpAwait:
		var id crustertype.RequestID
		if len(body) != len(id) {
			return nil, errMalformed
		}
		copy(id[:], body)
		return replyWith(h.Run.Await(ctx, id))
	case OpJoin:
		ref, _, err := decodeExecution(body)
		if err != nil {
			return nil, err
		}
		return replyWith(h.Workflows.Wait(ctx, ref))
	case OpStart:
		return nil, h.serveStart(ctx, body)
	case OpPoll:
		return h.servePoll(ctx, body)
	case OpCancel, OpTerminate, OpRetry:
		ref, reason, err := decodeExecution(body)
		if err != nil {
			return nil, err
		}
		return nil, h.act(ctx, op, ref, reason)
	}
	return nil, crustertype.Errorf(crustertype.CodeInvalid, "operation %d is unknown: the sender runs another version of cruster", op)
}

// replyWith encodes an outcome. Errors that are no outcome travel as such.
func replyWith(out crustertype.Outcome, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return crustertype.EncodeOutcome(out), nil
}

// find returns what a request is for.
func (h *Host) find(a crustertype.Address, method string) (Target, Method, error) {
	typ := h.Run.Type(a.Type)
	if typ == nil {
		return Target{}, Method{}, NotRegistered("entity type", a.Type)
	}
	m := typ.Methods[method]
	if m == nil {
		return Target{}, Method{}, crustertype.Errorf(crustertype.CodeNotRegistered, "entity type %q has no method %q on its owner: all runners of a shard group need the same program", a.Type, method)
	}
	if err := crustertype.CheckID("entity ID", a.ID); err != nil {
		return Target{}, Method{}, crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	return Target{Host: h, Name: typ.Name, Group: typ.Group, Type: typ}, Method{M: m, What: invoke.What{Type: typ.Name, Method: m.Name}}, nil
}

// mayCall refuses requests to protected methods from outside of handlers, and
// those whose caller has another idea of the method.
func mayCall(m *Method, internal, persisted, stream bool) error {
	switch {
	case m.M.Protected && !internal:
		return crustertype.Errorf(crustertype.CodeForbidden, "the method is protected: it can be called from inside handlers and workflows only")
	case m.M.Stream != stream, m.M.Persisted && !persisted:
		return crustertype.Errorf(crustertype.CodeContract, "method %s has another kind or delivery on its owner: deploy the same contract everywhere", m.M.Name)
	}
	return nil
}

// inbound is a best-effort request of another runner.
type inbound struct {
	Target
	method  Method
	shard   crustertype.Shard
	info    invoke.Info
	codec   codec.Codec
	payload []byte
	plain   bool // nothing travelled with it: info says no more than the method
}

// inboundOf prepares an encoded best-effort request.
func (h *Host) inboundOf(body []byte, stream bool) (*inbound, error) {
	e, err := transport.Decode(body)
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	q := &inbound{payload: e.Payload, plain: len(e.Meta) == 0}
	if q.Target, q.method, err = h.find(e.Address, e.Method); err == nil {
		err = mayCall(&q.method, e.Internal, false, stream)
	}
	if err != nil {
		return nil, err
	}
	q.shard = h.Run.ShardOf(q.Group, e.Address.ID)
	if !h.Run.Open(q.shard) {
		return nil, crustertype.ErrNotOwner
	}
	if q.codec, err = h.Lookup(e.Codec); err != nil {
		return nil, crustertype.Errorf(crustertype.CodeEncoding, "%w", err)
	}
	meta, err := crustertype.DecodeMeta(e.Meta)
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	q.info = invoke.Info{Address: e.Address, Method: q.method.M.Name, Attempt: 1, Chain: meta.Chain, Meta: meta, Collect: true}
	return q, nil
}

func (h *Host) serveVolatile(ctx context.Context, body []byte, awaited bool) ([]byte, error) {
	q, err := h.inboundOf(body, false)
	if err != nil {
		return nil, err
	}
	if !awaited {
		return nil, q.post()
	}
	id := q.info.Address.ID
	if !q.reentrant() {
		if act, free, err := q.Enter(id); err == nil && free {
			return q.run(ctx, act)
		}
	}
	return answered(q.runHere(ctx, id, &Volatile{m: &q.method, info: &q.info}, q.codec, q.payload))
}

// reentrant reports whether the entity awaits this request. Queueing refuses it.
func (q *inbound) reentrant() bool {
	return q.Type.Options.Concurrency == 1 && slices.Contains(q.info.Chain, q.info.Address)
}

// run runs the request on this goroutine, which has the entity's turn.
func (q *inbound) run(ctx context.Context, act *runner.Activation) (reply []byte, err error) {
	m := q.method.M
	if m.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, m.Timeout, crustertype.ErrTimeout)
		defer cancel()
	}
	var ictx *invoke.Context
	if q.plain {
		ictx = invoke.NewLight(ctx, act.Lifetime(), &q.method.What, q.info.Address.ID, nil)
	} else {
		ictx = invoke.New(ctx, act.Lifetime(), &q.info)
	}
	end := q.Probe.Begin(ictx, observe.BestEffort, q.info.Meta, 1)
	returned := false
	defer func() {
		ictx.End()
		act.Leave(q.Run.Spawn)
		if returned {
			return
		}
		err = crustertype.Errorf(crustertype.CodePanic, "the handler called runtime.Goexit") // the transport tells the caller
		if p := recover(); p != nil {
			err = invoke.PanicError(p)
		}
		end(err)
		reply, err = answered(crustertype.Outcome{}, q.Failed("call", &q.method, q.info.Address.ID, err))
	}()
	var out crustertype.Outcome
	v, err := q.invoke(ictx, &q.method, q.codec, q.payload)
	if err == nil {
		out.Payload, err = q.Encode(v)
		out.Codec = q.Codec.Name()
	}
	end(err)
	if err != nil {
		err = Travelled(err)
	} else if ictx.Collected() {
		err = q.CommitSends(ctx, ictx)
	}
	returned = true
	return answered(out, err)
}

// answered encodes the answer to a best-effort request.
func answered(out crustertype.Outcome, err error) ([]byte, error) {
	if err != nil && entered(err) {
		out, err = crustertype.Outcome{Failure: userror.Encode(err)}, nil
	}
	return replyWith(out, err)
}

// entered reports that an error comes from a handler that was entered.
func entered(err error) bool {
	var e *crustertype.Error
	return errors.As(err, &e) && (e.Executed || e.Code == crustertype.CodeUser || e.Code == crustertype.CodePanic)
}

// post queues a request that nobody waits for.
func (q *inbound) post() error {
	act, err := q.Type.Activate(q.info.Address.ID)
	if err != nil {
		return err
	}
	v := &Volatile{ctx: act.Lifetime(), t: &q.Target, act: act, m: &q.method, info: &q.info, run: func(ictx context.Context) error {
		_, err := q.invoke(ictx, &q.method, q.codec, q.payload)
		return err
	}}
	v.Job = v
	return act.Push(&v.Entry, &q.Type.Options, q.Run.Spawn)
}

func (h *Host) serveStored(ctx context.Context, body []byte, awaited bool) ([]byte, error) {
	msg, err := decodeMessage(body)
	if err != nil {
		return nil, err
	}
	t, m, err := h.find(msg.Address, msg.Method)
	if err != nil {
		return nil, err
	}
	meta, err := crustertype.DecodeMeta(msg.Meta)
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	if err := mayCall(&m, meta.Internal, true, false); err != nil {
		return nil, err
	}
	if len(msg.Payload) > h.MaxPayload {
		return nil, crustertype.Errorf(crustertype.CodeTooLarge, "the request has %d bytes encoded: at most %d are allowed", len(msg.Payload), h.MaxPayload)
	}
	if awaited && t.Type.Options.Concurrency == 1 {
		for _, a := range meta.Chain {
			if a == msg.Address {
				return nil, reentrant(nil, msg.Address)
			}
		}
	}
	msg.Shard = h.Run.ShardOf(t.Group, msg.Address.ID)
	if !h.Run.Open(msg.Shard) {
		return nil, crustertype.ErrNotOwner
	}
	if awaited {
		return replyWith(h.Run.Call(ctx, msg))
	}
	return nil, h.Send(ctx, storage.Unit{Accepts: []crustertype.Message{msg}})
}

// ServeStream answers a stream of another runner.
func (h *Host) ServeStream(ctx context.Context, op transport.Op, body []byte, send func([]byte) error) error {
	if op != OpStream {
		return crustertype.Errorf(crustertype.CodeInvalid, "operation %d is no stream: the sender runs another version of cruster", op)
	}
	q, err := h.inboundOf(body, true)
	if err != nil {
		return err
	}
	m := &q.method
	life, leave, err := q.EnterStream(q.info.Address.ID)
	if err != nil {
		return err
	}
	defer leave()
	if m.M.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, m.M.Timeout, crustertype.ErrTimeout)
		defer cancel()
	}
	in, err := m.M.Decode(q.codec, q.payload)
	if err != nil {
		return crustertype.Errorf(crustertype.CodeEncoding, "decode the request of %s: %w", m.M.Name, err)
	}
	ictx := invoke.New(ctx, life, &q.info)
	defer ictx.End()
	end := h.Probe.Begin(ictx, observe.Stream, q.info.Meta, 1)
	err = q.produce(ictx, m, in, send)
	end(err)
	return err
}

func (t *Target) produce(ictx *invoke.Context, m *Method, in any, send func([]byte) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = invoke.PanicError(p)
		}
	}()
	for v, err := range m.M.Iterate(ictx, in) {
		out := crustertype.Outcome{Codec: t.Codec.Name()}
		if err == nil && ictx.Err() != nil {
			err = context.Cause(ictx)
		}
		if err == nil {
			out.Payload, err = t.Encode(v)
		}
		if err != nil {
			out = crustertype.Outcome{Failure: userror.Encode(err)}
		}
		if sendErr := send(crustertype.EncodeOutcome(out)); sendErr != nil || err != nil {
			return sendErr
		}
	}
	return nil
}
