// Package cluster makes a runner one of many: it joins a membership, takes the
// shards that are assigned to it, gives away those that are not, and finds the
// owners of the others.
//
// One goroutine decides: it turns what happens into events of a
// [sharding.Ownership] and carries out the commands that come back, each batch on
// a goroutine of its own that reports as another event. See DESIGN.md.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/sharding"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/transport"
)

// Config is what a Node is made of. Every field is required unless it says
// otherwise.
type Config struct {
	Store     storage.Store
	Backend   membership.Backend
	Transport transport.Transport
	Run       *runner.Runner
	Workflows *replay.Engine
	Host      *dispatch.Host
	Logger    *slog.Logger

	Name           string // of the cluster
	Version        string // of the program, for people; may be ""
	ShardsPerGroup int
	Weight         int
	TTL            time.Duration // of the lease
	// Debounce is how long a node waits, after another one has joined, before it
	// gives shards away: more may join.
	Debounce time.Duration
	// Grace is how long handlers may go on by themselves when their shard is to
	// go; then they are cancelled.
	Grace time.Duration
	// DrainTimeout is after what time also the uninterruptible are cancelled, and
	// after twice that the shard goes without them.
	DrainTimeout time.Duration
	// Patience is how long a call looks for the owner of a shard.
	Patience time.Duration
	// Seeds make the node a client, which is no member and needs neither Store nor
	// Backend: addresses of runners that say who the members are.
	Seeds []string
	// Probe is told what happens; nil: nobody is.
	Probe *invoke.Probe
}

// Node is a runner's part in the cluster.
type Node struct {
	cfg    Config
	inbox  inbox
	teller teller
	table  atomic.Pointer[table]
	mu     sync.Mutex     // of ended, and of adding to spent
	ended  bool           // no goroutine begins any more
	spent  sync.WaitGroup // goroutines of the node, the loop included
	ctx    context.Context
	stop   context.CancelFunc

	session atomic.Pointer[session]

	handOvers, releases batches

	// Of the loop alone.
	own      *sharding.Ownership
	assigned map[crustertype.Shard]crustertype.Incarnation
	seen     []membership.Member
	due      time.Time // when the assignment is to be computed again; zero: it is not
	draining bool
	leaving  map[crustertype.Incarnation]bool // members that have told that they give their shards away
	settled  chan struct{}                    // closed when the first shards are served, or there are none
	empty    chan struct{}                    // closed when, while draining, no shard is left
	retry    time.Time                        // when refused locks are asked for again; zero: there are none

	newest     map[crustertype.Shard]int64 // highest epoch that was acquired
	sweepAt    time.Time                   // when to look at what storage says is ours; zero: there is no reason
	sweepsLeft int
	sweeping   bool
}

// session is a membership.Session with the incarnation it is for.
type session struct {
	membership.Session
	inc crustertype.Incarnation
}

// New returns a Node that is not started.
func New(cfg Config) (*Node, error) {
	own, err := sharding.NewOwnership(&sharding.LeaseOptions{TTL: cfg.TTL})
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, own: own, assigned: make(map[crustertype.Shard]crustertype.Incarnation), leaving: make(map[crustertype.Incarnation]bool),
		newest:  make(map[crustertype.Shard]int64),
		settled: make(chan struct{}), empty: make(chan struct{}),
	}
	n.inbox.wake = make(chan struct{}, 1)
	n.teller.wake = make(chan struct{}, 1)
	n.table.Store(&table{changed: make(chan struct{})})
	return n, nil
}

// Start joins the cluster and returns when the shards that are free and assigned
// to the node are served. ctx bounds the start; base is the parent of what goes
// on after it.
func (n *Node) Start(ctx, base context.Context) error {
	if len(n.cfg.Seeds) > 0 {
		return n.startClient(ctx, base)
	}
	n.ctx, n.stop = context.WithCancel(base)
	n.cfg.Run.SetDeadline(time.Time{}) // not before it has a lease
	if err := n.cfg.Transport.Start(ctx, n.hello(0), server{n}); err != nil {
		n.stop()
		return fmt.Errorf("start the transport: %w", err)
	}
	s, err := n.join(ctx)
	if err != nil {
		return n.abort(fmt.Errorf("join the cluster: %w", err))
	}
	n.session.Store(s)
	n.inbox.put(sharding.Event{Kind: sharding.Joined, Runner: s.inc, Sent: s.Kept()})
	n.go1(n.loop)
	n.go1(n.tell)
	select {
	case <-n.settled:
		return nil
	case <-ctx.Done():
		return n.abort(fmt.Errorf("take the first shards: %w", context.Cause(ctx)))
	}
}

// abort undoes a start.
func (n *Node) abort(err error) error {
	n.end()
	n.quiet()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.ctx), time.Second)
	defer cancel()
	return errors.Join(err, n.leave(ctx), n.cfg.Transport.Close(ctx))
}

// end ends the node's goroutines.
func (n *Node) end() {
	n.stop()
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
	n.spent.Wait()
}

// go1 runs f on a goroutine of the node, or not at all when that has ended.
func (n *Node) go1(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return
	}
	n.spent.Add(1)
	go func() {
		defer n.spent.Done()
		f()
	}()
}

