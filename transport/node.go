package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport/internal/quiet"
)

// node is a transport over the connections of a link.
type node struct {
	link    Link
	o       Options
	cluster string // set by Start, like the next four
	handler Handler
	life    context.Context
	stop    context.CancelFunc
	called  atomic.Bool // Start was
	started atomic.Bool // the fields above are set

	self     atomic.Pointer[Hello]
	greeting sync.Mutex // keeps the hellos of a session in order
	closing  atomic.Bool
	closed   chan struct{}
	workers  *workers
	calls    *sync.Pool
	running  sync.WaitGroup // sessions and dials

	refused quiet.Limiter

	peers sync.Map // address to *peer

	mu       sync.Mutex
	sessions map[*session]struct{}
	random   *rand.Rand
}

var _ Transport = (*node)(nil)

// New returns a transport over the connections that link makes.
func New(link Link, o Options) Transport {
	seed := o.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	n := &node{
		link: link, o: o.withDefaults(), closed: make(chan struct{}), workers: newWorkers(), calls: newCalls(),
		sessions: make(map[*session]struct{}), random: rand.New(rand.NewPCG(seed, 0)),
	}
	n.self.Store(&Hello{})
	return n
}

// Start implements [Transport].
func (n *node) Start(ctx context.Context, self Hello, h Handler) error {
	if h == nil || self.Cluster == "" || len(self.Cluster) > maxCluster || len(self.Address) > maxAddress {
		return crustertype.Errorf(crustertype.CodeInvalid,
			"transport needs a handler, a cluster name of 1 to %d bytes and an address of at most %d bytes", maxCluster, maxAddress)
	}
	if n.closing.Load() {
		return crustertype.Errorf(crustertype.CodeShuttingDown, "transport is closed")
	}
	if !n.called.CompareAndSwap(false, true) {
		return crustertype.Errorf(crustertype.CodeInvalid, "transport was started already")
	}
	n.cluster, n.handler = self.Cluster, h
	n.self.Store(&self)
	n.mu.Lock()
	n.life, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	n.mu.Unlock()
	n.started.Store(true)
	return n.link.Listen(ctx, n.accept)
}

// Address implements [Transport].
func (n *node) Address() string { return n.link.Address() }

// Introduce implements [Transport].
func (n *node) Introduce(self Hello) {
	n.greeting.Lock()
	defer n.greeting.Unlock()
	if self.Cluster == "" {
		self.Cluster = n.self.Load().Cluster
	}
	n.self.Store(&self)
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.sessions {
		if s.greeted {
			_ = n.sendHello(s) // an error ends the session by itself
		}
	}
}

// greet sends a session's first hello.
func (n *node) greet(s *session) error {
	n.greeting.Lock()
	defer n.greeting.Unlock()
	if s.greeted {
		return nil
	}
	s.greeted = true
	return n.sendHello(s)
}

func (n *node) sendHello(s *session) error {
	g := greeting{min: minProtocol, max: maxProtocol, hello: *n.self.Load(), maxBody: uint64(n.o.MaxBody)}
	return s.out.urge(kindHello, 0, g.encode(nil))
}

// add counts a session, unless the transport is closing.
func (n *node) add(s *session) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing.Load() {
		return false
	}
	n.sessions[s] = struct{}{}
	n.running.Go(s.run)
	return true
}

// accept takes a connection that a peer has made.
func (n *node) accept(c Conn) {
	s := newSession(n, c, "")
	if !n.add(s) {
		_ = c.Close()
		return
	}
	time.AfterFunc(n.o.DialTimeout, func() {
		if s.peer.Load() == nil {
			s.end(fmt.Errorf("no hello within %v", n.o.DialTimeout))
		}
	})
}

// dial makes a connection and waits for the peer's hello.
func (n *node) dial(ctx context.Context, to string) (*session, error) {
	c, err := n.link.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	s := newSession(n, c, to)
	if !n.add(s) {
		_ = c.Close()
		return nil, errClosed
	}
	err = n.greet(s)
	if err == nil {
		select {
		case <-s.ready:
			return s, nil
		case <-s.gone:
			err = s.err
		case <-ctx.Done():
			err = fmt.Errorf("no hello from the peer: %w", ctx.Err())
		}
	}
	s.end(err)
	return nil, err
}

// part forgets a session that has ended.
func (n *node) part(s *session, err error) {
	n.retire(s)
	n.mu.Lock()
	delete(n.sessions, s)
	n.mu.Unlock()
	if n.closing.Load() || errors.Is(err, errRetired) || errors.Is(err, errForgotten) {
		return
	}
	switch {
	case errors.Is(err, ErrMalformed) || crustertype.CodeOf(err) == crustertype.CodeForbidden:
		if skipped, ok := n.refused.Allow(); ok {
			n.o.Logger.Warn("connection refused", "peer", s.name(), "error", err, "unreported", skipped)
		}
	case errors.Is(err, errLost) || errors.Is(err, io.ErrUnexpectedEOF):
		n.o.Logger.Debug("connection ended", "peer", s.name(), "error", err)
	default:
		n.o.Logger.Info("connection lost", "peer", s.name(), "error", err)
	}
}

// Connect implements [Transport].
func (n *node) Connect(ctx context.Context, to string) error {
	_, err := n.session(ctx, to, true)
	return err
}

// Call implements [Transport].
func (n *node) Call(ctx context.Context, to string, op Op, body []byte) ([]byte, error) {
	for {
		s, err := n.session(ctx, to, false)
		if err != nil {
			return nil, err
		}
		reply, gone, err := s.call(ctx, op, body)
		if !gone {
			return reply, err
		}
		n.retire(s)
	}
}

// Stream implements [Transport].
func (n *node) Stream(ctx context.Context, to string, op Op, body []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			s, err := n.session(ctx, to, false)
			if err != nil {
				yield(nil, err)
				return
			}
			if !s.stream(ctx, op, body, yield) {
				return
			}
			n.retire(s)
		}
	}
}

// Forget implements [Transport].
func (n *node) Forget(to string) {
	v, ok := n.peers.LoadAndDelete(to)
	if !ok {
		return
	}
	for _, s := range v.(*peer).abandon() {
		s.end(errForgotten)
	}
}

// Close implements [Transport].
func (n *node) Close(ctx context.Context) error {
	n.mu.Lock()
	first := !n.closing.Swap(true)
	sessions := make([]*session, 0, len(n.sessions))
	for s := range n.sessions {
		sessions = append(sessions, s)
	}
	stop := n.stop
	n.mu.Unlock()
	if !first {
		select {
		case <-n.closed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer close(n.closed)
	n.link.Refuse()
	var drains sync.WaitGroup
	var late atomic.Bool
	for _, s := range sessions {
		drains.Go(func() {
			if s.drain(ctx) != nil {
				late.Store(true)
				return
			}
			// What was answered arrives before the connection goes, if the peer reads.
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			s.flush(ctx)
		})
	}
	drains.Wait()
	for _, s := range sessions {
		s.end(errClosed)
	}
	if stop != nil {
		stop()
	}
	n.running.Wait()
	err := n.link.Close()
	close(n.workers.stop)
	if late.Load() {
		return fmt.Errorf("transport closed while requests were in progress: %w", ctx.Err())
	}
	n.workers.all.Wait()
	return err
}
