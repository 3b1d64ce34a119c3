package stored

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/storage"
)

// minPoll is how soon after a refusal the owner is looked at again; each time
// that it is the same the wait grows by a half.
const minPoll = 50 * time.Millisecond

// Parts of a TTL.
const (
	renewEvery = 2   // a renewal is due half a TTL after the last
	firstTry   = 8   // the first try may take so long, later ones twice as long
	firstRetry = 100 // wait after a failure, doubled each time up to maxRetry
	maxRetry   = 10
	lookGap    = 100 // looks are at least so far apart
	slack      = 500 // how much later than computed a record is looked for
)

// run keeps the session until its end.
func (s *session) run() {
	defer close(s.stopped)
	tries := 0
	renewAt := s.Kept().Add(s.ttl / renewEvery)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(s.next(renewAt)))
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		now := time.Now()
		if !now.Before(renewAt) {
			if kept, ok := s.attempt(tries); ok {
				tries, renewAt = 0, kept.Add(s.ttl/renewEvery)
			} else {
				renewAt = time.Now().Add(s.pause(tries))
				tries++
				continue
			}
		}
		s.observe()
	}
}

// next returns when there is something to do, at the latest at renewAt.
func (s *session) next(renewAt time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := renewAt
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	sooner(s.lookAt)
	if s.hint {
		sooner(s.lookedAt.Add(s.ttl / lookGap))
	}
	if s.missed || len(s.refused) > 0 {
		sooner(s.pollAt)
	}
	return at
}

// due says whether to look at the runners, and at the owners of shards. It
// takes the hint: what is hinted at from now on needs another look.
func (s *session) due(now time.Time) (runners, owners bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hinted := s.hint && !now.Before(s.lookedAt.Add(s.ttl/lookGap))
	if hinted {
		s.hint = false
	}
	runners = hinted || s.kept.After(s.lookedAt) || !s.lookAt.IsZero() && !now.Before(s.lookAt)
	owners = hinted || (s.missed || len(s.refused) > 0) && !now.Before(s.pollAt)
	return runners, owners
}

// attempt renews the record once, in bounded time.
func (s *session) attempt(tries int) (kept time.Time, ok bool) {
	ctx, cancel := s.bounded(tries)
	defer cancel()
	err := s.renew(ctx)
	switch {
	case err == nil:
		return s.Kept(), true
	case errors.Is(err, storage.ErrFenced), errors.Is(err, storage.ErrClosed):
		s.end(err)
	case s.ctx.Err() == nil:
		s.b.log.Warn("the runner record was not renewed", "incarnation", int64(s.inc), "try", tries+1, "left", time.Until(s.Kept().Add(s.ttl)), "error", err)
	}
	return time.Time{}, false
}

// bounded returns a context for one try. A query that hangs leaves time for
// another one; a database that is slow is waited for longer each time.
func (s *session) bounded(tries int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.ttl/firstTry<<min(tries, 10))
}

// pause returns how long to wait after a failure.
func (s *session) pause(tries int) time.Duration {
	d := min(s.ttl/firstRetry<<min(tries, 10), s.ttl/maxRetry)
	return d/2 + rand.N(d)
}

// renew writes the record. One that was granted counts from when it was sent.
func (s *session) renew(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	sent := time.Now()
	if err := s.store.Renew(ctx, s.inc, draining, s.ttl); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	s.kept, s.answered = sent, time.Now()
	left := s.ttl - s.answered.Sub(sent)
	if s.expiry == nil {
		s.expiry = time.AfterFunc(left, s.expire)
	} else {
		s.expiry.Reset(left)
	}
	return nil
}

// expire ends the session, unless it was renewed just now.
func (s *session) expire() {
	if past := time.Since(s.Kept()); past >= s.ttl {
		s.end(fmt.Errorf("%w: no renewal was granted for %s", membership.ErrExpired, past))
	}
}

