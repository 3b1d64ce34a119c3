package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/sharding"
	"github.com/cruster-go/cruster/storage"
)

// execute carries out commands, alike ones together.
func (n *Node) execute(cmds []sharding.Command) {
	cmds = regroup(cmds)
	for len(cmds) > 0 {
		k := 1
		for k < len(cmds) && cmds[k].Op == cmds[0].Op && cmds[k].To == cmds[0].To {
			k++
		}
		n.carryOut(cmds[:k])
		cmds = cmds[k:]
	}
}

// regroup brings commands of one kind and receiver together. Those of different
// shards may change places; those of one shard keep their order.
func regroup(cmds []sharding.Command) []sharding.Command {
	type kind struct {
		op sharding.Op
		to crustertype.Incarnation
	}
	var order []kind
	by := make(map[kind][]sharding.Command)
	for _, c := range cmds {
		k := kind{c.Op, c.To}
		if by[k] == nil {
			order = append(order, k)
		}
		by[k] = append(by[k], c)
	}
	out := cmds[:0:0]
	for _, k := range order {
		out = append(out, by[k]...)
	}
	return out
}

func (n *Node) carryOut(cmds []sharding.Command) {
	shards := make([]crustertype.Shard, len(cmds))
	leases := make([]crustertype.Lease, len(cmds))
	for i, c := range cmds {
		shards[i], leases[i] = c.Lease.Shard, c.Lease
	}
	switch cmds[0].Op {
	case sharding.Acquire:
		if s := n.session.Load(); s != nil {
			n.go1(func() { n.acquire(s, shards) })
		}
	case sharding.Start:
		n.start(shards, leases)
	case sharding.StopDispatch:
		n.stopDispatch(leases)
	case sharding.Cancel:
		cancel := n.cfg.Run.Canceller(shards, crustertype.ErrNotOwner) // of this time of ours, not of a later one
		n.go1(func() {
			if pause(n.ctx, n.cfg.Grace) {
				cancel()
			}
		})
	case sharding.CancelAll:
		n.cancelAll(shards)
	case sharding.HandOver:
		n.handOvers.add(leases, cmds[0].To, n.go1, n.handOver)
	case sharding.Release:
		if cmds[0].To == 0 {
			n.sweepSoon()
		}
		n.releases.add(leases, cmds[0].To, n.go1, n.release)
	case sharding.Rejoin:
		n.cfg.Logger.WarnContext(n.ctx, "the runner has lost its lease and joins again")
		n.cfg.Probe.Tell(observe.Detached{Member: n.self()})
		n.go1(n.rejoin)
	}
}

// cancelAll cancels everything in shards. Those that are lost are not used any
// more for what is still to be written: it would be refused.
func (n *Node) cancelAll(shards []crustertype.Shard) {
	n.cfg.Run.CancelAll(shards, crustertype.ErrNotOwner)
	n.cfg.Workflows.Drop(shards)
	var lost []crustertype.Shard
	for _, s := range shards {
		if n.own.Phase(s) == sharding.Lost {
			lost = append(lost, s)
		}
	}
	if len(lost) > 0 {
		n.drop(lost)
		n.cfg.Probe.Tell(observe.ShardsLost{Shards: lost})
	}
}

// start serves shards. What cannot be read of their unfinished work is tried
// again, as long as they are owned.
func (n *Node) start(shards []crustertype.Shard, leases []crustertype.Lease) {
	n.drop(shards) // an earlier time of ours
	n.cfg.Run.Begin(leases)
	n.inbox.change(func() { n.inbox.starts += len(shards) })
	n.cfg.Probe.Tell(observe.ShardsAcquired{Shards: shards})
	n.go1(func() {
		defer n.inbox.change(func() { n.inbox.starts -= len(shards) })
		wait := 50 * time.Millisecond
		for {
			// What an earlier time of ours, under the same lease even, has handed in
			// is durable before storage is read.
			err := n.cfg.Run.Flush(n.ctx)
			if err == nil {
				err = n.cfg.Run.Gain(n.ctx, leases)
			}
			if err == nil || n.ctx.Err() != nil {
				return
			}
			n.cfg.Logger.WarnContext(n.ctx, "unfinished work of shards cannot be read, trying again", "shards", len(shards), "error", err)
			if !pause(n.ctx, wait) {
				return
			}
			wait = min(2*wait, 5*time.Second)
			leases = n.still(leases)
			if len(leases) == 0 {
				return
			}
		}
	})
}

// still returns the leases that the runner has not closed since.
func (n *Node) still(leases []crustertype.Lease) []crustertype.Lease {
	var open []crustertype.Lease
	for _, l := range leases {
		if have, ok := n.cfg.Run.Lease(l.Shard); ok && have == l && n.cfg.Run.Open(l.Shard) {
			open = append(open, l)
		}
	}
	return open
}

// stopDispatch begins nothing new in shards and reports, for each, when nothing
// runs any more, or when its time is up.
func (n *Node) stopDispatch(leases []crustertype.Lease) {
	shards := make([]crustertype.Shard, len(leases))
	for i, l := range leases {
		shards[i] = l.Shard
	}
	idle := n.cfg.Run.Close(shards, crustertype.ErrNotOwner)
	for _, l := range leases {
		n.go1(func() { n.awaitDrained(l, idle[l.Shard]) })
	}
}

