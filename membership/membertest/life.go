package membertest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cruster-go/cruster/membership"
)

func testMembersSeeEachOther(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	client := c.startAs(membership.Member{Version: "v2"}) // hosts nothing, and cannot be reached
	for _, m := range []*member{a, b, client} {
		c.await(m, "three members", c.TTL, func() bool { return len(m.Members()) == 3 })
		if list := m.Members(); !slices.IsSortedFunc(list, compareMembers) {
			t.Errorf("members %v are not by incarnation", incarnations(list))
		}
		for _, other := range []*member{a, b, client} {
			got, want := m.find(other.self.Incarnation), other.self
			if got.Address != want.Address || got.Weight != want.Weight || got.Version != want.Version || got.Draining || !slices.Equal(got.Groups, want.Groups) {
				t.Errorf("incarnation %d sees %+v, want %+v", m.self.Incarnation, got, want)
			}
		}
		if err := m.Err(); err != nil {
			t.Errorf("Err of a live session = %v", err)
		}
	}
	a.Members()[0].Groups[0] = "scribbled"
	if got := a.find(a.self.Incarnation).Groups[0]; got != "default" {
		t.Errorf("writing to what Members returned changed the session's list to %q", got)
	}
}

func testJoinRefusesNonsense(t *testing.T, c *cluster) {
	n := c.Node(t)
	if _, err := n.Backend.Join(t.Context(), membership.Member{Address: "a:1"}, c.TTL); err == nil {
		t.Error("Join without an incarnation succeeds")
	}
	inc, err := n.Register(t.Context(), membership.Member{}, c.TTL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Backend.Join(t.Context(), membership.Member{Incarnation: inc}, 0); err == nil {
		t.Error("Join without a TTL succeeds")
	}
}

func testLeave(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	c.await(a, "two members", c.TTL, func() bool { return a.sees(b) })
	for range 2 {
		if err := b.Leave(t.Context()); err != nil {
			t.Fatalf("Leave = %v", err)
		}
	}
	c.awaitEnd(b, 0)
	if err := b.Err(); err != nil {
		t.Errorf("Err after Leave = %v, want nil", err)
	}
	c.await(a, "the one that left is gone", c.TTL, func() bool { return !a.sees(b) })
}

func testAfterTheEnd(t *testing.T, c *cluster) {
	a := c.start()
	ended := a.Changed()
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Error("the end of the session does not signal Changed: who waits for it would wait for ever")
	}
	_, lockErr := a.Lock(t.Context(), shardsOf(1))
	for what, err := range map[string]error{
		"Lock": lockErr, "Unlock": a.Unlock(t.Context(), shardsOf(1)), "Move": a.Move(t.Context(), shardsOf(1), 1),
		"Update": a.Update(t.Context(), 1, true), "Revoke": a.Revoke(t.Context(), 1),
	} {
		if !errors.Is(err, membership.ErrExpired) {
			t.Errorf("%s after Leave = %v, want ErrExpired", what, err)
		}
	}
	a.Refresh()
	a.Members()
	a.Lost()
}

func testUpdate(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	if err := b.Update(t.Context(), 1, true); err != nil {
		t.Fatalf("Update to draining = %v", err)
	}
	if !b.find(b.self.Incarnation).Draining {
		t.Error("after Update the session itself does not list that it drains")
	}
	c.await(a, "the other drains", c.TTL, func() bool { return a.find(b.self.Incarnation).Draining })
	if err := b.Update(t.Context(), 3, false); errors.Is(err, errors.ErrUnsupported) {
		return // a store that cannot change weights says so
	} else if err != nil {
		t.Fatalf("Update of the weight = %v", err)
	}
	c.await(a, "the other has weight 3", c.TTL, func() bool { o := a.find(b.self.Incarnation); return o.Weight == 3 && !o.Draining })
	c.pass(c.TTL) // keepalives do not undo it
	if o := a.find(b.self.Incarnation); o.Weight != 3 || o.Draining {
		t.Errorf("one TTL after Update the member is %+v, want weight 3 and not draining", o)
	}
}

