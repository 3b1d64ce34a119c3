package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cruster-go/cruster/membership"
)

// enter gets a lease and writes the runner record. alone says that there is no
// other member.
func (s *session) enter(ctx context.Context, alone bool) error {
	sent := time.Now()
	grant, err := s.b.client.Grant(ctx, int64((s.ttl+time.Second-1)/time.Second))
	if err != nil {
		return fmt.Errorf("get a lease: %w", err)
	}
	s.lease = grant.ID
	s.granted(sent)
	value, err := encodeMember(s.self)
	if err != nil {
		return err
	}
	for {
		v, _, err := s.b.list(ctx)
		if err != nil {
			return err
		}
		if _, known := v.runners[s.self.Incarnation]; known {
			return fmt.Errorf("%w: incarnation %d has joined already", membership.ErrExpired, s.self.Incarnation)
		}
		conds := []clientv3.Cmp{absent(s.key)}
		puts := []clientv3.Op{clientv3.OpPut(s.key, value, clientv3.WithLease(s.lease))}
		begins := s.begins(v, alone)
		if begins {
			cond, put, err := s.raising(v)
			if err != nil {
				return err
			}
			conds, puts = append(conds, cond), append(puts, put)
		}
		resp, err := s.b.client.Txn(ctx).If(conds...).Then(puts...).Commit()
		if err != nil {
			return fmt.Errorf("write the runner record: %w", err)
		}
		if !resp.Succeeded {
			continue // another member has begun a generation
		}
		if begins {
			s.b.settled()
		}
		s.since = resp.Header.Revision
		if v, _, err = s.b.list(ctx); err != nil {
			return err
		}
		s.view = v
		if _, known := v.runners[s.self.Incarnation]; !known {
			return fmt.Errorf("%w: the record of incarnation %d was removed: %w", membership.ErrExpired, s.self.Incarnation, errRevoked)
		}
		return s.live()
	}
}

// begins says whether a member that joins begins a generation.
func (s *session) begins(v *view, alone bool) bool {
	switch {
	case len(v.gens.list) == 0:
		return true // etcd is new
	case v.gens.cluster != v.cluster, s.b.owesGeneration():
		return true // its revisions may be lower than they were
	}
	// Alone it disturbs nobody, and helps if all processes were started again
	// after a restore.
	return alone && int64(s.self.Incarnation) > v.gens.newest()
}

// raising returns how to begin a generation.
func (s *session) raising(v *view) (clientv3.Cmp, clientv3.Op, error) {
	value, err := v.gens.raised(s.self.Incarnation, v.cluster).encode()
	key := s.b.keys.generation()
	cond := absent(key)
	if len(v.gens.list) > 0 {
		cond = clientv3.Compare(clientv3.ModRevision(key), "=", v.gens.rev)
	}
	return cond, clientv3.OpPut(key, value), err
}

// Raise begins a generation, unless one began since this session did.
func (s *session) Raise(ctx context.Context) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	for {
		if err := s.live(); err != nil {
			return err
		}
		v, _, err := s.b.list(ctx)
		if err != nil {
			return s.outcome("raise lock revisions", err)
		}
		if len(v.gens.list) > 0 && v.gens.rev > s.since {
			return nil
		}
		cond, put, err := s.raising(v)
		if err != nil {
			return err
		}
		resp, err := s.b.client.Txn(ctx).If(cond, leaseIs(s.key, s.lease)).Then(put).Commit()
		if err != nil {
			return s.outcome("raise lock revisions", err)
		}
		if resp.Succeeded {
			return nil
		}
		if _, known := v.runners[s.self.Incarnation]; !known {
			s.end(errRevoked)
		}
	}
}

// abandon gives up a session that did not come to be.
func (s *session) abandon(ctx context.Context, err error) {
	s.end(err)
	if s.lease == clientv3.NoLease {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.ttl/firstTry)
	defer cancel()
	if err := s.b.revoke(ctx, s.lease); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.b.log.Warn("a lease was left behind; it runs out", "incarnation", int64(s.self.Incarnation), "error", err)
	}
}
