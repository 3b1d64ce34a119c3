package stored

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/storage"
)

// Reweigher is a store that can change the weight of a live runner record. With
// any other store, [membership.Session.Update] refuses a new weight with an
// error that wraps [errors.ErrUnsupported]; draining works with all.
type Reweigher interface {
	// Reweigh sets the weight. It returns [storage.ErrFenced] when the record is
	// gone or has expired.
	Reweigh(ctx context.Context, inc crustertype.Incarnation, weight int) error
}

// session is one member.
type session struct {
	b       *Backend
	store   storage.Ownership
	inc     crustertype.Incarnation
	address string
	ttl     time.Duration

	ctx     context.Context // until the end of the session
	cancel  context.CancelFunc
	done    chan struct{}
	stopped chan struct{} // run has returned
	wake    chan struct{} // there is a hint, or a lock was refused
	turn    chan struct{} // held while the record is written

	mu       sync.Mutex
	over     bool
	left     bool  // over, because it left
	err      error // why it is over
	weight   int
	draining bool
	hint     bool
	kept     time.Time   // when the newest granted renewal was sent
	answered time.Time   // when its answer came
	expiry   *time.Timer // ends the session
	members  []membership.Member
	lookAt   time.Time // when a known record may have expired
	lookedAt time.Time
	changed  chan struct{}
	held     map[crustertype.Shard]bool // granted; true once storage said that it is ours
	refused  map[crustertype.Shard]crustertype.Incarnation
	lost     []crustertype.Shard
	version  int       // of held and refused
	missed   bool      // a look at the owners is owed
	pollAt   time.Time // when to look who owns the refused ones
	pollGap  time.Duration
}

var _ membership.Session = (*session)(nil)

