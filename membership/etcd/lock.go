package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

// begin waits for the turn to write.
func (s *session) begin(ctx context.Context) (release func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Lock takes keys that are not there. Those that are known to be another
// member's are refused without asking: the watch tells when they are free.
func (s *session) Lock(ctx context.Context, shards []crustertype.Shard) ([]membership.Lock, error) {
	if err := s.live(); err != nil {
		return nil, err
	}
	if len(shards) == 0 {
		return nil, nil
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	release, err := s.begin(ctx)
	if err != nil {
		return nil, s.outcome("lock", err)
	}
	defer release()
	answers := make(map[crustertype.Shard]membership.Lock, len(shards))
	open := s.answerKnown(shards, answers)
	defer s.asked(open)
	for part := range slices.Chunk(open, s.b.ops) {
		if err := s.take(ctx, part, answers); err != nil {
			s.suspect(open)
			return nil, s.outcome("lock", err)
		}
	}
	if err := s.live(); err != nil {
		return nil, err // the lease may have run out meanwhile
	}
	locks := make([]membership.Lock, len(shards))
	for i, shard := range shards {
		locks[i] = answers[shard]
	}
	return locks, nil
}

// answerKnown answers what needs no question, and returns the other shards.
func (s *session) answerKnown(shards []crustertype.Shard, answers map[crustertype.Shard]membership.Lock) (open []crustertype.Shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range shards {
		if _, twice := answers[shard]; twice {
			continue
		}
		l, known := s.view.locks[shard]
		delete(s.stray, shard)
		answers[shard] = membership.Lock{Shard: shard}
		switch holder, alive := s.view.leases[l.lease]; {
		case known && l.lease == s.lease:
			s.grant(shard, answers)
		case known && alive:
			s.refuse(shard, answers)
			answers[shard] = membership.Lock{Shard: shard, Holder: holder}
		default:
			open = append(open, shard)
			s.asking[shard] = true
		}
	}
	return open
}

// asked notes that requests are over.
func (s *session) asked(shards []crustertype.Shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range shards {
		delete(s.asking, shard)
	}
}

// grant answers for a key on our lease, as the view has it. s.mu is held.
func (s *session) grant(shard crustertype.Shard, answers map[crustertype.Shard]membership.Lock) {
	s.held[shard] = true
	delete(s.refused, shard)
	answers[shard] = membership.Lock{Shard: shard, Held: true, Rev: s.view.gens.lockRev(s.view.locks[shard].rev)}
}

// refuse answers for a key on another lease, as the view has it. s.mu is held.
func (s *session) refuse(shard crustertype.Shard, answers map[crustertype.Shard]membership.Lock) {
	s.refused[shard] = true
	answers[shard] = membership.Lock{Shard: shard, Holder: s.view.leases[s.view.locks[shard].lease]}
}

// take asks etcd for locks in one transaction: each key is created unless it is
// there, provided that our own record is, which hangs on the same lease.
func (s *session) take(ctx context.Context, shards []crustertype.Shard, answers map[crustertype.Shard]membership.Lock) error {
	ops := make([]clientv3.Op, 0, len(shards)+1)
	ops = append(ops, clientv3.OpGet(s.b.keys.generation()))
	for _, shard := range shards {
		key := s.b.keys.shard(shard)
		ops = append(ops, clientv3.OpTxn(
			[]clientv3.Cmp{leaseIs(key, clientv3.NoLease)}, // absent, or put by hand
			[]clientv3.Op{clientv3.OpPut(key, s.self.Address, clientv3.WithLease(s.lease))},
			[]clientv3.Op{clientv3.OpGet(key)},
		))
	}
	resp, err := s.txn(ctx, []clientv3.Cmp{leaseIs(s.key, s.lease)}, ops, nil)
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		s.end(errRevoked)
		return errRevoked
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rev := resp.Header.Revision
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		if _, _, err := s.view.put(kv); err != nil {
			return err
		}
	}
	var changed []crustertype.Shard
	for i, shard := range shards {
		inner := resp.Responses[i+1].GetResponseTxn()
		l := lock{rev: rev, lease: s.lease, created: true}
		if !inner.Succeeded {
			kv := only(inner.Responses[0].GetResponseRange().GetKvs())
			l = lock{rev: kv.GetModRevision(), lease: clientv3.LeaseID(kv.GetLease())}
		}
		s.view.setLock(shard, l)
		if l.lease != s.lease {
			s.refuse(shard, answers)
			if now := s.view.locks[shard]; now.lease == 0 || now.lease == s.lease {
				changed = append(changed, shard) // freed while we asked
			}
			continue
		}
		s.held[shard] = true
		delete(s.refused, shard)
		answers[shard] = membership.Lock{Shard: shard, Held: true, Rev: s.view.gens.lockRev(l.rev)}
		if s.view.locks[shard].lease != s.lease {
			changed = append(changed, shard) // lost while we asked
		}
	}
	return s.react(changed, false)
}

func only(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}

// txn runs a transaction, and notices when etcd is not what it was.
func (s *session) txn(ctx context.Context, conds []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	before := s.b.mark()
	resp, err := s.b.client.Txn(ctx).If(conds...).Then(then...).Else(otherwise...).Commit()
	if err != nil {
		return nil, err
	}
	now := mark{resp.Header.ClusterId, resp.Header.Revision}
	behind := s.b.note(before, now)
	s.mu.Lock()
	behind = behind || s.view.cluster != now.cluster
	s.mu.Unlock()
	if behind {
		s.end(errRestored)
		return nil, errRestored
	}
	return resp, nil
}

// suspect has locks freed of which it is not known whether they are ours.
func (s *session) suspect(shards []crustertype.Shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range shards {
		if !s.held[shard] {
			s.stray[shard] = true
		}
	}
	poke(s.tidy)
}

// freeStray frees locks that the caller does not know of. What fails is tried
// again after the next keepalive.
func (s *session) freeStray() {
	ctx, cancel := context.WithTimeout(s.ctx, s.ttl/firstTry)
	defer cancel()
	release, err := s.begin(ctx)
	if err != nil {
		return
	}
	defer release()
	s.mu.Lock()
	shards := slices.SortedFunc(maps.Keys(s.stray), crustertype.Shard.Compare)
	s.mu.Unlock()
	if len(shards) == 0 {
		return
	}
	if err := s.free(ctx, shards); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range shards {
		delete(s.stray, shard)
	}
}

// Unlock deletes keys that are on our lease.
func (s *session) Unlock(ctx context.Context, shards []crustertype.Shard) error {
	return s.give(ctx, shards, func(ctx context.Context) error { return s.free(ctx, shards) })
}

// Move puts keys on the lease of another member, with its address.
func (s *session) Move(ctx context.Context, shards []crustertype.Shard, to crustertype.Incarnation) error {
	return s.give(ctx, shards, func(ctx context.Context) error {
		target, err := s.find(ctx, to)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(unique(shards), s.b.ops) {
			if target != nil {
				moved, err := s.pass(ctx, part, *target)
				if err != nil {
					return err
				}
				if moved {
					continue
				}
			}
			if err := s.free(ctx, part); err != nil {
				return err
			}
		}
		return nil
	})
}

// give runs f, which gives locks away. They are not ours from then on, whatever
// comes of it: when that is not known, they are freed as soon as can be.
func (s *session) give(ctx context.Context, shards []crustertype.Shard, f func(context.Context) error) error {
	if err := s.live(); err != nil {
		return err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	release, err := s.begin(ctx)
	if err != nil {
		return s.outcome("give locks away", err)
	}
	defer release()
	s.mu.Lock()
	for _, shard := range shards {
		delete(s.held, shard)
		delete(s.refused, shard)
	}
	s.lost = slices.DeleteFunc(s.lost, func(shard crustertype.Shard) bool { return slices.Contains(shards, shard) })
	s.mu.Unlock()
	if err := f(ctx); err != nil {
		s.suspect(shards)
		return s.outcome("give locks away", err)
	}
	return nil
}

func unique(shards []crustertype.Shard) []crustertype.Shard {
	out := slices.Clone(shards)
	slices.SortFunc(out, crustertype.Shard.Compare)
	return slices.Compact(out)
}

// free deletes those keys that are on our lease.
func (s *session) free(ctx context.Context, shards []crustertype.Shard) error {
	for part := range slices.Chunk(unique(shards), s.b.ops) {
		var ops []clientv3.Op
		for _, shard := range part {
			key := s.b.keys.shard(shard)
			ops = append(ops, clientv3.OpTxn([]clientv3.Cmp{leaseIs(key, s.lease)}, []clientv3.Op{clientv3.OpDelete(key)}, nil))
		}
		resp, err := s.txn(ctx, nil, ops, nil)
		if err != nil {
			return fmt.Errorf("free: %w", err)
		}
		s.noteGiven(resp, part, clientv3.NoLease)
	}
	return nil
}

// find returns the record of a member that is alive, or nil.
func (s *session) find(ctx context.Context, inc crustertype.Incarnation) (*runner, error) {
	s.mu.Lock()
	r, known := s.view.runners[inc]
	s.mu.Unlock()
	if known {
		return &r, nil
	}
	resp, err := s.b.client.Get(ctx, s.b.keys.runner(inc))
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	m, err := decodeMember(inc, resp.Kvs[0].Value)
	if err != nil {
		return nil, err
	}
	return &runner{Member: m, lease: clientv3.LeaseID(resp.Kvs[0].Lease)}, nil
}

// pass moves keys in one transaction, if the other member lives.
func (s *session) pass(ctx context.Context, shards []crustertype.Shard, to runner) (moved bool, err error) {
	var ops []clientv3.Op
	for _, shard := range shards {
		key := s.b.keys.shard(shard)
		ops = append(ops, clientv3.OpTxn(
			[]clientv3.Cmp{leaseIs(key, s.lease)},
			[]clientv3.Op{clientv3.OpPut(key, to.Address, clientv3.WithLease(to.lease))}, nil,
		))
	}
	resp, err := s.txn(ctx, []clientv3.Cmp{leaseIs(s.b.keys.runner(to.Incarnation), to.lease)}, ops, nil)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("move: %w", err)
	case resp.Succeeded:
		s.noteGiven(resp, shards, to.lease)
	}
	return resp.Succeeded, nil
}

// noteGiven takes in what a transaction did, ahead of the watch.
func (s *session) noteGiven(resp *clientv3.TxnResponse, shards []crustertype.Shard, lease clientv3.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, shard := range shards {
		if resp.Responses[i].GetResponseTxn().GetSucceeded() {
			s.view.setLock(shard, lock{rev: resp.Header.Revision, lease: lease})
		}
	}
}