func (n *Node) hello(inc crustertype.Incarnation) transport.Hello {
	return transport.Hello{Cluster: n.cfg.Name, Address: n.cfg.Transport.Address(), Incarnation: inc}
}

// join registers a new incarnation and makes it a member.
func (n *Node) join(ctx context.Context) (*session, error) {
	groups := n.cfg.Run.Groups()
	address := n.cfg.Transport.Address()
	inc, err := n.cfg.Store.Register(ctx, storage.Runner{Address: address, Groups: groups, Weight: n.cfg.Weight, Version: n.cfg.Version}, n.cfg.TTL)
	if err != nil {
		return nil, err
	}
	s, err := n.cfg.Backend.Join(ctx, membership.Member{
		Incarnation: inc, Address: address, Groups: groups, Weight: n.cfg.Weight, Version: n.cfg.Version, Draining: n.inbox.draining(),
	}, n.cfg.TTL)
	if err != nil {
		if err2 := n.cfg.Store.Unregister(ctx, inc); err2 != nil && ctx.Err() == nil {
			n.cfg.Logger.WarnContext(ctx, "runner record is left behind", "incarnation", int64(inc), "error", err2)
		}
		return nil, err
	}
	n.cfg.Transport.Introduce(n.hello(inc))
	return &session{s, inc}, nil
}