func newSession(ctx context.Context, b *Backend, self membership.Member, ttl time.Duration) *session {
	s := &session{
		b: b, store: b.store, inc: self.Incarnation, address: self.Address, ttl: ttl,
		weight: self.Weight, draining: self.Draining,
		done: make(chan struct{}), stopped: make(chan struct{}), wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		changed: make(chan struct{}), held: make(map[crustertype.Shard]bool), refused: make(map[crustertype.Shard]crustertype.Incarnation),
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// Kept returns when the newest granted renewal was sent.
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

// Members returns who was alive at the last look.
func (s *session) Members() []membership.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.members)
	for i := range out {
		out[i].Groups = slices.Clone(out[i].Groups)
	}
	return out
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

// Refresh makes the session look at the runners and at its own shards soon.
func (s *session) Refresh() {
	s.mu.Lock()
	s.hint = true
	s.mu.Unlock()
	s.rouse()
}

func (s *session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
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
	if s.over {
		s.mu.Unlock()
		return
	}
	s.over, s.left = true, err == nil
	fenced := errors.Is(err, storage.ErrFenced)
	if err != nil && !errors.Is(err, membership.ErrExpired) {
		err = fmt.Errorf("%w: %w", membership.ErrExpired, err)
	}
	s.err = err
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.b.desk.Over(s.inc, s.address, fenced) // first, as who sees the end may join at once
	s.cancel()
	close(s.done)
	s.signal()
	s.mu.Unlock()
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
	if errors.Is(err, storage.ErrFenced) {
		s.end(err)
	}
	if over := s.live(); over != nil {
		return over
	}
	return fmt.Errorf("membership: %s: %w", what, err)
}

// Update publishes drain state and weight.
func (s *session) Update(ctx context.Context, weight int, draining bool) error {
	if err := s.live(); err != nil {
		return err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	s.mu.Lock()
	before := s.weight
	s.mu.Unlock()
	if weight != before {
		r, ok := s.store.(Reweigher)
		if !ok {
			return fmt.Errorf("membership: this store cannot change the weight of a runner from %d to %d; set draining instead: %w", before, weight, errors.ErrUnsupported)
		}
		if err := r.Reweigh(ctx, s.inc, weight); err != nil {
			return s.outcome("change the weight", err)
		}
	}
	s.mu.Lock()
	s.weight, s.draining = weight, draining
	s.mu.Unlock()
	if err := s.renew(ctx); err != nil {
		return s.outcome("publish the drain state", err)
	}
	return s.outcome("read the runners", s.look(ctx))
}

// Lock grants what nobody that is alive owns in storage.
func (s *session) Lock(ctx context.Context, shards []crustertype.Shard) ([]membership.Lock, error) {
	if err := s.live(); err != nil {
		return nil, err
	}
	if len(shards) == 0 {
		return nil, nil
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	// In this order: an owner registered before it owned anything, so one that
	// is missing in the later answer is dead, not new.
	owners, err := s.store.Owners(ctx, shards)
	if err != nil {
		return nil, s.outcome("read the owners of shards", err)
	}
	if err := s.look(ctx); err != nil {
		return nil, s.outcome("read the runners", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil, fmt.Errorf("%w: while it asked for locks", membership.ErrExpired)
	}
	s.version++
	alive := make(map[crustertype.Incarnation]bool, len(s.members))
	for _, m := range s.members {
		alive[m.Incarnation] = true
	}
	locks := make([]membership.Lock, len(shards))
	for i, shard := range shards {
		owner := owners[i].Owner
		locks[i] = membership.Lock{Shard: shard, Held: owner == 0 || owner == s.inc || !alive[owner]}
		if locks[i].Held {
			locks[i].From = owner
			s.held[shard] = s.held[shard] || owner == s.inc
			delete(s.refused, shard)
			continue
		}
		locks[i].Holder = owner
		s.drop(shard)
		s.refused[shard] = owner
	}
	if len(s.refused) > 0 {
		s.pollGap = minPoll
		s.pollAt = time.Now().Add(s.pollGap)
		s.rouse()
	}
	return locks, nil
}

// drop notes that a lock is another's. s.mu is held.
func (s *session) drop(shard crustertype.Shard) {
	if _, held := s.held[shard]; held {
		delete(s.held, shard)
		s.lost = append(s.lost, shard)
		s.signal()
	}
}

// Move forgets locks: storage has been told already whose the shards are.
func (s *session) Move(ctx context.Context, shards []crustertype.Shard, _ crustertype.Incarnation) error {
	return s.Unlock(ctx, shards)
}

// Unlock forgets locks: storage has been told already whose the shards are.
func (s *session) Unlock(_ context.Context, shards []crustertype.Shard) error {
	if err := s.live(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range shards {
		delete(s.held, shard)
		delete(s.refused, shard)
	}
	s.version++
	s.lost = slices.DeleteFunc(s.lost, func(shard crustertype.Shard) bool { return slices.Contains(shards, shard) })
	return nil
}

// Lost returns what another was seen to own.
func (s *session) Lost() []crustertype.Shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.lost
	s.lost = nil
	return lost
}

// Revoke removes another's record.
func (s *session) Revoke(ctx context.Context, member crustertype.Incarnation) error {
	if err := s.live(); err != nil {
		return err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	if err := s.store.Unregister(ctx, member); err != nil {
		return s.outcome(fmt.Sprintf("revoke incarnation %d", member), err)
	}
	return s.outcome("read the runners", s.look(ctx))
}

// Leave removes its own record. A session that has expired has nothing to
// remove.
func (s *session) Leave(ctx context.Context) error {
	s.end(nil)
	select {
	case <-s.stopped:
	case <-ctx.Done():
		return fmt.Errorf("membership: leave: %w", ctx.Err())
	}
	s.mu.Lock()
	left := s.left
	s.mu.Unlock()
	if !left {
		return nil
	}
	if err := s.store.Unregister(ctx, s.inc); err != nil {
		return fmt.Errorf("membership: leave: %w", err)
	}
	s.b.desk.Forget(s.inc)
	return nil
}

// watched returns the shards that it holds or was refused.
func (s *session) watched() (shards []crustertype.Shard, version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	shards = slices.AppendSeq(slices.Collect(maps.Keys(s.refused)), maps.Keys(s.held))
	slices.SortFunc(shards, crustertype.Shard.Compare)
	return shards, s.version
}
