package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// call is a request of ours that waits for its answer. Who takes it out of
// session.calls ends it, exactly once.
type call struct {
	number uint64
	done   chan struct{} // one value, when the answer is there
	body   []byte
	err    error // the peer's
	lost   error // of the connection
	in     *inflow
}

// newCalls returns a pool of calls. Each transport has its own, since channels
// must not leave a bubble of testing/synctest.
func newCalls() *sync.Pool {
	return &sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}
}

func (c *call) finish(body []byte, err error) {
	if c.in != nil {
		c.in.finish(err)
		return
	}
	c.body, c.err = body, err
	c.done <- struct{}{}
}

func (c *call) lose(err error) {
	if c.in != nil {
		c.in.lose(err)
		return
	}
	c.lost = err
	c.done <- struct{}{}
}

// begin registers a call. It fails with errRetired or errLost when the
// connection takes none any more; another one may.
func (s *session) begin(c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return errLost
	}
	if s.leaving {
		return errRetired
	}
	s.number++
	c.number = s.number
	s.calls[c.number] = c
	s.asking.Add(1)
	return nil
}

// take removes a call and reports whether it was there.
func (s *session) take(number uint64) *call {
	s.mu.Lock()
	c := s.calls[number]
	if c != nil {
		delete(s.calls, number)
		s.asking.Add(-1)
	}
	leaving := s.leaving && c != nil && len(s.calls) == 0
	s.mu.Unlock()
	if leaving {
		s.leave(false)
	}
	return c
}

// drop gives a call up and reports whether it was still waiting.
func (s *session) drop(c *call, tell bool) bool {
	if s.take(c.number) == nil {
		return false
	}
	if tell {
		_ = s.out.urge(kindCancel, c.number, nil) // an error ends the session by itself
	}
	return true
}

// left returns the time until ctx's deadline in microseconds, 0 for none; ok is
// false when it has passed.
func left(ctx context.Context) (micros uint64, ok bool) {
	d, has := ctx.Deadline()
	if !has {
		return 0, true
	}
	rest := time.Until(d)
	if rest <= 0 {
		return 0, false
	}
	return max(1, uint64(rest/time.Microsecond)), true
}

// tooLarge returns the error of a request that the peer would not take.
func (s *session) tooLarge(size int) error {
	limit := uint64(s.node.o.MaxBody)
	if g := s.peer.Load(); g != nil {
		limit = min(limit, g.maxBody)
	}
	if uint64(size) <= limit {
		return nil
	}
	return failed(s.name(), crustertype.CodeTooLarge, false, fmt.Errorf("request of %d bytes, at most %d are allowed", size, limit))
}

// send sends the request of a call that was begun.
func (s *session) send(ctx context.Context, c *call, q *request, body []byte) (turn uint64, err error) {
	micros, ok := left(ctx)
	if !ok || ctx.Err() != nil {
		s.drop(c, false)
		if ctx.Err() == nil { // the timer of ctx is late
			return 0, failed(s.name(), crustertype.CodeTimeout, false, context.DeadlineExceeded)
		}
		return 0, ended(ctx, s.name(), false)
	}
	q.micros = micros
	var head [maxRequestHead]byte
	turn, err = s.out.put(ctx, s.asking.Load() <= 1, kindRequest, c.number, q.head(head[:0]), body)
	if err == nil {
		return turn, nil
	}
	if !s.drop(c, false) && c.in == nil {
		<-c.done
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return 0, ended(ctx, s.name(), false)
	}
	return 0, failed(s.name(), crustertype.CodeUnavailable, false, err)
}

// call sends a request and waits for the reply. gone reports that the
// connection took no request: try another one.
func (s *session) call(ctx context.Context, op Op, body []byte) (reply []byte, gone bool, err error) {
	if err := s.tooLarge(len(body)); err != nil {
		return nil, false, err
	}
	c := s.node.calls.Get().(*call)
	if s.begin(c) != nil {
		s.node.calls.Put(c)
		return nil, true, nil
	}
	q := request{op: op}
	turn, err := s.send(ctx, c, &q, body)
	if err == nil {
		reply, err = s.await(ctx, c, turn)
	}
	c.body, c.err, c.lost = nil, nil, nil
	s.node.calls.Put(c)
	return reply, false, err
}

func (s *session) await(ctx context.Context, c *call, turn uint64) ([]byte, error) {
	select {
	case <-c.done:
	case <-ctx.Done():
		if s.drop(c, true) {
			return nil, ended(ctx, s.name(), true)
		}
		<-c.done // answered at the same time
	}
	if c.lost != nil {
		return nil, s.lostError(c.lost, s.out.sent(turn))
	}
	return c.body, c.err
}

func (s *session) lostError(cause error, executed bool) error {
	return failed(s.name(), crustertype.CodeUnavailable, executed, cause)
}

// answer acts on a frame that answers a call. What answers a call that was
// given up is dropped.
func (s *session) answer(f frame) error {
	if f.kind == kindChunk {
		s.mu.Lock()
		c := s.calls[f.number]
		s.mu.Unlock()
		if c == nil {
			return nil
		}
		if c.in == nil {
			return fmt.Errorf("%w: chunk for a request that wants a reply", ErrMalformed)
		}
		return c.in.push(f.payload)
	}
	c := s.take(f.number)
	if c == nil {
		return nil
	}
	switch {
	case f.kind == kindError:
		e, err := decodeFailure(f.payload)
		if err != nil {
			c.lose(err)
			return err
		}
		c.finish(nil, e)
	case (f.kind == kindEnd) != (c.in != nil):
		err := fmt.Errorf("%w: %v does not answer the request", ErrMalformed, f.kind)
		c.lose(err)
		return err
	case len(f.payload) > s.node.o.MaxBody:
		c.finish(nil, failed(s.name(), crustertype.CodeTooLarge, true, fmt.Errorf("reply of %d bytes, at most %d are allowed", len(f.payload), s.node.o.MaxBody)))
	default:
		c.finish(f.payload, nil)
	}
	return nil
}

// stream sends a request and yields the chunks of its answer. gone is as for
// call.
func (s *session) stream(ctx context.Context, op Op, body []byte, yield func([]byte, error) bool) (gone bool) {
	if err := s.tooLarge(len(body)); err != nil {
		yield(nil, err)
		return false
	}
	c := &call{in: newInflow(s.node.o.Window)}
	if s.begin(c) != nil {
		return true
	}
	q := request{op: op, stream: true, window: uint64(s.node.o.Window)}
	turn, err := s.send(ctx, c, &q, body)
	if err != nil {
		yield(nil, err)
		return false
	}
	defer s.drop(c, true)
	for {
		chunk, credit, err := c.in.next(ctx)
		switch {
		case err == nil:
			if !yield(chunk, nil) {
				return false
			}
			if credit > 0 {
				var head [8]byte
				_ = s.out.urge(kindCredit, c.number, appendUvarint(head[:0], credit)) // an error ends the session by itself
			}
			continue
		case errors.Is(err, errEnd):
			return false
		case c.in.lostWith(err):
			err = s.lostError(err, c.in.begun() || s.out.sent(turn))
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			err = ended(ctx, s.name(), true)
		}
		yield(nil, err)
		return false
	}
}
