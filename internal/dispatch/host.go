// Package dispatch is the untyped core under the generic verbs of the root: how
// values travel, how sends are stored, and what becomes of outcomes.
package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/internal/userror"
	"github.com/cruster-go/cruster/storage"
)

// Host is the service that calls are made through.
type Host struct {
	Run        *runner.Runner
	Workflows  *replay.Engine
	Store      storage.Store
	Codec      codec.Codec
	Lookup     func(name string) (codec.Codec, error)
	Logger     *slog.Logger
	MaxPayload int
	Streams    Gate
	// Probe follows handlers; nil: nobody does.
	Probe *invoke.Probe
	// Client: there is no storage, and nothing is hosted.
	Client bool
	// Router reaches other runners; nil: there are none.
	Router Router
}

// Decoder turns a stored or untyped reply into the caller's type.
type Decoder func(decode func(any) error) (any, error)

// Encode encodes a value within the payload limit.
func (h *Host) Encode(v any) ([]byte, error) {
	b, err := h.Codec.Marshal(v)
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeEncoding, "encode %T: %w", v, err)
	}
	if len(b) > h.MaxPayload {
		return nil, crustertype.Errorf(crustertype.CodeTooLarge, "%T has %d bytes encoded: at most %d are allowed; pass a reference to the data, or raise MaxPayload", v, len(b), h.MaxPayload)
	}
	return b, nil
}

// DecodeOutcome turns an outcome into what the caller gets.
func (h *Host) DecodeOutcome(o crustertype.Outcome, reply Decoder) (any, error) {
	if o.Failure != nil {
		return nil, userror.Decode(o.Failure)
	}
	return reply(func(v any) error {
		if o.Codec == "" && len(o.Payload) == 0 {
			return nil
		}
		c, err := h.Lookup(o.Codec)
		if err == nil {
			err = c.Unmarshal(o.Payload, v)
		}
		if err != nil {
			e := crustertype.Errorf(crustertype.CodeEncoding, "decode the reply into %T: %w", v, err)
			e.Executed = true
			return e
		}
		return nil
	})
}

// maxFenced is how often sends are tried that meet a shard which is just moving.
const maxFenced = 10

// Send stores sends in one commit and returns when they are durable.
func (h *Host) Send(ctx context.Context, unit storage.Unit) error {
	var err error
	for try := range maxFenced {
		if err = h.sendOnce(ctx, unit); !errors.Is(err, storage.ErrFenced) || !briefly(ctx, try) {
			return err
		}
	}
	return err
}

func (h *Host) sendOnce(ctx context.Context, unit storage.Unit) error {
	type answer struct {
		res storage.Result
		err error
	}
	digests := digestsOf(unit.Accepts)
	unit.Accepts = slices.Clone(unit.Accepts) // each try gives them their place anew
	ch := make(chan answer, 1)
	h.Run.Send(unit, func(res storage.Result, err error) {
		if err == nil {
			h.Workflows.Started(unit.Starts, res.Starts)
		}
		ch <- answer{res, err}
	})
	select {
	case a := <-ch:
		if a.err != nil {
			return crustertype.Errorf(crustertype.CodeUnavailable, "not stored: %w", a.err)
		}
		return conflict(a.res, digests)
	case <-ctx.Done():
		return StoppedWaiting(ctx, true)
	}
}

func digestsOf(msgs []crustertype.Message) [][16]byte {
	digests := make([][16]byte, len(msgs))
	for i := range msgs {
		digests[i] = msgs[i].Digest
	}
	return digests
}

// conflict reports a key that was used with another body.
func conflict(res storage.Result, digests [][16]byte) error {
	for i, acc := range res.Accepts {
		if m := acc.Existing; m != nil && m.Digest != digests[i] {
			return runner.KeyConflict(m.Address, m.Method, m.Key)
		}
	}
	return nil
}

// SendThrough writes sends into a transaction of the user's.
func (h *Host) SendThrough(ctx context.Context, box storage.Outbox, unit storage.Unit) error {
	digests := digestsOf(unit.Accepts)
	res, err := box.Send(ctx, unit)
	if err == nil {
		err = conflict(res, digests)
	}
	if err != nil {
		return err
	}
	box.OnCommit(func() {
		h.Run.Admit(unit.Accepts, res.Accepts)
		h.Workflows.Started(unit.Starts, res.Starts)
	})
	return nil
}

// KnownKey reports whether a keyed message is stored already.
func (h *Host) KnownKey(ctx context.Context, m *crustertype.Message) (bool, error) {
	have, err := h.Store.Message(ctx, m.ID)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return false, nil
	case err != nil:
		return false, crustertype.Errorf(crustertype.CodeUnavailable, "look up key %q: %w", m.Key, err)
	case have.Digest != m.Digest:
		return true, runner.KeyConflict(m.Address, m.Method, m.Key)
	}
	return true, nil
}

// CommitSends sends what a best-effort handler has collected.
func (h *Host) CommitSends(ctx context.Context, ictx *invoke.Context) error {
	sends := ictx.Sends()
	if len(sends.Accepts)+len(sends.Starts) > 0 {
		if err := h.Send(ctx, storage.Unit{Accepts: sends.Accepts, Starts: sends.Starts}); err != nil {
			// The handler has run, whatever became of what it sent.
			e := crustertype.Errorf(crustertype.CodeOf(err), "the handler has run, but what it sent was not stored: %w", err)
			e.Executed = true
			return e
		}
	}
	for _, f := range sends.After {
		f()
	}
	return nil
}

// StoppedWaiting is the error of a caller whose context ended. executed: the
// handler may have begun.
func StoppedWaiting(ctx context.Context, executed bool) *crustertype.Error {
	code, what := crustertype.CodeCancelled, "the caller gave up"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code, what = crustertype.CodeTimeout, "the caller's deadline passed"
	}
	if executed {
		what += " while the handler ran"
	} else {
		what += " before the handler began"
	}
	e := crustertype.Errorf(code, "%s: %w", what, context.Cause(ctx))
	e.Executed = executed
	return e
}

// Gate counts the streams that are being read.
type Gate struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{}
}

// Enter counts a stream until leave is called.
func (st *Gate) Enter() (leave func(), err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return nil, crustertype.ErrShuttingDown
	}
	st.n++
	return func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.n--; st.n == 0 && st.idle != nil {
			close(st.idle)
			st.idle = nil
		}
	}, nil
}

// Drain refuses new streams and waits for those that are read.
func (st *Gate) Drain(ctx context.Context) error {
	st.mu.Lock()
	st.closed = true
	if st.n == 0 {
		st.mu.Unlock()
		return nil
	}
	st.idle = make(chan struct{})
	idle := st.idle
	st.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return crustertype.Errorf(crustertype.CodeTimeout, "streams are still being read: %w", context.Cause(ctx))
	}
}
