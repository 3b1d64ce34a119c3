package membertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

// cluster is a service and what the suite does with it.
type cluster struct {
	*Service
	t     *testing.T
	names int
	hints bool // sessions are told to look, as nobody wants to wait for half a lease
}

func newCluster(t *testing.T, s *Service) *cluster { return &cluster{Service: s, t: t} }

// member is one session with its node.
type member struct {
	membership.Session
	c    *cluster
	node *Node
	self membership.Member
}

// start starts a process on an address of its own.
func (c *cluster) start() *member {
	c.t.Helper()
	c.names++
	return c.startAs(membership.Member{Address: fmt.Sprintf("10.0.0.%d:7000", c.names), Groups: []string{"default", "billing"}, Weight: 1, Version: "v1"})
}

// startAs starts a process; the incarnation is filled in.
func (c *cluster) startAs(self membership.Member) *member {
	c.t.Helper()
	m, err := c.joinFrom(c.Node(c.t), self)
	if err != nil {
		c.t.Fatalf("Join(%+v) = %v", self, err)
	}
	return m
}

// joinFrom registers and joins from an existing process.
func (c *cluster) joinFrom(n *Node, self membership.Member) (*member, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), c.TTL+c.Late)
	defer cancel()
	inc, err := n.Register(ctx, self, c.TTL)
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	self.Incarnation = inc
	s, err := n.Backend.Join(ctx, self, c.TTL)
	if err != nil {
		return nil, err
	}
	m := &member{Session: s, c: c, node: n, self: self}
	c.t.Cleanup(func() {
		n.Heal()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.TTL+c.Late)
		defer cancel()
		if err := m.Leave(ctx); err != nil {
			c.t.Errorf("Leave of incarnation %d at the end = %v", inc, err)
		}
	})
	return m, nil
}

// await waits until cond holds, looking again at each change that m signals. It
// fails after limit plus what the service may be late.
func (c *cluster) await(m *member, what string, limit time.Duration, cond func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(limit + c.Late)
	defer deadline.Stop()
	for {
		changed := m.Changed()
		if cond() {
			return
		}
		if c.hints {
			m.Refresh()
		}
		select {
		case <-changed:
		case <-deadline.C:
			if cond() {
				c.t.Fatalf("%s became true without a signal of Changed within %s: a wake-up was lost", what, limit+c.Late)
			}
			c.t.Fatalf("after %s not yet: %s; members %v", limit+c.Late, what, incarnations(m.Members()))
		}
	}
}

// pass lets time pass.
func (c *cluster) pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.t.Context().Done():
	}
}

// awaitEnd waits until the session of m is over.
func (c *cluster) awaitEnd(m *member, limit time.Duration) {
	c.t.Helper()
	timer := time.NewTimer(limit + c.Late)
	defer timer.Stop()
	if c.hints {
		m.Refresh()
	}
	select {
	case <-m.Done():
	case <-timer.C:
		c.t.Fatalf("the session of incarnation %d is not over after %s", m.self.Incarnation, limit+c.Late)
	}
}

// sees reports whether m's list has other.
func (m *member) sees(other *member) bool {
	return slices.Contains(incarnations(m.Members()), other.self.Incarnation)
}

// find returns what m knows of an incarnation.
func (m *member) find(inc crustertype.Incarnation) membership.Member {
	for _, o := range m.Members() {
		if o.Incarnation == inc {
			return o
		}
	}
	return membership.Member{}
}

func incarnations(members []membership.Member) []crustertype.Incarnation {
	var out []crustertype.Incarnation
	for _, m := range members {
		out = append(out, m.Incarnation)
	}
	return out
}

// shardsOf returns n shards of group "default".
func shardsOf(n int) []crustertype.Shard {
	out := make([]crustertype.Shard, n)
	for i := range out {
		out[i] = crustertype.Shard{Group: "default", Index: i}
	}
	return out
}

// take asks for shards as the engine does, and returns the locks, Held cleared
// where storage gave the shard to another.
func (m *member) take(shards ...crustertype.Shard) ([]membership.Lock, error) {
	ctx := m.c.t.Context()
	locks, err := m.Lock(ctx, shards)
	if err != nil {
		return nil, err
	}
	if len(locks) != len(shards) {
		return nil, fmt.Errorf("asked for %d locks, got %d answers", len(shards), len(locks))
	}
	for i, l := range locks {
		if l.Shard != shards[i] {
			return nil, fmt.Errorf("answer %d is for %v, want %v: answers are in order", i, l.Shard, shards[i])
		}
	}
	if m.c.Storage == nil {
		return locks, nil
	}
	var granted []membership.Lock
	for _, l := range locks {
		if l.Held {
			granted = append(granted, l)
		}
	}
	got, err := m.c.Storage.Take(ctx, m.self.Incarnation, granted)
	if err != nil {
		return nil, err
	}
	for i, l := range locks {
		locks[i].Held = l.Held && slices.Contains(got, l.Shard)
	}
	return locks, nil
}

// mustTake fails the test unless m gets all shards.
func (m *member) mustTake(shards ...crustertype.Shard) []membership.Lock {
	m.c.t.Helper()
	locks, err := m.take(shards...)
	if err != nil {
		m.c.t.Fatalf("incarnation %d: Lock of %d shards = %v", m.self.Incarnation, len(shards), err)
	}
	for _, l := range locks {
		if !l.Held {
			m.c.t.Fatalf("incarnation %d: the lock of %v was refused, its holder is %d; it is free", m.self.Incarnation, l.Shard, l.Holder)
		}
	}
	return locks
}

// takeSoon takes shards that become free within limit.
func (m *member) takeSoon(limit time.Duration, shards ...crustertype.Shard) []membership.Lock {
	m.c.t.Helper()
	var locks []membership.Lock
	m.c.await(m, fmt.Sprintf("all of %d shards are granted to incarnation %d", len(shards), m.self.Incarnation), limit, func() bool {
		var err error
		if locks, err = m.take(shards...); err != nil {
			m.c.t.Fatalf("incarnation %d: Lock = %v", m.self.Incarnation, err)
		}
		return !slices.ContainsFunc(locks, func(l membership.Lock) bool { return !l.Held })
	})
	return locks
}

// give hands shards over as the engine does: first in storage, then the locks.
func (m *member) give(to crustertype.Incarnation, shards ...crustertype.Shard) {
	m.c.t.Helper()
	ctx := m.c.t.Context()
	if m.c.Storage != nil {
		if err := m.c.Storage.Give(ctx, m.self.Incarnation, to, shards); err != nil {
			m.c.t.Fatalf("hand over to %d: %v", to, err)
		}
	}
	var err error
	if to == 0 {
		err = m.Unlock(ctx, shards)
	} else {
		err = m.Move(ctx, shards, to)
	}
	if err != nil {
		m.c.t.Fatalf("give %d locks to %d = %v", len(shards), to, err)
	}
}

// mustBeOver checks the end of a session.
func (m *member) mustBeOver() {
	m.c.t.Helper()
	if err := m.Err(); !errors.Is(err, membership.ErrExpired) {
		m.c.t.Errorf("Err of incarnation %d after its end = %v, want ErrExpired", m.self.Incarnation, err)
	}
	if _, err := m.Lock(m.c.t.Context(), shardsOf(1)); !errors.Is(err, membership.ErrExpired) {
		m.c.t.Errorf("Lock after the end = %v, want ErrExpired", err)
	}
}

func compareMembers(a, b membership.Member) int { return cmp.Compare(a.Incarnation, b.Incarnation) }