// loop is the goroutine that decides.
func (n *Node) loop() {
	tick := time.NewTicker(max(n.cfg.TTL/20, time.Millisecond))
	defer tick.Stop()
	for {
		var changed, done <-chan struct{}
		s := n.session.Load()
		if s != nil && n.own.Self() == s.inc {
			changed, done = s.Changed(), s.Done()
			n.look(s)
		}
		n.react(time.Now())
		select {
		case <-n.inbox.wake:
		case <-changed:
		case <-done:
			n.step(sharding.Event{Kind: sharding.Expired, Runner: s.inc})
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// look takes over what the session knows.
func (n *Node) look(s *session) {
	n.step(sharding.Event{Kind: sharding.Kept, Runner: s.inc, Sent: s.Kept()})
	for _, shard := range s.Lost() {
		if lease, ok := n.own.Lease(shard); ok {
			n.step(sharding.Event{Kind: sharding.LockLost, Shard: shard, Epoch: lease.Epoch})
		}
	}
	members := s.Members()
	if !slices.EqualFunc(members, n.seen, same) {
		n.membersChanged(members)
	}
}

func same(a, b membership.Member) bool {
	return a.Incarnation == b.Incarnation && a.Weight == b.Weight && a.Draining == b.Draining && a.Address == b.Address && slices.Equal(a.Groups, b.Groups)
}

// membersChanged decides how soon shards are assigned anew: at once when
// somebody is gone, since its shards have no owner; a little later when somebody
// has come.
func (n *Node) membersChanged(now []membership.Member) {
	before := make(map[crustertype.Incarnation]membership.Member, len(n.seen))
	for _, m := range n.seen {
		before[m.Incarnation] = m
	}
	soon := len(n.seen) == 0 || len(now) == 1
	for _, m := range now {
		old, known := before[m.Incarnation]
		delete(before, m.Incarnation)
		if !known {
			n.cfg.Probe.Tell(observe.MemberJoined{Member: named(m)})
			n.greet(m)
		} else if m.Draining && !old.Draining {
			soon = true
		}
	}
	for _, m := range before {
		soon = true
		delete(n.leaving, m.Incarnation)
		n.cfg.Probe.Tell(observe.MemberLeft{Member: named(m)})
		if !slices.ContainsFunc(now, func(o membership.Member) bool { return o.Address == m.Address }) { // else its successor has the address
			n.cfg.Transport.Forget(m.Address)
		}
	}
	n.seen = now
	when := time.Now().Add(n.cfg.Debounce)
	if soon {
		when = time.Now()
	}
	if n.due.IsZero() || when.Before(n.due) {
		n.due = when
	}
}

func named(m membership.Member) observe.Member {
	return observe.Member{Incarnation: m.Incarnation, Address: m.Address}
}

func (n *Node) self() observe.Member {
	return observe.Member{Incarnation: n.own.Self(), Address: n.cfg.Transport.Address()}
}

// greet connects to a member, so that it hears of this one.
func (n *Node) greet(m membership.Member) {
	if m.Address == "" || m.Address == n.cfg.Transport.Address() {
		return
	}
	n.go1(func() {
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
		defer cancel()
		if err := n.cfg.Transport.Connect(ctx, m.Address); err != nil && n.ctx.Err() == nil {
			n.cfg.Logger.WarnContext(ctx, "member cannot be reached", "address", m.Address, "incarnation", int64(m.Incarnation), "error", err)
		}
	})
}

// react handles what has arrived, and what is due.
func (n *Node) react(now time.Time) {
	for _, e := range n.inbox.take() {
		n.step(e)
	}
	if n.inbox.grants() {
		n.free()
		n.sweepSoon()
	}
	if leases, failed, ok := n.inbox.sweep(); ok {
		n.found(leases, failed)
	}
	if n.own.Self() == 0 {
		n.step(sharding.Event{Kind: sharding.Tick})
		n.progress()
		return
	}
	if n.inbox.left(n.leaving) {
		n.due = now
	}
	if !n.draining && n.inbox.draining() {
		n.draining, n.leaving[n.own.Self()], n.due = true, true, now
	}
	if !n.due.IsZero() && !now.Before(n.due) {
		n.due = time.Time{}
		n.assign()
	}
	if !n.retry.IsZero() && !now.Before(n.retry) {
		n.free()
	}
	n.sweep(now)
	n.step(sharding.Event{Kind: sharding.Tick})
	n.progress()
}

// free asks again for the locks that were refused.
func (n *Node) free() {
	n.retry = time.Time{}
	var cmds []sharding.Command
	now := time.Now()
	for _, s := range n.own.In(sharding.Acquiring) {
		cmds = append(cmds, n.own.Step(now, sharding.Event{Kind: sharding.Free, Shard: s})...)
	}
	n.execute(cmds)
}

// step feeds one event to the ownership and carries out what follows.
func (n *Node) step(e sharding.Event) {
	if e.Kind == sharding.Refused && n.retry.IsZero() {
		n.retry = time.Now().Add(max(n.cfg.TTL/20, 50*time.Millisecond))
	}
	ended := n.own.Phase(e.Shard) == sharding.Lost
	if e.Kind == sharding.Acquired && e.Runner == n.own.Self() {
		n.newest[e.Shard] = max(n.newest[e.Shard], e.Epoch)
	}
	if e.Kind == sharding.HandOverFailed || ended && (e.Kind == sharding.Drained || e.Kind == sharding.DrainExpired) {
		n.sweepSoon()
	}
	cmds := n.own.Step(time.Now(), e)
	if e.Kind == sharding.Joined {
		clear(n.assigned)
		n.cfg.Run.SetIncarnation(n.own.Self())
		n.seen, n.due = nil, time.Time{}
		n.cfg.Probe.Tell(observe.Joined{Member: n.self()})
	}
	n.cfg.Run.SetDeadline(n.own.Deadline())
	n.execute(cmds)
}

// assign computes who owns which shard and tells the ownership about those of
// this node's groups.
func (n *Node) assign() {
	members := slices.Clone(n.seen)
	for i := range members {
		if n.leaving[members[i].Incarnation] {
			members[i].Draining = true
		}
	}
	t := newTable(members, n.cfg.ShardsPerGroup)
	var cmds []sharding.Command
	var unwanted []crustertype.Shard
	now := time.Now()
	for _, g := range n.cfg.Run.Groups() {
		for i := range n.cfg.ShardsPerGroup {
			s := crustertype.Shard{Group: g, Index: i}
			owner := t.owner(s).Incarnation
			if old, ok := n.assigned[s]; ok && old == owner {
				continue
			}
			n.assigned[s] = owner
			if n.own.Phase(s) == sharding.Acquiring && owner != n.own.Self() {
				unwanted = append(unwanted, s)
			}
			cmds = append(cmds, n.own.Step(now, sharding.Event{Kind: sharding.Assigned, Shard: s, Runner: owner})...)
		}
	}
	t.follow(n.table.Load())
	old := n.table.Swap(t)
	close(old.changed)
	n.sweepSoon()
	n.execute(cmds)
	n.letGo(unwanted)
}

// letGo tells the membership that locks which were refused are not wanted any
// more.
func (n *Node) letGo(shards []crustertype.Shard) {
	s := n.session.Load()
	if s == nil || len(shards) == 0 {
		return
	}
	n.go1(func() {
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
		defer cancel()
		if err := s.Unlock(ctx, shards); err != nil && n.ctx.Err() == nil {
			n.cfg.Logger.DebugContext(ctx, "locks that were refused are not let go", "shards", len(shards), "error", err)
		}
	})
}

// progress tells those who wait for the node to have its first shards, or none.
func (n *Node) progress() {
	if isOpen(n.settled) && len(n.assigned) > 0 {
		waiting := false
		for _, s := range n.own.In(sharding.Acquiring) {
			if !n.inbox.refused(s) {
				waiting = true
			}
		}
		if !waiting && n.inbox.starting() == 0 {
			close(n.settled)
		}
	}
	if n.inbox.draining() && isOpen(n.empty) && (n.own.Self() == 0 || n.draining && n.due.IsZero() && n.seenDraining()) {
		for _, p := range []sharding.Phase{sharding.Owned, sharding.Draining, sharding.HandingOver, sharding.Releasing, sharding.Lost} {
			if len(n.own.In(p)) > 0 {
				return
			}
		}
		close(n.empty)
	}
}

// seenDraining reports whether the assignment knows that this node drains.
func (n *Node) seenDraining() bool {
	for _, owner := range n.assigned {
		if owner == n.own.Self() {
			return false
		}
	}
	return true
}

func isOpen(ch chan struct{}) bool {
	select {
	case <-ch:
		return false
	default:
		return true
	}
}
