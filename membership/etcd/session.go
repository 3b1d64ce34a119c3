package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

// errRevoked: somebody else ended the session.
var errRevoked = errors.New("its lease was revoked, or has run out")

// errRestored: etcd is not what it was.
var errRestored = errors.New("etcd was restored from a backup, or built anew")

// session is one member.
type session struct {
	b     *Backend
	key   string // of the runner record
	ttl   time.Duration
	lease clientv3.LeaseID
	since int64 // revision at which it joined

	ctx     context.Context // until the end of the session
	cancel  context.CancelFunc
	done    chan struct{}
	running sync.WaitGroup // keep and follow
	look    chan struct{}  // there was a hint
	tidy    chan struct{}  // there are stray locks
	turn    chan struct{}  // held while locks are written

	mu      sync.Mutex
	self    membership.Member
	over    bool
	left    bool  // over, because it left
	err     error // why it is over
	kept    time.Time
	expiry  *time.Timer
	view    *view
	changed chan struct{}
	held    map[crustertype.Shard]bool // granted to the caller
	asking  map[crustertype.Shard]bool // a request for it is under way
	refused map[crustertype.Shard]bool
	lost    []crustertype.Shard
	// stray are locks that may be on our lease although the caller does not know
	// of them: the outcome of a request was not known. They are freed.
	stray map[crustertype.Shard]bool
}

var (
	_ membership.Session = (*session)(nil)
	_ membership.Raiser  = (*session)(nil)
)

func newSession(ctx context.Context, b *Backend, self membership.Member, ttl time.Duration) *session {
	self.Groups = slices.Clone(self.Groups)
	s := &session{
		b: b, self: self, key: b.keys.runner(self.Incarnation), ttl: ttl, view: newView(b.keys),
		done: make(chan struct{}), look: make(chan struct{}, 1), tidy: make(chan struct{}, 1), turn: make(chan struct{}, 1), changed: make(chan struct{}),
		held: make(map[crustertype.Shard]bool), asking: make(map[crustertype.Shard]bool),
		refused: make(map[crustertype.Shard]bool), stray: make(map[crustertype.Shard]bool),
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// Kept returns when the newest granted keepalive was sent.
func (s *session) Kept() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept
}

// Done is closed at the end.
func (s *session) Done() <-chan struct{} { return s.done }

// Err says why the session has ended.
func (s *session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Members returns who has a runner record.
func (s *session) Members() []membership.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.members()
}

// Changed returns the channel of the next change.
func (s *session) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// signal wakes those who wait for a change. s.mu is held.
func (s *session) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Refresh makes the session read all keys soon. Changes come without asking;
// this is for when something does not add up.
func (s *session) Refresh() { poke(s.look) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Lost returns locks that went to somebody else.
func (s *session) Lost() []crustertype.Shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.lost
	s.lost = nil
	return lost
}

// live returns the error of a session that is over.
func (s *session) live() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.left:
		return fmt.Errorf("%w: it left", membership.ErrExpired)
	case s.over:
		return s.err
	}
	return nil
}

// end ends the session, once. nil stands for leaving.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.left = true, err == nil
	if err != nil && !errors.Is(err, membership.ErrExpired) {
		err = fmt.Errorf("%w: %w", membership.ErrExpired, err)
	}
	s.err = err
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.b.desk.Over(s.self.Incarnation, s.self.Address, errors.Is(err, errRevoked)) // first, as who sees the end may join at once
	s.cancel()
	close(s.done)
	s.signal()
}

// within returns a context that ends with ctx and with the session.
func (s *session) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// outcome returns the error of a call: that of the session, if it is over.
func (s *session) outcome(what string, err error) error {
	if err == nil {
		return nil
	}
	if over := s.live(); over != nil {
		return over
	}
	return fmt.Errorf("membership: %s: %w", what, err)
}

// Update writes the runner record.
func (s *session) Update(ctx context.Context, weight int, draining bool) error {
	if err := s.live(); err != nil {
		return err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	release, err := s.begin(ctx)
	if err != nil {
		return s.outcome("update", err)
	}
	defer release()
	s.mu.Lock()
	self := s.self
	s.mu.Unlock()
	self.Weight, self.Draining = weight, draining
	value, err := encodeMember(self)
	if err != nil {
		return err
	}
	resp, err := s.b.client.Txn(ctx).If(leaseIs(s.key, s.lease)).Then(clientv3.OpPut(s.key, value, clientv3.WithLease(s.lease))).Commit()
	if err != nil {
		return s.outcome("write the runner record", err)
	}
	if !resp.Succeeded {
		s.end(errRevoked)
		return s.live()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.self = self
	if s.view.setRunner(runner{Member: self, lease: s.lease, rev: resp.Header.Revision}) {
		s.signal()
	}
	return nil
}

// Revoke ends the lease of another member.
func (s *session) Revoke(ctx context.Context, member crustertype.Incarnation) error {
	if err := s.live(); err != nil {
		return err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	resp, err := s.b.client.Get(ctx, s.b.keys.runner(member))
	if err != nil {
		return s.outcome(fmt.Sprintf("look for incarnation %d", member), err)
	}
	if len(resp.Kvs) == 0 {
		return nil
	}
	return s.outcome(fmt.Sprintf("revoke incarnation %d", member), s.b.revoke(ctx, clientv3.LeaseID(resp.Kvs[0].Lease)))
}

// Leave revokes the session's own lease, and with it record and locks. The lease
// of a session that has expired is left to run out.
func (s *session) Leave(ctx context.Context) error {
	s.end(nil)
	stopped := make(chan struct{})
	go func() { s.running.Wait(); close(stopped) }()
	select {
	case <-stopped:
	case <-ctx.Done():
		return fmt.Errorf("membership: leave: %w", ctx.Err())
	}
	s.mu.Lock()
	left := s.left
	s.mu.Unlock()
	if !left {
		return nil
	}
	if err := s.b.revoke(ctx, s.lease); err != nil {
		return fmt.Errorf("membership: leave: %w", err)
	}
	s.b.desk.Forget(s.self.Incarnation)
	return nil
}
