package transporttest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
)

// What the handler is asked for.
const (
	opEcho     transport.Op = iota
	opHold                  // says that it has begun; ends when released, or with ctx
	opFail                  // a typed error with all fields
	opText                  // an error that is none of ours
	opLate                  // the error of a deadline
	opPanic                 // panics
	opLeft                  // the time left, in nanoseconds
	opSize                  // a reply of that size
	opFrom                  // the hello of the caller
	opCount                 // stream: that many chunks, numbered, of growing size
	opEndless               // stream: chunks of that size until it cannot
	opFailures              // stream: three chunks, then the error of opFail
	opBroken                // stream: a chunk, then as opHold
)

// handler is what the transports under test serve.
type handler struct {
	begun     chan string // bodies of opHold
	ended     chan error  // how its context ended
	connected chan transport.Hello
	sent      atomic.Int64 // chunks of opEndless
	free      chan struct{}
	once      sync.Once
}

func newHandler() *handler {
	return &handler{
		begun: make(chan string, 4096), ended: make(chan error, 4096), connected: make(chan transport.Hello, 4096), free: make(chan struct{}),
	}
}

// release lets opHold end.
func (h *handler) release() { h.once.Do(func() { close(h.free) }) }

var errTyped = &crustertype.Error{
	Code: crustertype.CodeMailboxFull, Op: "call counter.Increment", Address: crustertype.Address{Type: "counter", ID: "c-1"},
	Message: "mailbox is full: 100 waiting", Name: "busy", Executed: true, Permanent: true,
}

const plainText = "something else: ✓"

// Call implements [transport.Handler].
func (h *handler) Call(ctx context.Context, from transport.Hello, op transport.Op, body []byte) ([]byte, error) {
	switch op {
	case opEcho:
		return body, nil
	case opHold:
		h.begun <- string(body)
		return body, h.hold(ctx)
	case opFail:
		return nil, errTyped
	case opText:
		return nil, errors.New(plainText)
	case opLate:
		return nil, fmt.Errorf("query: %w", context.DeadlineExceeded)
	case opPanic:
		panic("in the handler") //nolint:forbidigo // what a handler may do
	case opLeft:
		d, ok := ctx.Deadline()
		if !ok {
			return nil, nil
		}
		return number(int(time.Until(d))), nil
	case opSize:
		return make([]byte, fromNumber(body)), nil
	case opFrom:
		return fmt.Append(nil, from), nil
	}
	return nil, crustertype.Errorf(crustertype.CodeInvalid, "op %d", op)
}

func (h *handler) hold(ctx context.Context) error {
	select {
	case <-h.free:
		return nil
	case <-ctx.Done():
		h.ended <- ctx.Err()
		return ctx.Err()
	}
}

// Stream implements [transport.Handler].
func (h *handler) Stream(ctx context.Context, _ transport.Hello, op transport.Op, body []byte, send func([]byte) error) error {
	switch op {
	case opCount:
		for i := range fromNumber(body) {
			chunk := append(number(i), make([]byte, i%3000)...)
			if err := send(chunk); err != nil {
				return err
			}
			clear(chunk) // it is ours again
		}
		return nil
	case opEndless:
		chunk := make([]byte, fromNumber(body))
		for {
			if err := send(chunk); err != nil {
				h.ended <- err
				return err
			}
			h.sent.Add(1)
		}
	case opFailures:
		for i := range 3 {
			if err := send(number(i)); err != nil {
				return err
			}
		}
		return errTyped
	case opBroken:
		if err := send(nil); err != nil {
			return err
		}
		return h.hold(ctx)
	}
	return crustertype.Errorf(crustertype.CodeInvalid, "op %d", op)
}

// Connected implements [transport.Handler].
func (h *handler) Connected(from transport.Hello) { h.connected <- from }

func number(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func fromNumber(b []byte) int {
	if len(b) < 8 {
		return -1
	}
	return int(binary.BigEndian.Uint64(b))
}
