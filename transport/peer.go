package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// peer is what a node knows of an address.
type peer struct {
	best atomic.Pointer[session] // new calls go there; nil: dial

	mu       sync.Mutex
	sessions []*session // that take calls
	dialing  *dialing
	failures int
	retryAt  time.Time
	lastErr  error
	gone     bool // no longer in node.peers
}

// dialing is a connection being made; several calls may wait for it.
type dialing struct {
	done   chan struct{}
	cancel context.CancelFunc
	s      *session
	err    error
}

// abandon marks the peer as forgotten and returns its sessions.
func (p *peer) abandon() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if p.dialing != nil {
		p.dialing.cancel()
	}
	return append([]*session(nil), p.sessions...)
}

// peerAt returns the entry of an address.
func (n *node) peerAt(address string) *peer {
	if v, ok := n.peers.Load(address); ok {
		return v.(*peer)
	}
	v, _ := n.peers.LoadOrStore(address, new(peer))
	return v.(*peer)
}

// session returns a connection to a peer, and makes one if there is none. With
// now, also if the last attempt has just failed.
func (n *node) session(ctx context.Context, to string, now bool) (*session, error) {
	if !n.started.Load() {
		return nil, failed(to, crustertype.CodeNotStarted, false, errors.New("the transport is not started"))
	}
	for {
		if n.closing.Load() {
			return nil, failed(to, crustertype.CodeShuttingDown, false, errClosed)
		}
		p := n.peerAt(to)
		if s := p.best.Load(); s != nil {
			return s, nil
		}
		d, err := n.startDial(p, to, now)
		if err != nil {
			return nil, err
		}
		if d == nil {
			continue // connected or forgotten meanwhile
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, ended(ctx, to, false)
		}
		if d.err == nil {
			return d.s, nil
		}
		return nil, n.dialError(to, d.err)
	}
}

func (n *node) dialError(to string, err error) error {
	var e *crustertype.Error
	if errors.As(err, &e) {
		return failed(to, e.Code, false, err)
	}
	if n.closing.Load() {
		return failed(to, crustertype.CodeShuttingDown, false, errClosed)
	}
	return failed(to, crustertype.CodeUnavailable, false, err)
}

// startDial returns the dialling of p, begun now unless it is under way.
func (n *node) startDial(p *peer, to string, now bool) (*dialing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.best.Load() != nil {
		return nil, nil
	}
	if p.dialing != nil {
		return p.dialing, nil
	}
	if wait := time.Until(p.retryAt); wait > 0 && !now {
		e := failed(to, crustertype.CodeUnavailable, false, fmt.Errorf("tried %d times, the next time in %v: %w", p.failures, wait.Round(time.Millisecond), p.lastErr))
		if code := crustertype.CodeOf(p.lastErr); code != crustertype.CodeUnknown {
			e = failed(to, code, false, p.lastErr)
		}
		return nil, e
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing.Load() {
		return nil, failed(to, crustertype.CodeShuttingDown, false, errClosed)
	}
	ctx, cancel := context.WithTimeout(n.life, n.o.DialTimeout)
	d := &dialing{done: make(chan struct{}), cancel: cancel}
	p.dialing = d
	n.running.Go(func() {
		defer cancel()
		d.s, d.err = n.dial(ctx, to)
		n.dialed(p, d)
		close(d.done)
	})
	return d, nil
}

// dialed notes how a dialling went.
func (n *node) dialed(p *peer, d *dialing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing = nil
	if d.err == nil {
		return
	}
	p.lastErr = d.err
	p.failures++
	wait := min(n.o.MaxBackoff, minBackoff<<min(p.failures-1, 10))
	n.mu.Lock()
	wait = wait/2 + time.Duration(n.random.Int64N(int64(wait/2)+1))
	n.mu.Unlock()
	p.retryAt = time.Now().Add(wait)
}

// addresses returns where calls to the peer of a session go: where it was
// dialled, and where it says that it is. The accepting end of a connection to
// oneself is none.
func (s *session) addresses() []string {
	var list []string
	if s.dialed != "" {
		list = append(list, s.dialed)
	}
	if g := s.peer.Load(); g != nil && g.hello.Address != "" && g.hello.Address != s.dialed && g.hello.Address != s.node.self.Load().Address {
		list = append(list, g.hello.Address)
	}
	return list
}

// join lets calls to the session's peer use it.
func (n *node) join(s *session) {
	for _, address := range s.addresses() {
		for !n.peerAt(address).join(n, s) { // forgotten at this moment
		}
	}
}

func (p *peer) join(n *node, s *session) bool {
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return false
	}
	p.failures, p.retryAt, p.lastErr = 0, time.Time{}, nil
	p.sessions = append(p.sessions, s)
	extra := p.choose(n)
	p.mu.Unlock()
	for _, e := range extra {
		e.leave(true)
	}
	return true
}

// choose sets best, and takes out and returns the other sessions that this side
// has dialled: it gives them up. Both sides choose the same one, of the newest incarnation,
// and of these the one dialled by the smaller address. It is called with mu
// held.
func (p *peer) choose(n *node) (extra []*session) {
	var best *session
	for _, s := range p.sessions {
		if best == nil || s.better(n, best) {
			best = s
		}
	}
	p.best.Store(best)
	kept := p.sessions[:0:0]
	for _, s := range p.sessions {
		if s != best && s.dialed != "" {
			extra = append(extra, s)
		} else {
			kept = append(kept, s)
		}
	}
	p.sessions = kept
	return extra
}

func (s *session) better(n *node, other *session) bool {
	a, b := s.peer.Load().hello, other.peer.Load().hello
	if a.Incarnation != b.Incarnation {
		return a.Incarnation > b.Incarnation
	}
	return s.dialer(n) < other.dialer(n)
}

// dialer returns the address of the side that has dialled.
func (s *session) dialer(n *node) string {
	if s.dialed != "" {
		return n.self.Load().Address
	}
	return s.peer.Load().hello.Address
}

// retire takes a session out of what calls use.
func (n *node) retire(s *session) {
	n.peers.Range(func(address, v any) bool {
		if p := v.(*peer); p.remove(n, s) {
			n.peers.CompareAndDelete(address, p)
		}
		return true
	})
}

// remove takes a session out, and reports whether nothing is left to remember.
func (p *peer) remove(n *node, s *session) (empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.sessions, s)
	if i < 0 {
		return false
	}
	p.sessions = slices.Delete(slices.Clone(p.sessions), i, i+1)
	p.choose(n) // among those that are left there is nothing to give up
	p.gone = p.gone || len(p.sessions) == 0 && p.dialing == nil
	return p.gone
}

// rename acts on a hello that has changed.
func (n *node) rename(s *session) {
	n.retire(s)
	n.join(s)
}