// observe looks at what is due. What fails is tried again.
func (s *session) observe() {
	runners, owners := s.due(time.Now())
	ctx, cancel := s.bounded(0)
	defer cancel()
	var err error
	if runners {
		err = s.look(ctx)
	}
	if err == nil && owners {
		err = s.lookAtOwners(ctx)
	}
	switch {
	case err == nil || s.ctx.Err() != nil:
		return
	case errors.Is(err, storage.ErrFenced):
		s.end(err)
		return
	}
	s.b.log.Warn("the runners were not read", "incarnation", int64(s.inc), "error", err)
	again := time.Now().Add(s.pause(0))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookAt, s.pollAt = again, again
	s.missed = s.missed || owners
}

// look reads the runners.
func (s *session) look(ctx context.Context) error {
	began := time.Now()
	runners, err := s.store.Runners(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || began.Before(s.lookedAt) {
		return nil // a look that began later has ended before
	}
	s.lookedAt = began
	members := make([]membership.Member, len(runners))
	own := -1
	for i, r := range runners {
		members[i] = memberOf(r)
		if r.Incarnation == s.inc {
			own = i
		}
	}
	if own < 0 {
		return fmt.Errorf("the record of incarnation %d was removed: %w", s.inc, storage.ErrFenced)
	}
	s.lookAt = s.firstExpiry(runners, runners[own].LeaseUntil)
	if !slices.EqualFunc(s.members, members, equal) {
		s.members = members
		for shard, holder := range s.refused {
			if !slices.ContainsFunc(members, func(m membership.Member) bool { return m.Incarnation == holder }) {
				delete(s.refused, shard) // the signal is given
			}
		}
		s.signal()
	}
	return nil
}

func equal(a, b membership.Member) bool {
	return a.Incarnation == b.Incarnation && a.Address == b.Address && slices.Equal(a.Groups, b.Groups) &&
		a.Weight == b.Weight && a.Version == b.Version && a.Draining == b.Draining
}

// firstExpiry returns when, by our clock, the first of the others' records has
// expired if it is not renewed; zero when there are no others. The database's
// clock is not compared with ours: our own record was renewed between sending
// and answer, and ends one TTL after that.
func (s *session) firstExpiry(runners []storage.Runner, own time.Time) time.Time {
	var first time.Time
	for _, r := range runners {
		if r.Incarnation != s.inc && (first.IsZero() || r.LeaseUntil.Before(first)) {
			first = r.LeaseUntil
		}
	}
	if first.IsZero() {
		return first
	}
	at := s.answered.Add(s.ttl + first.Sub(own) + s.ttl/slack)
	if soonest := s.lookedAt.Add(s.ttl / lookGap); at.Before(soonest) {
		return soonest
	}
	return at
}

// lookAtOwners reads who owns the shards that it holds or was refused.
func (s *session) lookAtOwners(ctx context.Context) error {
	shards, version := s.watched()
	var owners []crustertype.Lease
	if len(shards) > 0 {
		var err error
		if owners, err = s.store.Owners(ctx, shards); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missed = false
	s.pollGap = min(cmp.Or(s.pollGap, minPoll)*3/2, s.ttl/renewEvery)
	s.pollAt = time.Now().Add(s.pollGap)
	if s.version != version {
		s.missed, s.pollAt = true, time.Now().Add(minPoll) // locks were taken or given while we read
		return nil
	}
	changed := false
	for _, l := range owners {
		if seen, held := s.held[l.Shard]; held {
			switch {
			case l.Owner == s.inc:
				s.held[l.Shard] = true
			case seen || l.Owner != 0 && s.knows(l.Owner):
				s.drop(l.Shard)
			}
		}
		if holder, refused := s.refused[l.Shard]; refused && l.Owner != holder {
			delete(s.refused, l.Shard)
			changed = true
		}
	}
	if changed {
		s.signal()
	}
	return nil
}

// knows reports whether a member was alive at the last look. s.mu is held.
func (s *session) knows(inc crustertype.Incarnation) bool {
	return slices.ContainsFunc(s.members, func(m membership.Member) bool { return m.Incarnation == inc })
}
