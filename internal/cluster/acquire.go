package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/sharding"
	"github.com/cruster-go/cruster/storage"
)

// acquire asks for the locks of shards and, where it gets them, makes the
// session's incarnation their owner in storage.
func (n *Node) acquire(s *session, shards []crustertype.Shard) {
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
	defer cancel()
	leases, err := n.takeShards(ctx, s, shards)
	if err != nil && n.ctx.Err() == nil {
		n.cfg.Logger.WarnContext(ctx, "shards cannot be acquired, trying again", "shards", len(shards), "error", err)
	}
	events := make([]sharding.Event, 0, len(shards))
	for _, shard := range shards {
		l, ok := leases[shard]
		e := sharding.Event{Kind: sharding.Refused, Shard: shard, Runner: s.inc}
		if ok {
			e = sharding.Event{Kind: sharding.Acquired, Shard: shard, Runner: s.inc, Epoch: l.Epoch, Token: l.Token}
		}
		events = append(events, e)
	}
	n.inbox.put(events...)
}

// takeShards returns the leases that it has got, also with an error.
func (n *Node) takeShards(ctx context.Context, s *session, shards []crustertype.Shard) (map[crustertype.Shard]crustertype.Lease, error) {
	got := make(map[crustertype.Shard]crustertype.Lease)
	answers, err := s.Lock(ctx, shards)
	if err != nil {
		return got, fmt.Errorf("lock: %w", err)
	}
	locks := make(map[crustertype.Shard]membership.Lock)
	for _, l := range answers {
		if l.Held {
			locks[l.Shard] = l
		}
	}
	// A shard whose owner has changed since it was read is read again, where an
	// outside lock says that it is ours whoever that is.
	for try := 0; len(locks) > 0 && try < 5; try++ {
		var held []crustertype.Shard
		for shard := range locks {
			held = append(held, shard)
		}
		owners, err := n.cfg.Store.Owners(ctx, held)
		if err != nil {
			return got, fmt.Errorf("read shard owners: %w", err)
		}
		type source struct {
			from crustertype.Incarnation
			rev  int64
		}
		takes := make(map[source][]crustertype.Shard)
		for _, l := range owners {
			lock := locks[l.Shard]
			from := l.Owner
			if lock.Rev == 0 {
				from = lock.From
			}
			if from == s.inc || l.Owner == s.inc { // handed over to us
				if l.Owner == s.inc {
					got[l.Shard] = l
				}
				delete(locks, l.Shard)
				continue
			}
			src := source{from, lock.Rev}
			takes[src] = append(takes[src], l.Shard)
		}
		for src, list := range takes {
			t := storage.TakeOver{By: s.inc, From: src.from, Shards: list, LockRev: src.rev}
			leases, err := n.cfg.Store.TakeOver(ctx, t)
			if err != nil {
				return got, fmt.Errorf("take over %d shards of incarnation %d: %w", len(list), t.From, err)
			}
			for _, l := range leases {
				got[l.Shard] = l
				delete(locks, l.Shard)
			}
			if t.LockRev == 0 { // storage has decided for another
				var gone []crustertype.Shard
				for _, shard := range list {
					if _, ok := got[shard]; !ok {
						gone = append(gone, shard)
						delete(locks, shard)
					}
				}
				if err := s.Unlock(ctx, gone); err != nil {
					return got, fmt.Errorf("unlock: %w", err)
				}
			}
			if len(leases) > 0 && t.From != 0 {
				n.cfg.Probe.Tell(observe.ShardsTakenOver{Shards: list, From: t.From})
			}
		}
	}
	return got, n.raise(ctx, s, locks)
}

// raise helps with locks of which storage has seen later revisions: the lock
// service was restored from a backup. They are given up, to be taken again with
// revisions that are higher.
func (n *Node) raise(ctx context.Context, s *session, locks map[crustertype.Shard]membership.Lock) error {
	r, ok := s.Session.(membership.Raiser)
	if len(locks) == 0 || !ok {
		return nil
	}
	n.cfg.Logger.WarnContext(ctx, "locks are older than those that storage knows: the lock service was restored; they are taken again", "shards", len(locks))
	if err := r.Raise(ctx); err != nil {
		return fmt.Errorf("raise the revisions of locks: %w", err)
	}
	if err := s.Unlock(ctx, slices.Collect(maps.Keys(locks))); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

// Fenced hears of shards that a commit has found lost. A commit may be late, so
// storage is asked who owns them now. A nil Node does nothing.
func (n *Node) Fenced(shards []crustertype.Shard) {
	if n == nil || n.ctx == nil {
		return
	}
	n.go1(func() {
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
		defer cancel()
		owners, err := n.cfg.Store.Owners(ctx, shards)
		if err != nil {
			return // the next commit is fenced too
		}
		var lost []crustertype.Shard
		for _, l := range owners {
			if have, ok := n.cfg.Run.Lease(l.Shard); ok && have != l {
				lost = append(lost, l.Shard)
				n.inbox.put(sharding.Event{Kind: sharding.LockLost, Shard: l.Shard, Epoch: have.Epoch})
			}
		}
		if len(lost) > 0 {
			n.cfg.Probe.Tell(observe.ShardsFenced{Shards: lost})
			n.refresh()
		}
	})
}
