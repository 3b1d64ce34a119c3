package gossip

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

const (
	joinEvery    = time.Second            // members that are not in gossip are sought so often
	accuseEvery  = 500 * time.Millisecond // after a second opinion that differed
	opinionTime  = time.Second
	stagger      = 50 * time.Millisecond // between accusers
	maxStagger   = 10
	healthyParts = 3 // a lease is in good health within two thirds of its TTL
)

// session is a member that gossips.
type session struct {
	membership.Session
	b    *Backend
	self membership.Member
	ttl  time.Duration
	list *memberlist.Memberlist

	cancel  context.CancelFunc
	mute    atomic.Bool   // tests: end without a word, as a crash does
	stopped chan struct{} // gossip is over, and the port is free

	mu      sync.Mutex
	dead    map[string]death // nodes that gossip takes for dead
	deaths  chan struct{}    // there is one more
	revoked []time.Time      // members that were taken for dead and are gone, within the last TTL
}

// death is what we know of a dead node.
type death struct {
	at     time.Time
	member bool // it was among the members since
}

// raising is a session of a membership whose revisions can be raised.
type raising struct {
	*session
	membership.Raiser
}

var (
	_ membership.Session = (*session)(nil)
	_ membership.Raiser  = (*raising)(nil)
)

func nodeName(inc crustertype.Incarnation) string { return strconv.FormatInt(int64(inc), 10) }

// events takes what memberlist finds.
type events struct{ s *session }

// NotifyJoin notes a node that is alive, perhaps again.
func (e events) NotifyJoin(n *memberlist.Node) {
	e.s.mu.Lock()
	delete(e.s.dead, n.Name)
	e.s.mu.Unlock()
	e.s.Session.Refresh() // gossip is faster in this, too
}

// NotifyLeave notes a node that died. One that left has said so, and freed its
// locks.
func (e events) NotifyLeave(n *memberlist.Node) {
	if n.State == memberlist.StateLeft {
		return
	}
	e.s.mu.Lock()
	e.s.dead[n.Name] = death{at: time.Now()}
	e.s.mu.Unlock()
	select {
	case e.s.deaths <- struct{}{}:
	default:
	}
}

// NotifyUpdate does nothing: nodes have no data.
func (e events) NotifyUpdate(*memberlist.Node) {}

// run keeps gossip going until the session ends.
func (s *session) run(ctx context.Context) {
	var seeking sync.WaitGroup
	defer close(s.stopped)
	defer func() {
		s.cancel()
		seeking.Wait()
		if !s.mute.Load() {
			if err := s.list.Leave(leaveTimeout); err != nil {
				s.b.opts.Logger.Debug("gossip was left without a word", "error", err)
			}
		}
		if err := s.list.Shutdown(); err != nil {
			s.b.opts.Logger.Warn("gossip did not stop", "error", err)
		}
	}()
	seeking.Add(1)
	go func() { defer seeking.Done(); s.seek(ctx) }()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		changed := s.Session.Changed()
		if s.anyDead() && s.accuse(ctx) {
			retry.Reset(accuseEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Session.Done():
			return
		case <-s.deaths:
			s.Session.Refresh() // somebody else may be at it
		case <-changed:
		case <-retry.C:
		}
	}
}

func (s *session) anyDead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.dead) > 0
}

