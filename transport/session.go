package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

var (
	errSilent    = errors.New("the peer is silent")
	errForgotten = errors.New("the peer is gone")
	errRetired   = errors.New("the connection is given up for another one")
	errClosed    = errors.New("the transport is closed")
	errLost      = errors.New("the connection was closed by the peer")
)

// session is one connection to a peer. Both sides ask and answer on it.
type session struct {
	node   *node
	conn   Conn
	out    *outbox
	dialed string        // the address that was dialled, "" for an accepted one
	ready  chan struct{} // closed when the peer's hello was accepted
	gone   chan struct{} // closed when the session has ended
	life   context.Context
	stop   context.CancelFunc

	peer    atomic.Pointer[greeting] // nil before the hello
	greeted bool                     // our hello is on its way; under node.greeting
	asking  atomic.Int32             // calls under way

	heard atomic.Bool // something was received since the last tick
	timer *time.Timer

	mu       sync.Mutex
	err      error // why the session has ended
	number   uint64
	calls    map[uint64]*call   // ours
	serving  map[uint64]*served // the peer's
	bytes    int                // of the bodies in serving
	idle     chan struct{}      // closed when serving is empty; nil when nobody waits
	pongs    map[uint64]chan struct{}
	refusing bool // the transport is closing
	leaving  bool // no new calls
	retiring bool // we have said goodbye
	last     bool // we have said that we send and wait for nothing more
	peerLast bool
}

func newSession(n *node, c Conn, dialed string) *session {
	s := &session{
		node: n, conn: c, out: newOutbox(c), dialed: dialed, ready: make(chan struct{}), gone: make(chan struct{}),
		calls: make(map[uint64]*call), serving: make(map[uint64]*served),
	}
	s.life, s.stop = context.WithCancel(n.life)
	return s
}

// run reads from the connection until it ends. The node counts it.
func (s *session) run() {
	var writer sync.WaitGroup
	writer.Go(s.out.run)
	s.startTicks()
	err := s.read()
	s.end(err)
	writer.Wait()
}

func (s *session) read() error {
	var buf, whole []byte
	limit := s.node.o.maxMessage()
	for {
		piece, err := s.conn.Recv(buf)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errLost
			}
			return err
		}
		s.heard.Store(true)
		switch {
		case len(piece) == 0 || piece[0] > pieceMore:
			return fmt.Errorf("%w: message without a beginning", ErrMalformed)
		case len(whole)+len(piece) > limit:
			return fmt.Errorf("%w: message of more than %d bytes", ErrMalformed, limit)
		case piece[0] == pieceMore:
			whole = append(whole, piece[1:]...)
			buf = piece[:0]
			continue
		}
		msg := piece[1:]
		if whole != nil {
			msg, whole = append(whole, msg...), nil
		}
		kept, err := s.frames(msg)
		if err != nil {
			return err
		}
		buf = piece[:0]
		if kept || cap(piece) > keepBuffer {
			buf = nil
		}
	}
}

// frames handles the frames of a message. kept reports that one of them keeps
// the message.
func (s *session) frames(msg []byte) (kept bool, err error) {
	for rest := msg; len(rest) > 0; {
		var f frame
		if f, rest, err = nextFrame(rest); err != nil {
			return false, err
		}
		// A body that is most of its message keeps it; another is copied, so
		// that it does not keep many times its size alive.
		if len(f.payload) > 0 && f.kind.body() {
			if len(f.payload) >= len(msg)/2 {
				kept = true
			} else {
				f.payload = append([]byte(nil), f.payload...)
			}
		}
		if err := s.handle(f); err != nil {
			return false, err
		}
	}
	return kept, nil
}

// body reports whether the payload of a frame is given to the user.
func (k kind) body() bool { return k == kindRequest || k == kindReply || k == kindChunk }

// handle acts on a frame. An error ends the session.
func (s *session) handle(f frame) error {
	if s.peer.Load() == nil && f.kind != kindHello && f.kind != kindRefuse {
		return fmt.Errorf("%w: %v before hello", ErrMalformed, f.kind)
	}
	switch f.kind {
	case kindHello:
		return s.hello(f.payload)
	case kindRefuse:
		e, err := decodeFailure(f.payload)
		if err != nil {
			return err
		}
		return e
	case kindRequest:
		return s.request(f)
	case kindReply, kindError, kindChunk, kindEnd:
		return s.answer(f)
	case kindCredit:
		n, err := decodeCredit(f.payload)
		if err != nil {
			return err
		}
		return s.credit(f.number, n)
	case kindCancel:
		s.mu.Lock()
		r := s.serving[f.number]
		s.mu.Unlock()
		if r != nil {
			r.cancel(context.Canceled)
		}
	case kindPing:
		return s.out.urge(kindPong, f.number, nil)
	case kindPong:
		s.mu.Lock()
		if c := s.pongs[f.number]; c != nil {
			close(c)
			delete(s.pongs, f.number)
		}
		s.mu.Unlock()
	case kindGoodbye:
		s.node.retire(s)
		s.leave(false)
	case kindLast:
		s.mu.Lock()
		s.peerLast = true
		s.mu.Unlock()
		s.leave(false)
	}
	return nil
}