func testSilentMemberExpires(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	c.await(a, "two members", c.TTL, func() bool { return a.sees(b) })
	b.node.Cut()
	kept := b.Kept()
	c.await(a, "the silent one is gone", c.TTL, func() bool { return !a.sees(b) })
	if since := time.Since(kept); since < c.TTL {
		t.Errorf("it was taken for dead %s after its last keepalive was sent, less than the TTL of %s", since, c.TTL)
	}
	c.awaitEnd(b, 0)
	b.mustBeOver()
}

func testKept(t *testing.T, c *cluster) {
	before := time.Now()
	a := c.start()
	first := a.Kept()
	if first.Before(before) || first.After(time.Now()) {
		t.Errorf("Kept after Join is %s after it began and %s ago: it is when a request of the Join was sent", first.Sub(before), time.Since(first))
	}
	c.pass(c.TTL)
	kept := a.Kept()
	if !kept.After(first) {
		t.Errorf("Kept has not moved within a TTL of %s", c.TTL)
	}
	if age := time.Since(kept); age < 0 || age > c.TTL/2+c.Late {
		t.Errorf("the newest keepalive is %s old: with a TTL of %s one is due each half", age, c.TTL)
	}
	a.node.Cut()
	kept = a.Kept()
	c.pass(time.Until(kept.Add(c.TTL * 3 / 4)))
	if now := a.Kept(); !now.Equal(kept) {
		t.Errorf("Kept moved by %s although no keepalive was answered", now.Sub(kept))
	}
	select {
	case <-a.Done():
		t.Errorf("the session was over %s after its last keepalive, TTL %s", time.Since(kept), c.TTL)
	default:
	}
	c.awaitEnd(a, time.Until(kept.Add(c.TTL)))
	a.mustBeOver()
}

func testShortOutage(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	shards := shardsOf(3)
	before := a.mustTake(shards...)
	for _, m := range []*member{a, b} {
		m.node.Cut()
	}
	c.pass(c.TTL / 3)
	for _, m := range []*member{a, b} {
		m.node.Heal()
	}
	c.pass(c.TTL * 3 / 2)
	for _, m := range []*member{a, b} {
		select {
		case <-m.Done():
			t.Fatalf("an outage shorter than the TTL ended the session: %v", m.Err())
		default:
		}
	}
	if !a.sees(b) || !b.sees(a) {
		t.Error("after an outage shorter than the TTL the members do not see each other")
	}
	for i, l := range a.mustTake(shards...) {
		if l.Rev != before[i].Rev {
			t.Errorf("the lock of %v has revision %d, before the outage %d: it was lost", l.Shard, l.Rev, before[i].Rev)
		}
	}
	if lost := a.Lost(); len(lost) > 0 {
		t.Errorf("Lost = %v", lost)
	}
}

func testLongOutage(t *testing.T, c *cluster) {
	a := c.start()
	a.mustTake(shardsOf(2)...)
	a.node.Cut()
	kept := a.Kept()
	c.awaitEnd(a, time.Until(kept.Add(c.TTL)))
	a.mustBeOver()
	a.node.Heal()
	again, err := c.joinFrom(a.node, a.self)
	if err != nil {
		t.Fatalf("Join as a new incarnation after the outage = %v", err)
	}
	if again.self.Incarnation <= a.self.Incarnation {
		t.Fatalf("the harness issued incarnation %d after %d", again.self.Incarnation, a.self.Incarnation)
	}
	again.takeSoon(c.TTL, shardsOf(2)...)
}

