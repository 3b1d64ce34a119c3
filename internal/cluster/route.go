package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/sharding"
	"github.com/cruster-go/cruster/transport"
)

// table says who is to own which shard. It is not modified once it is in use,
// except that changed is closed when another takes its place.
type table struct {
	members []membership.Member
	owners  map[string][]sharding.RunnerIndex // by group
	before  map[string][]membership.Member    // owners by the table before, which may still be the real ones
	changed chan struct{}
}

func newTable(members []membership.Member, shards int) *table {
	t := &table{members: members, owners: make(map[string][]sharding.RunnerIndex), changed: make(chan struct{})}
	runners := make([]sharding.Runner, len(members))
	for i, m := range members {
		runners[i] = sharding.Runner{ID: m.Address, Weight: m.Weight, Groups: m.Groups}
		if m.Address == "" {
			runners[i].ID = fmt.Sprintf("#%d", m.Incarnation)
		}
		if m.Draining {
			runners[i].Weight = 0
		}
	}
	for _, m := range members {
		for _, g := range m.Groups {
			if t.owners[g] == nil {
				t.owners[g] = sharding.Assign(runners, g, shards)
			}
		}
	}
	return t
}

// follow remembers who the owners were until now.
func (t *table) follow(old *table) {
	t.before = make(map[string][]membership.Member)
	for g, owners := range old.owners {
		list := make([]membership.Member, len(owners))
		for i := range owners {
			list[i] = old.owner(crustertype.Shard{Group: g, Index: i})
		}
		t.before[g] = list
	}
}

// owner returns who is to own a shard, or the zero Member.
func (t *table) owner(s crustertype.Shard) membership.Member {
	if owners := t.owners[s.Group]; s.Index >= 0 && s.Index < len(owners) && owners[s.Index] != sharding.Unassigned {
		return t.members[owners[s.Index]]
	}
	return membership.Member{}
}

// address returns where a shard's owner is asked for the given time: the one of
// now, and of every second time the one of before.
func (t *table) address(s crustertype.Shard, try int) string {
	if before := t.before[s.Group]; try%2 == 1 && s.Index < len(before) && before[s.Index].Address != "" {
		return before[s.Index].Address
	}
	return t.owner(s).Address
}

// knows reports whether an incarnation is a member.
func (t *table) knows(inc crustertype.Incarnation) bool {
	for _, m := range t.members {
		if m.Incarnation == inc {
			return true
		}
	}
	return false
}

// member returns a member, or the zero one.
func (t *table) member(inc crustertype.Incarnation) membership.Member {
	for _, m := range t.members {
		if m.Incarnation == inc {
			return m
		}
	}
	return membership.Member{}
}

var _ dispatch.Router = (*Node)(nil)

// longestPause is how long a caller waits at most before it looks for an owner
// again.
const longestPause = 100 * time.Millisecond

// search is one caller's search for the owner of a shard.
type search struct {
	n     *Node
	shard crustertype.Shard
	p     dispatch.Patience
	begin time.Time
	try   int
	last  error // of the newest attempt; nil: nobody was asked
}

func (n *Node) searchFor(shard crustertype.Shard, p dispatch.Patience) *search {
	if p.For == 0 {
		p.For = n.cfg.Patience
	}
	return &search{n: n, shard: shard, p: p, begin: time.Now()}
}

// next returns whom to ask, waiting as needed, or why the search is over.
func (q *search) next(ctx context.Context) (string, error) {
	for ; ; q.try++ {
		t := q.n.table.Load()
		if q.try > 0 {
			if len(q.n.cfg.Seeds) > 0 {
				q.n.inbox.change(func() {}) // who the members are may have changed
			}
			if q.p.For > 0 && time.Since(q.begin) > q.p.For {
				return "", q.givenUp()
			}
			if err := q.wait(ctx, t); err != nil {
				return "", err
			}
			t = q.n.table.Load()
		}
		if q.n.cfg.Run.Open(q.shard) {
			return "", dispatch.ErrHere
		}
		if a := t.address(q.shard, q.try); a != "" && a != q.n.cfg.Transport.Address() {
			q.try++
			return a, nil
		}
	}
}

func (q *search) givenUp() error {
	if q.last != nil {
		return q.last
	}
	if len(q.n.table.Load().owners[q.shard.Group]) == 0 {
		return crustertype.Errorf(crustertype.CodeUnavailable, "no runner hosts shard group %q: start one that registers a type of that group", q.shard.Group)
	}
	return crustertype.Errorf(crustertype.CodeUnavailable, "shard %s has no owner now", q.shard)
}

// wait pauses before another attempt, until the table changes at most.
func (q *search) wait(ctx context.Context, t *table) error {
	d := min(time.Millisecond<<min(q.try, 10), longestPause)
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.changed:
	case <-ctx.Done():
		e := dispatch.StoppedWaiting(ctx, executed(q.last))
		return e
	}
	return nil
}

func executed(err error) bool {
	var e *crustertype.Error
	return errors.As(err, &e) && e.Executed
}

// again reports whether a request that met err may be sent again.
func (q *search) again(err error) bool {
	switch crustertype.CodeOf(err) {
	case crustertype.CodeNotOwner, crustertype.CodeShuttingDown, crustertype.CodeNotStarted, crustertype.CodeUnavailable:
		return q.p.Idempotent || !executed(err)
	case crustertype.CodeMailboxFull: // of the connection: what is stored waits for no mailbox
		return q.p.Idempotent
	default:
		return false
	}
}

// Ask asks the owner of a shard. See [dispatch.Router].
func (n *Node) Ask(ctx context.Context, shard crustertype.Shard, op transport.Op, body []byte, p dispatch.Patience) ([]byte, error) {
	q := n.searchFor(shard, p)
	for {
		to, err := q.next(ctx)
		if err != nil {
			return nil, err
		}
		reply, err := n.cfg.Transport.Call(ctx, to, op, body)
		if crustertype.CodeOf(err) == crustertype.CodeNotOwner && executed(err) {
			q.begin = time.Now() // the owner was found, and has gone since: the search begins anew
		}
		if err == nil || ctx.Err() != nil || !q.again(err) {
			if n.cfg.Probe != nil {
				n.cfg.Probe.Tell(observe.CallRouted{Tries: q.try, Took: time.Since(q.begin), OK: err == nil, Code: crustertype.CodeOf(err)})
			}
			return reply, err
		}
		q.last = err
	}
}

// Stream asks the owner of a shard for a stream. See [dispatch.Router].
func (n *Node) Stream(ctx context.Context, shard crustertype.Shard, op transport.Op, body []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		q := n.searchFor(shard, dispatch.Patience{})
		for {
			to, err := q.next(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			began, failed := false, false
			for chunk, err := range n.cfg.Transport.Stream(ctx, to, op, body) {
				if err != nil && !began && ctx.Err() == nil && q.again(err) {
					q.last, failed = err, true
					break
				}
				began = true
				if !yield(chunk, err) || err != nil {
					return
				}
			}
			if !failed {
				return
			}
		}
	}
}

// MemberView is a member with how many shards are assigned to it.
type MemberView struct {
	membership.Member
	Shards int
}

// Members returns the members as the assignment in use knows them.
func (n *Node) Members() []MemberView {
	if n == nil {
		return nil
	}
	t := n.table.Load()
	list := make([]MemberView, len(t.members))
	for i, m := range t.members {
		list[i].Member = m
	}
	for _, owners := range t.owners {
		for _, i := range owners {
			if i != sharding.Unassigned {
				list[i].Shards++
			}
		}
	}
	return list
}