// hello checks what the peer says of itself, and answers the first one.
func (s *session) hello(b []byte) error {
	g, err := decodeGreeting(b)
	if err != nil {
		return err
	}
	n := s.node
	if e := g.objection(n.cluster); e != nil {
		s.refuse(e)
		return e
	}
	if s.peer.Load() == nil && n.closing.Load() {
		e := crustertype.Errorf(crustertype.CodeShuttingDown, "the peer is shutting down")
		s.refuse(e)
		return e
	}
	old := s.peer.Swap(&g)
	if old != nil {
		if old.hello != g.hello {
			n.rename(s)
			n.handler.Connected(g.hello)
		}
		return nil
	}
	if err := n.greet(s); err != nil {
		return err
	}
	n.join(s)
	n.handler.Connected(g.hello)
	close(s.ready)
	return nil
}

// refuse tells the peer why there will be no connection.
func (s *session) refuse(e *crustertype.Error) {
	_, _ = s.out.put(s.life, true, kindRefuse, 0, encodeFailure(nil, e), nil) // the connection is given up anyway
}

// end ends the session: all its calls fail, the handlers of its requests are
// cancelled. Only the first error counts.
func (s *session) end(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	calls, serving, timer := s.calls, s.serving, s.timer
	s.calls = nil
	for n, c := range s.pongs {
		close(c)
		delete(s.pongs, n)
	}
	requests := make([]*served, 0, len(serving))
	for _, r := range serving {
		requests = append(requests, r)
	}
	s.mu.Unlock()

	if timer != nil {
		timer.Stop()
	}
	s.out.fail(err)
	_ = s.conn.Close()
	s.node.part(s, err)
	for _, c := range calls {
		c.lose(err)
	}
	s.stop()
	for _, r := range requests {
		r.cancel(context.Canceled)
	}
	close(s.gone)
}

// name is what errors and logs call the peer.
func (s *session) name() string {
	if s.dialed != "" {
		return s.dialed
	}
	if g := s.peer.Load(); g != nil && g.hello.Address != "" {
		return g.hello.Address
	}
	return "client"
}

// leave sends no new calls on the connection, and closes it when nothing is
// under way either way. With goodbye, the peer is asked to do the same.
func (s *session) leave(goodbye bool) {
	s.mu.Lock()
	s.leaving = true
	say := goodbye && !s.retiring
	s.retiring = s.retiring || goodbye
	last := len(s.calls) == 0 && !s.last
	s.last = s.last || last
	over := s.last && s.peerLast && len(s.serving) == 0
	ended := s.err != nil
	s.mu.Unlock()
	if ended {
		return
	}
	if say {
		_ = s.out.urge(kindGoodbye, 0, nil) // an error ends the session by itself
	}
	if last {
		_ = s.out.urge(kindLast, 0, nil)
	}
	if over {
		s.end(errRetired)
	}
}

// flush returns when the peer has received everything sent so far, or the
// session or ctx has ended.
func (s *session) flush(ctx context.Context) {
	done := make(chan struct{})
	s.mu.Lock()
	if s.err != nil || s.peer.Load() == nil {
		s.mu.Unlock()
		return
	}
	s.number++
	number := s.number
	if s.pongs == nil {
		s.pongs = make(map[uint64]chan struct{})
	}
	s.pongs[number] = done
	s.mu.Unlock()
	if s.out.urge(kindPing, number, nil) != nil {
		return
	}
	select {
	case <-done:
	case <-s.gone:
	case <-ctx.Done():
	}
}

// startTicks asks a silent peer whether it is there, and shows a busy one, whose
// question may be stuck behind a large body, that we are. A peer counts as
// silent for each tick without a message, so that a pause of this process is
// one tick and not an accusation.
func (s *session) startTicks() {
	o := s.node.o
	if o.PingInterval <= 0 {
		return
	}
	limit := max(2, int(o.Silence/o.PingInterval))
	silent, blocked, stuck := 0, 0, uint64(0)
	var timer *time.Timer
	ready := make(chan struct{}) // timer is set
	timer = time.AfterFunc(o.PingInterval, func() {
		<-ready
		select {
		case <-s.ready:
		default: // nothing is said before hello, and its time is bounded
			timer.Reset(o.PingInterval)
			return
		}
		silent++
		if s.heard.Swap(false) {
			silent = 0
		}
		blocked++
		if now := s.out.stuck(); now == 0 || now != stuck {
			stuck, blocked = now, 0
		}
		if silent >= limit || blocked >= limit {
			s.end(fmt.Errorf("%w for %v", errSilent, time.Duration(limit)*o.PingInterval))
			return
		}
		if said := s.out.said.Swap(false); silent > 0 || !said {
			if err := s.out.urge(kindPing, 0, nil); err != nil {
				s.end(err)
				return
			}
		}
		select {
		case <-s.gone:
		default:
			timer.Reset(o.PingInterval)
		}
	})
	s.mu.Lock()
	s.timer = timer
	ended := s.err != nil
	s.mu.Unlock()
	close(ready)
	if ended {
		timer.Stop()
	}
}

func appendUvarint(b []byte, v int) []byte { return binary.AppendUvarint(b, uint64(v)) }