// seek joins gossip with members that are not in it, until ctx ends.
func (s *session) seek(ctx context.Context) {
	tick := time.NewTicker(joinEvery)
	defer tick.Stop()
	for {
		changed := s.Session.Changed()
		if seeds := s.missing(); len(seeds) > 0 {
			if _, err := s.list.Join(seeds); err != nil {
				s.b.opts.Logger.Debug("some runners were not found in gossip", "seeds", seeds, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Session.Done():
			return
		case <-changed:
		case <-tick.C:
			continue
		}
		select { // changes come in crowds
		case <-ctx.Done():
			return
		case <-s.Session.Done():
			return
		case <-time.After(gossipInterval):
		}
	}
}

// missing returns the gossip addresses of members that are not in gossip; of
// configured seeds only while nobody is.
func (s *session) missing() []string {
	known := make(map[string]bool)
	for _, n := range s.list.Members() {
		known[n.Name] = true
	}
	var seeds []string
	for _, m := range s.Members() {
		if m.Incarnation != s.self.Incarnation && len(m.Groups) > 0 && !known[nodeName(m.Incarnation)] {
			if addr := s.b.opts.SeedOf(m); addr != "" {
				seeds = append(seeds, addr)
			}
		}
	}
	if s.list.NumMembers() <= 1 {
		seeds = append(seeds, s.b.opts.Seeds...)
	}
	return seeds
}

// suspects returns members that gossip takes for dead, and our place among the
// others.
func (s *session) suspects() (suspects []membership.Member, rank int) {
	members := s.Members()
	s.mu.Lock()
	defer s.mu.Unlock()
	alive := make(map[string]bool, len(members))
	for _, m := range members {
		name := nodeName(m.Incarnation)
		alive[name] = true
		switch {
		case m.Incarnation == s.self.Incarnation:
		case !s.dead[name].at.IsZero():
			s.dead[name] = death{s.dead[name].at, true}
			suspects = append(suspects, m)
		case m.Incarnation < s.self.Incarnation && len(m.Groups) > 0:
			rank++
		}
	}
	for name, d := range s.dead {
		switch {
		case alive[name]:
		case d.member: // somebody was faster, or its lease ran out
			delete(s.dead, name)
			s.revoked = append(s.revoked, time.Now())
		case time.Since(d.at) > s.ttl: // we never heard of it, or only after it was gone
			delete(s.dead, name)
		}
	}
	return suspects, rank
}

// accuse revokes members that are dead by all opinions. It reports whether there
// are some left to look at again.
func (s *session) accuse(ctx context.Context) (again bool) {
	suspects, rank := s.suspects()
	for _, m := range suspects {
		if s.pause(ctx, time.Duration(min(rank, maxStagger))*stagger) {
			return false
		}
		if !s.stillSuspect(m) {
			continue
		}
		if !s.tryRevoke(ctx, m) {
			again = true
		}
	}
	return again
}

// pause waits; it reports whether the session has ended.
func (s *session) pause(ctx context.Context, d time.Duration) (over bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return true
	case <-s.Session.Done():
		return true
	case <-timer.C:
		return false
	}
}

func (s *session) stillSuspect(m membership.Member) bool {
	suspects, _ := s.suspects()
	return slices.ContainsFunc(suspects, func(o membership.Member) bool { return o.Incarnation == m.Incarnation })
}

// tryRevoke revokes a member unless something speaks against it.
func (s *session) tryRevoke(ctx context.Context, m membership.Member) bool {
	log := s.b.opts.Logger.With("incarnation", int64(s.self.Incarnation), "victim", int64(m.Incarnation), "address", m.Address)
	ctx, cancel := context.WithTimeout(ctx, opinionTime)
	defer cancel()
	switch {
	case time.Since(s.Kept()) > s.ttl-s.ttl/healthyParts:
		log.Warn("a runner seems dead, but our own lease is in doubt")
		return false
	case !s.mayRevoke():
		log.Warn("a runner seems dead, but too many have been revoked: it is left to its lease")
		return false
	case !s.b.opts.Confirm(ctx, m):
		log.Warn("a runner seems dead to gossip, but not to the second opinion")
		return false
	case !s.stillSuspect(m): // it came back while we asked
		return true
	}
	log.Warn("a runner is dead: its lease is revoked")
	if err := s.Revoke(ctx, m.Incarnation); err != nil {
		log.Warn("a dead runner's lease was not revoked", "error", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = append(s.revoked, time.Now())
	delete(s.dead, nodeName(m.Incarnation))
	return true
}

// mayRevoke reports whether one more would not make it a majority within a TTL.
func (s *session) mayRevoke() bool {
	members := len(s.Members())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = slices.DeleteFunc(s.revoked, func(at time.Time) bool { return time.Since(at) > s.ttl })
	return mayRevoke(members, len(s.revoked))
}

// mayRevoke is the rule: of those that were members within the last TTL, at most
// half are revoked.
func mayRevoke(members, revoked int) bool { return 2*(revoked+1) <= members+revoked }

// wait waits until gossip is over.
func (s *session) wait(ctx context.Context) error {
	select {
	case <-s.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("gossip: wait for its end: %w", ctx.Err())
	}
}

// Leave leaves gossip, then the wrapped membership.
func (s *session) Leave(ctx context.Context) error {
	s.cancel()
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.Session.Leave(ctx)
}