func (n *Node) awaitDrained(l crustertype.Lease, idle <-chan struct{}) {
	drained := make(chan struct{})
	n.go1(func() {
		defer close(drained)
		if err := n.cfg.Workflows.Release(n.ctx, []crustertype.Shard{l.Shard}); err != nil {
			return
		}
		if idle != nil {
			select {
			case <-idle:
			case <-n.ctx.Done():
			}
		}
	})
	limit := time.NewTicker(n.cfg.DrainTimeout)
	defer limit.Stop()
	for range 3 {
		select {
		case <-drained:
			n.inbox.put(sharding.Event{Kind: sharding.Drained, Shard: l.Shard, Epoch: l.Epoch})
			return
		case <-limit.C:
			n.cfg.Logger.WarnContext(n.ctx, "handlers of a shard that is to go still run", "shard", l.Shard.String())
			n.inbox.put(sharding.Event{Kind: sharding.DrainExpired, Shard: l.Shard, Epoch: l.Epoch})
		case <-n.ctx.Done():
			return
		}
	}
}

// drop ends the use of leases, and answers those who wait for requests and
// executions of their shards.
func (n *Node) drop(shards []crustertype.Shard) {
	n.cfg.Run.Drop(shards, crustertype.ErrNotOwner)
	n.cfg.Workflows.Drop(shards) // after it: who looks now does not begin to wait
}

// handOver writes the next owner of shards to storage.
func (n *Node) handOver(leases []crustertype.Lease, to crustertype.Incarnation) {
	n.drop(shardsOf(leases))
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
	defer cancel()
	var failed []crustertype.Lease
	err := n.cfg.Run.Flush(ctx)
	for err == nil && len(leases) > 0 {
		_, err = n.cfg.Store.HandOver(ctx, leases, to)
		var fenced *storage.FencedError
		if err == nil {
			break
		}
		if errors.As(err, &fenced) { // those are another's already
			var rest []crustertype.Lease
			lost := make(map[crustertype.Shard]bool)
			for _, s := range fenced.Shards {
				lost[s] = true
			}
			for _, l := range leases {
				if lost[l.Shard] {
					failed = append(failed, l)
				} else {
					rest = append(rest, l)
				}
			}
			if len(rest) < len(leases) {
				leases, err = rest, nil
			}
		}
	}
	kind := sharding.HandedOver
	if err != nil { // also when it may have happened: the next owner finds out
		kind = sharding.HandOverFailed
		n.cfg.Logger.WarnContext(ctx, "shards cannot be handed over, the next owner takes them over", "shards", len(leases), "to", int64(to), "error", err)
	}
	var events []sharding.Event
	for _, l := range leases {
		events = append(events, sharding.Event{Kind: kind, Shard: l.Shard, Epoch: l.Epoch})
	}
	for _, l := range failed {
		events = append(events, sharding.Event{Kind: sharding.HandOverFailed, Shard: l.Shard, Epoch: l.Epoch})
	}
	n.inbox.put(events...)
}

// release moves locks to the next owner and tells it, or gives them up.
func (n *Node) release(leases []crustertype.Lease, to crustertype.Incarnation) {
	shards := shardsOf(leases)
	n.drop(shards)
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
	defer cancel()
	var err error
	if s := n.session.Load(); s != nil {
		if to == 0 {
			err = s.Unlock(ctx, shards)
		} else {
			err = s.Move(ctx, shards, to)
		}
	}
	if err != nil && n.ctx.Err() == nil {
		n.cfg.Logger.WarnContext(ctx, "locks of shards are not moved", "shards", len(shards), "to", int64(to), "error", err)
	}
	if to != 0 {
		n.cfg.Probe.Tell(observe.ShardsMoved{Shards: shards, To: to})
		n.grant(ctx, to)
	}
	events := make([]sharding.Event, len(leases))
	for i, l := range leases {
		events[i] = sharding.Event{Kind: sharding.Released, Shard: l.Shard, Epoch: l.Epoch}
	}
	n.inbox.put(events...)
}

func shardsOf(leases []crustertype.Lease) []crustertype.Shard {
	shards := make([]crustertype.Shard, len(leases))
	for i, l := range leases {
		shards[i] = l.Shard
	}
	return shards
}

// rejoin makes the node a member again, as a new incarnation.
func (n *Node) rejoin() {
	if old := n.session.Load(); old != nil {
		ctx, cancel := context.WithTimeout(n.ctx, time.Second)
		if err := old.Leave(ctx); err != nil && n.ctx.Err() == nil {
			n.cfg.Logger.DebugContext(ctx, "the old membership is not ended", "incarnation", int64(old.inc), "error", err)
		}
		cancel()
	}
	wait := 100 * time.Millisecond
	for n.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
		s, err := n.join(ctx)
		cancel()
		if err == nil {
			n.session.Store(s)
			n.inbox.put(sharding.Event{Kind: sharding.Joined, Runner: s.inc, Sent: s.Kept()})
			return
		}
		if n.ctx.Err() == nil {
			n.cfg.Logger.WarnContext(n.ctx, "the cluster cannot be joined, trying again", "pause", wait, "error", err)
		}
		pause(n.ctx, wait)
		wait = min(2*wait, 5*time.Second)
	}
}

// pause waits and reports whether ctx did not end meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
