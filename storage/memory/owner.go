package memory

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// alive reports whether a runner's record has not expired.
func (s *store) alive(r *storage.Runner) bool { return time.Now().Before(r.LeaseUntil) }

// Register issues an incarnation.
func (s *store) Register(ctx context.Context, r storage.Runner, ttl time.Duration) (crustertype.Incarnation, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	s.lastInc++
	r.Incarnation, r.LeaseUntil, r.Groups = s.lastInc, time.Now().Add(ttl), slices.Clone(r.Groups)
	s.runners[r.Incarnation] = &r
	return r.Incarnation, nil
}

// Renew extends a record.
func (s *store) Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	r := s.runners[inc]
	if r == nil || !s.alive(r) {
		return fmt.Errorf("the record of incarnation %d has expired, register again: %w", inc, storage.ErrFenced)
	}
	r.LeaseUntil, r.Draining = time.Now().Add(ttl), draining
	return nil
}

// Unregister removes a record.
func (s *store) Unregister(ctx context.Context, inc crustertype.Incarnation) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	delete(s.runners, inc)
	return nil
}

// Runners returns the records that live.
func (s *store) Runners(ctx context.Context) ([]storage.Runner, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []storage.Runner
	for _, r := range s.runners {
		if s.alive(r) {
			c := *r
			c.LeaseUntil, c.Groups = stamp(c.LeaseUntil), slices.Clone(c.Groups)
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b storage.Runner) int { return cmp.Compare(a.Incarnation, b.Incarnation) })
	return out, nil
}

// Owners returns leases.
func (s *store) Owners(ctx context.Context, shards []crustertype.Shard) ([]crustertype.Lease, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := make([]crustertype.Lease, len(shards))
	for i, id := range shards {
		out[i].Shard = id
		if sh := s.shards[id]; sh != nil {
			out[i] = sh.lease
		}
	}
	return out, nil
}

// TakeOver gives the shards of one incarnation to another.
func (s *store) TakeOver(ctx context.Context, t storage.TakeOver) ([]crustertype.Lease, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []crustertype.Lease
	taken := make(map[crustertype.Shard]bool, len(t.Shards))
	for _, id := range t.Shards {
		sh := s.shard(id)
		if taken[id] || sh.lease.Owner != t.From || t.LockRev != 0 && sh.lockRev >= t.LockRev {
			continue
		}
		taken[id] = true
		if t.LockRev != 0 {
			sh.lockRev = t.LockRev
		}
		out = append(out, sh.pass(t.By))
	}
	return out, nil
}

// HandOver gives shards away.
func (s *store) HandOver(ctx context.Context, leases []crustertype.Lease, to crustertype.Incarnation) ([]crustertype.Lease, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if err := fenced(s.stale(nil, leases)); err != nil {
		return nil, err
	}
	var out []crustertype.Lease
	given := make(map[crustertype.Shard]bool, len(leases))
	for _, l := range leases {
		if !given[l.Shard] {
			given[l.Shard] = true
			out = append(out, s.shards[l.Shard].pass(to))
		}
	}
	return out, nil
}

// pass makes to the owner.
func (h *shard) pass(to crustertype.Incarnation) crustertype.Lease {
	h.lease.Epoch++
	h.lease.Owner = to
	rand.Read(h.lease.Token[:]) // never fails: crypto/rand documents it
	return h.lease
}
