package transport

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// served is a request of a peer, and the context of its handler.
type served struct {
	session *session
	number  uint64
	request
	requestContext
	out *outflow // of a stream
}

// requestContext is the context of a handler. It arms its timer and makes its
// channel only for a handler that asks for them: most never do.
type requestContext struct {
	parent   context.Context // for its values
	deadline time.Time       // zero: none

	mu    sync.Mutex
	done  chan struct{}
	err   error
	timer *time.Timer
	after []*func()
}

var _ context.Context = (*requestContext)(nil)

// Deadline implements [context.Context].
func (r *requestContext) Deadline() (time.Time, bool) { return r.deadline, !r.deadline.IsZero() }

// Value implements [context.Context].
func (r *requestContext) Value(key any) any { return r.parent.Value(key) }

// Err implements [context.Context].
func (r *requestContext) Err() error {
	r.mu.Lock()
	err := r.err
	r.mu.Unlock()
	if err == nil && !r.deadline.IsZero() && !time.Now().Before(r.deadline) {
		r.cancel(context.DeadlineExceeded)
		r.mu.Lock()
		err = r.err
		r.mu.Unlock()
	}
	return err
}

// Done implements [context.Context].
func (r *requestContext) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.err != nil {
			close(r.done)
		}
		r.arm()
	}
	return r.done
}

// AfterFunc is what package context uses instead of a goroutine for a child.
func (r *requestContext) AfterFunc(f func()) (stop func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		go f()
		return func() bool { return false }
	}
	entry := &f
	r.after = append(r.after, entry)
	r.arm()
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for i, e := range r.after {
			if e == entry {
				r.after = append(r.after[:i], r.after[i+1:]...)
				return true
			}
		}
		return false
	}
}

// arm is called with mu held.
func (r *requestContext) arm() {
	if r.timer == nil && r.err == nil && !r.deadline.IsZero() {
		r.timer = time.AfterFunc(time.Until(r.deadline), func() { r.cancel(context.DeadlineExceeded) })
	}
}

