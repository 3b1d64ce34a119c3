package cluster

import (
	"context"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/sharding"
)

// Storage may name this runner as the owner of a shard that it neither serves
// nor takes: a hand-over failed, nobody was there to hand over to, or it was
// handed over to by somebody who did not know yet that it goes to a third one.
// Nobody else gets such a shard while this runner lives, so it has to find it and
// pass it on.

// sweeps is how often the runner looks after the newest reason to.
const sweeps = 4

// sweepSoon makes the runner look at what storage says it owns.
func (n *Node) sweepSoon() {
	n.sweepsLeft = sweeps
	if at := time.Now().Add(n.cfg.TTL / 40); n.sweepAt.IsZero() || at.Before(n.sweepAt) {
		n.sweepAt = at
	}
}

// sweep begins a look when it is due. Looks come at longer and longer intervals.
func (n *Node) sweep(now time.Time) {
	if n.sweepAt.IsZero() || now.Before(n.sweepAt) || n.sweeping || n.own.Self() == 0 {
		return
	}
	n.sweepsLeft--
	n.sweepAt, n.sweeping = time.Time{}, true
	if n.sweepsLeft > 0 {
		n.sweepAt = now.Add(n.cfg.TTL >> n.sweepsLeft)
	}
	self := n.own.Self()
	var shards []crustertype.Shard
	for _, g := range n.cfg.Run.Groups() {
		for i := range n.cfg.ShardsPerGroup {
			shards = append(shards, crustertype.Shard{Group: g, Index: i})
		}
	}
	n.go1(func() {
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
		defer cancel()
		leases, err := n.cfg.Store.Owners(ctx, shards)
		if err != nil && n.ctx.Err() == nil {
			n.cfg.Logger.WarnContext(ctx, "shard owners cannot be read, trying again", "error", err)
		}
		var mine []crustertype.Lease
		for _, l := range leases {
			if _, serves := n.cfg.Run.Lease(l.Shard); l.Owner == self && !serves {
				mine = append(mine, l)
			}
		}
		if err == nil && len(mine) > 0 {
			mine, err = n.locked(ctx, mine)
		}
		n.inbox.change(func() { n.inbox.swept, n.inbox.found, n.inbox.missed = true, mine, err != nil })
	})
}

// locked returns those leases whose locks it has got, with an error when that
// is not all of them: a lock may belong for a while yet to a runner that has
// handed the shard over in storage, and died before it moved the lock.
func (n *Node) locked(ctx context.Context, leases []crustertype.Lease) ([]crustertype.Lease, error) {
	s := n.session.Load()
	if s == nil {
		return nil, crustertype.ErrNotOwner
	}
	locks, err := s.Lock(ctx, shardsOf(leases))
	if err != nil {
		return nil, err
	}
	var held []crustertype.Lease
	for i, l := range locks {
		if l.Held {
			held = append(held, leases[i])
		}
	}
	if len(held) < len(leases) {
		return held, crustertype.ErrNotOwner
	}
	return held, nil
}

// found acts on what a sweep has found.
func (n *Node) found(leases []crustertype.Lease, failed bool) {
	n.sweeping = false
	if failed {
		n.sweepSoon()
	}
	pass := make(map[crustertype.Incarnation][]crustertype.Lease)
	for _, l := range leases {
		switch n.own.Phase(l.Shard) {
		case sharding.None, sharding.Acquiring:
		default:
			continue // its end comes by itself
		}
		if l.Owner != n.own.Self() {
			continue
		}
		if l.Epoch > n.newest[l.Shard] { // handed over to us
			n.step(sharding.Event{Kind: sharding.Acquired, Shard: l.Shard, Runner: l.Owner, Epoch: l.Epoch, Token: l.Token})
			continue
		}
		// A time of ours that has ended. To own it again takes a new epoch, which
		// shuts out what may still run of the old one.
		to := n.assigned[l.Shard]
		pass[to] = append(pass[to], l)
	}
	for to, list := range pass {
		n.go1(func() { n.passOn(list, to) })
	}
}

// passOn gives shards away under which nothing runs.
func (n *Node) passOn(leases []crustertype.Lease, to crustertype.Incarnation) {
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
	defer cancel()
	given, err := n.cfg.Store.HandOver(ctx, leases, to)
	if err != nil { // some may be another's meanwhile: look again
		n.cfg.Logger.DebugContext(ctx, "shards cannot be passed on, trying again", "shards", len(leases), "to", int64(to), "error", err)
		n.inbox.change(func() { n.inbox.swept, n.inbox.found, n.inbox.missed = true, nil, true })
		return
	}
	if to != leases[0].Owner {
		if s := n.session.Load(); s != nil && to != 0 {
			if err := s.Move(ctx, shardsOf(leases), to); err != nil && n.ctx.Err() == nil {
				n.cfg.Logger.WarnContext(ctx, "locks of shards are not moved", "shards", len(leases), "to", int64(to), "error", err)
			}
			n.grant(ctx, to)
		}
		return
	}
	events := make([]sharding.Event, len(given))
	for i, l := range given {
		events[i] = sharding.Event{Kind: sharding.Acquired, Shard: l.Shard, Runner: l.Owner, Epoch: l.Epoch, Token: l.Token}
	}
	n.inbox.put(events...)
}