func testRevoke(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	b.mustTake(shardsOf(2)...)
	c.await(a, "two members", c.TTL, func() bool { return a.sees(b) })
	for range 2 {
		if err := a.Revoke(t.Context(), b.self.Incarnation); err != nil {
			t.Fatalf("Revoke = %v", err)
		}
	}
	if err := a.Revoke(t.Context(), b.self.Incarnation+1000); err != nil {
		t.Errorf("Revoke of an unknown member = %v, want nil", err)
	}
	c.await(a, "the revoked one is gone", c.Late, func() bool { return !a.sees(b) })
	a.takeSoon(c.Late, shardsOf(2)...)
	b.Refresh()
	c.awaitEnd(b, c.TTL)
	b.mustBeOver()
}

func testRestart(t *testing.T, c *cluster) {
	other := c.start()
	old := c.start()
	shards := shardsOf(2)
	before := old.mustTake(shards...)
	old.node.Cut() // killed: its record stays behind
	began := time.Now()
	again := c.startAs(old.self)
	after := again.takeSoon(c.TTL/2, shards...)
	if took := time.Since(began); took > c.TTL/2+c.Late {
		t.Errorf("the process that was started again on the same address waited %s for the record of the one before", took)
	}
	for i := range after {
		if before[i].Rev != 0 && after[i].Rev <= before[i].Rev {
			t.Errorf("the lock of %v was inherited with revision %d (before %d): the process is another one", after[i].Shard, after[i].Rev, before[i].Rev)
		}
	}
	c.await(other, "only the new incarnation is left", c.TTL, func() bool { return !other.sees(old) && other.sees(again) })
	old.node.Heal()
	c.awaitEnd(old, c.TTL)
	old.mustBeOver()
}

// testAddressFight has two processes that rejoin whenever they are thrown out.
func testAddressFight(t *testing.T, c *cluster) {
	self := membership.Member{Address: "10.1.1.1:7000", Groups: []string{"default"}, Weight: 1}
	nodes := []*Node{c.Node(t), c.Node(t)}
	var last *member
	for round := range 20 {
		m, err := c.joinFrom(nodes[round%2], self)
		if errors.Is(err, membership.ErrAddressTaken) {
			select {
			case <-last.Done():
				t.Errorf("both processes gave up: %v", last.Err())
			default:
			}
			return
		}
		if err != nil {
			t.Fatalf("Join %d = %v", round, err)
		}
		if last != nil {
			last.Refresh()
			c.awaitEnd(last, c.TTL)
		}
		last = m
	}
	t.Error("two live processes on one address threw each other out 20 times without ErrAddressTaken")
}

func testContexts(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	c.await(a, "two members", c.TTL, func() bool { return a.sees(b) })
	shards := shardsOf(2)
	a.mustTake(shards...)
	a.node.Cut()
	calls := map[string]func(context.Context) error{
		"Lock":   func(ctx context.Context) error { _, err := a.Lock(ctx, shardsOf(4)[2:]); return err },
		"Update": func(ctx context.Context) error { return a.Update(ctx, 1, true) },
		"Revoke": func(ctx context.Context) error { return a.Revoke(ctx, b.self.Incarnation) },
	}
	for name, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), c.TTL/20)
		began := time.Now()
		err := call(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s without an answer = %v, want the error of its context", name, err)
		}
		if took := time.Since(began); took > c.TTL/4+c.Late {
			t.Errorf("%s took %s, its context lasted %s", name, took, c.TTL/20)
		}
	}
	// A call that nobody bounds ends with the session.
	done := make(chan error, 1)
	go func() { _, err := a.Lock(t.Context(), shardsOf(4)[2:]); done <- err }()
	c.awaitEnd(a, c.TTL)
	if err := <-done; !errors.Is(err, membership.ErrExpired) {
		t.Errorf("Lock that outlived the session = %v, want ErrExpired", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := c.Node(t)
	n.Cut()
	if _, err := n.Backend.Join(ctx, membership.Member{Incarnation: 1 << 40, Address: "10.9.9.9:1"}, c.TTL); !errors.Is(err, context.Canceled) {
		t.Errorf("Join with an ended context = %v, want context.Canceled", err)
	}
}