// cancel ends the context; only the first error counts.
func (r *requestContext) cancel(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	r.err = err
	if r.done != nil {
		close(r.done)
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	for _, f := range r.after {
		go (*f)()
	}
	r.after = nil
}

// request accepts a request, or refuses it because of a limit.
func (s *session) request(f frame) error {
	q, err := decodeRequest(f.payload)
	if err != nil {
		return err
	}
	n := s.node
	if len(q.body) > n.o.MaxBody {
		return s.decline(f.number, crustertype.CodeTooLarge, "request of %d bytes, at most %d are allowed", len(q.body), n.o.MaxBody)
	}
	r := &served{session: s, number: f.number, request: q}
	r.parent = s.life
	if q.micros > 0 {
		r.deadline = time.Now().Add(time.Duration(q.micros) * time.Microsecond)
	}
	if q.stream {
		r.out = newOutflow(int(q.window))
	}
	s.mu.Lock()
	_, twice := s.serving[f.number]
	ended, refusing, count, bytes := s.err != nil, s.refusing, len(s.serving), s.bytes
	full := count >= n.o.MaxRequests || count > 0 && bytes+len(q.body) > n.o.MaxRequestBytes
	if !ended && !twice && !refusing && !full {
		s.serving[f.number] = r
		s.bytes += len(q.body)
	}
	s.mu.Unlock()
	switch {
	case ended:
		return errLost
	case twice:
		return fmt.Errorf("%w: request %d was sent twice", ErrMalformed, f.number)
	case refusing:
		return s.decline(f.number, crustertype.CodeShuttingDown, "the peer is shutting down")
	case full:
		return s.decline(f.number, crustertype.CodeMailboxFull,
			"%d requests of %d bytes in progress on the connection, at most %d of %d bytes are allowed: slow down", count, bytes, n.o.MaxRequests, n.o.MaxRequestBytes)
	}
	n.workers.do(r)
	return nil
}

// decline answers a request that no handler sees.
func (s *session) decline(number uint64, code crustertype.Code, format string, args ...any) error {
	e := crustertype.Errorf(code, format, args...)
	e.Op = "peer " + s.node.self.Load().Address
	return s.out.urge(kindError, number, encodeFailure(nil, e))
}

// run lets the handler answer.
func (r *served) run() {
	var e *crustertype.Error
	var reply []byte
	returned := false
	defer func() {
		if p := recover(); p != nil {
			e = crustertype.Errorf(crustertype.CodePanic, "panic in the handler of a request: %v", p)
			e.Executed = true
			r.session.node.o.Logger.Error("panic in the handler of a request", "panic", p, "stack", string(debug.Stack()))
		} else if !returned {
			e = crustertype.Errorf(crustertype.CodePanic, "handler has ended its goroutine")
			e.Executed = true
		}
		r.reply(reply, e)
	}()
	var err error
	h, from := r.session.node.handler, r.session.peer.Load().hello
	if r.stream {
		err = h.Stream(r, from, r.op, r.body, r.send)
	} else {
		reply, err = h.Call(r, from, r.op, r.body)
	}
	returned = true
	if err != nil {
		e = failureOf(err)
	}
}

func (r *served) reply(body []byte, e *crustertype.Error) {
	s := r.session
	if limit := s.limit(); e == nil && len(body) > limit {
		e = crustertype.Errorf(crustertype.CodeTooLarge, "reply of %d bytes, at most %d are allowed", len(body), limit)
		e.Executed = true
	}
	s.mu.Lock()
	direct := len(s.serving) <= 1
	s.mu.Unlock()
	// The connection has ended if this fails, and with it the wait for a reply.
	switch {
	case e != nil:
		_, _ = s.out.put(s.life, direct, kindError, r.number, encodeFailure(nil, e), nil)
	case r.stream:
		_, _ = s.out.put(s.life, direct, kindEnd, r.number, nil, nil)
	default:
		_, _ = s.out.put(s.life, direct, kindReply, r.number, nil, body)
	}
	s.mu.Lock()
	delete(s.serving, r.number)
	s.bytes -= len(r.body)
	if len(s.serving) == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
	over := s.last && s.peerLast && len(s.serving) == 0
	s.mu.Unlock()
	r.cancel(context.Canceled)
	if over {
		s.leave(false)
	}
}

// limit returns the largest body that the peer takes.
func (s *session) limit() int {
	return int(min(uint64(s.node.o.MaxBody), s.peer.Load().maxBody))
}

// send sends a chunk of a stream.
func (r *served) send(chunk []byte) error {
	s := r.session
	if limit := s.limit(); len(chunk) > limit {
		e := crustertype.Errorf(crustertype.CodeTooLarge, "chunk of %d bytes, at most %d are allowed", len(chunk), limit)
		e.Executed = true
		return e
	}
	if err := r.out.spend(r, len(chunk)); err != nil {
		return err
	}
	_, err := s.out.put(r, false, kindChunk, r.number, nil, chunk)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return s.lostError(err, true)
	}
	return err
}

// credit lets a stream go on.
func (s *session) credit(number uint64, n int) error {
	s.mu.Lock()
	r := s.serving[number]
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	if r.out == nil {
		return fmt.Errorf("%w: credit for a request without a stream", ErrMalformed)
	}
	return r.out.give(n, int(r.window))
}

// drain refuses new requests and waits until those in progress are answered.
func (s *session) drain(ctx context.Context) error {
	s.mu.Lock()
	s.refusing = true
	var idle chan struct{}
	if len(s.serving) > 0 && s.err == nil {
		if s.idle == nil {
			s.idle = make(chan struct{})
		}
		idle = s.idle
	}
	s.mu.Unlock()
	if s.peer.Load() == nil {
		return nil
	}
	s.leave(true)
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
	case <-s.gone:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// maxIdleWorkers is how many goroutines are kept for the next requests: a new
// one first has to grow its stack.
const maxIdleWorkers = 64

// workers run handlers.
type workers struct {
	jobs chan *served
	stop chan struct{}
	all  sync.WaitGroup
	idle int
	mu   sync.Mutex
}

func newWorkers() *workers {
	return &workers{jobs: make(chan *served), stop: make(chan struct{})}
}

// do runs r on a goroutine of its own.
func (w *workers) do(r *served) {
	select {
	case w.jobs <- r:
	default:
		w.all.Go(func() { w.work(r) })
	}
}

func (w *workers) work(r *served) {
	for {
		r.run()
		if !w.park(1) {
			return
		}
		select {
		case r = <-w.jobs:
			w.park(-1)
		case <-w.stop:
			return
		}
	}
}

func (w *workers) park(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle+n > maxIdleWorkers {
		return false
	}
	w.idle += n
	return true
}
