package membertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

func testLockExclusive(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	shards := shardsOf(5)
	a.mustTake(shards[:3]...)
	c.await(b, "two members", c.TTL, func() bool { return b.sees(a) })
	locks, err := b.take(shards...)
	if err != nil {
		t.Fatalf("Lock = %v", err)
	}
	for i, l := range locks {
		if want := i >= 3; l.Held != want {
			t.Errorf("lock of %v held by incarnation %d: %t, want %t", l.Shard, b.self.Incarnation, l.Held, want)
		}
		if i < 3 && l.Holder != a.self.Incarnation {
			t.Errorf("the refused lock of %v names holder %d, want %d", l.Shard, l.Holder, a.self.Incarnation)
		}
	}
	if locks, err := b.Lock(t.Context(), nil); err != nil || len(locks) > 0 {
		t.Errorf("Lock of nothing = %v, %v", locks, err)
	}
}

func testLockAgain(t *testing.T, c *cluster) {
	a := c.start()
	shards := shardsOf(3)
	first := a.mustTake(shards...)
	again := a.mustTake(shards...)
	for i := range first {
		first[i].From = a.self.Incarnation // once it is taken over
		if c.Storage == nil {
			first[i].From = 0
		}
	}
	if !slices.Equal(first, again) {
		t.Errorf("a lock that is held already was granted as %v, before %v", again, first)
	}
}

func testUnlock(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	shards := shardsOf(4)
	a.mustTake(shards...)
	if err := b.Unlock(t.Context(), shards); err != nil {
		t.Errorf("Unlock of another's locks = %v, want nil", err)
	}
	if locks, err := b.take(shards...); err != nil || locks[0].Held {
		t.Fatalf("after Unlock by another: %v, %v; the lock must be left alone", locks, err)
	}
	a.give(0, shards[:2]...)
	b.takeSoon(c.TTL, shards[:2]...)
	if lost := a.Lost(); len(lost) > 0 {
		t.Errorf("Lost = %v after Unlock, want none: it was freed", lost)
	}
}

func testLeaveFreesLocks(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	shards := shardsOf(4)
	a.mustTake(shards...)
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.takeSoon(c.Late, shards...)
}

func testExpiryFreesLocks(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	shards := shardsOf(4)
	a.mustTake(shards...)
	if locks, err := b.take(shards...); err != nil || locks[0].Held {
		t.Fatalf("Lock = %v, %v", locks, err)
	}
	a.node.Cut()
	kept := a.Kept()
	b.takeSoon(c.TTL, shards...)
	if since := time.Since(kept); since < c.TTL {
		t.Errorf("the locks were free %s after the last keepalive was sent, TTL %s", since, c.TTL)
	}
}

func testMove(t *testing.T, c *cluster) {
	a, b, other := c.start(), c.start(), c.start()
	shards := shardsOf(300)
	before := a.mustTake(shards...)
	c.await(a, "three members", c.TTL, func() bool { return len(a.Members()) == 3 })
	c.await(other, "three members", c.TTL, func() bool { return len(other.Members()) == 3 })
	a.give(b.self.Incarnation, shards[:200]...)
	if locks, err := other.take(shards[0]); err != nil || locks[0].Held {
		t.Errorf("a third member asked for a lock that was moved: %v, %v; there must be no gap", locks, err)
	}
	after := b.takeSoon(c.Late, shards[:200]...)
	for i := range after {
		if before[i].Rev != 0 && after[i].Rev <= before[i].Rev {
			t.Fatalf("the moved lock of %v has revision %d, before %d", after[i].Shard, after[i].Rev, before[i].Rev)
		}
	}
	a.mustTake(shards[200:]...)
	if locks, err := a.take(shards[0]); err != nil || locks[0].Held {
		t.Errorf("who moved a lock away asks for it again: %v, %v", locks, err)
	}
	if lost := a.Lost(); len(lost) > 0 {
		t.Errorf("Lost = %d shards after Move, want none: they were moved", len(lost))
	}
}

func testMoveToNobody(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	gone := c.start()
	c.await(a, "three members", c.TTL, func() bool { return len(a.Members()) == 3 })
	shards := shardsOf(3)
	a.mustTake(shards...)
	if err := gone.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.give(gone.self.Incarnation, shards...)
	b.takeSoon(c.TTL, shards...)
}

func testLost(t *testing.T, c *cluster) {
	a := c.start()
	shards := shardsOf(3)
	a.mustTake(shards...)
	a.mustTake(shards...)
	if err := c.Steal(t.Context(), shards[1]); err != nil {
		t.Fatalf("steal: %v", err)
	}
	a.Refresh()
	var lost []crustertype.Shard
	c.await(a, "the stolen lock is reported", c.TTL, func() bool { lost = append(lost, a.Lost()...); return len(lost) > 0 })
	if want := shards[1:2]; !slices.Equal(lost, want) {
		t.Errorf("Lost = %v, want %v", lost, want)
	}
	if again := a.Lost(); len(again) > 0 {
		t.Errorf("Lost = %v the second time, want none: each is returned once", again)
	}
	select {
	case <-a.Done():
		t.Errorf("one stolen lock ended the session: %v", a.Err())
	default:
	}
}

func testRefusedLockWakes(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	shard := crustertype.Shard{Group: "default", Index: 7}
	holder, waiter := a, b
	holder.mustTake(shard)
	for range 5 {
		if locks, err := waiter.take(shard); err != nil || locks[0].Held {
			t.Fatalf("Lock = %v, %v, want refused", locks, err)
		}
		freed := make(chan struct{})
		go func() { defer close(freed); holder.give(0, shard) }()
		waiter.takeSoon(c.TTL, shard)
		<-freed
		holder, waiter = waiter, holder
	}
}

func testRevisionsGrow(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	shard := crustertype.Shard{Group: "default", Index: 1}
	last := int64(-1)
	for i := range 6 {
		m := []*member{a, b}[i%2]
		l := m.takeSoon(c.TTL, shard)[0]
		if c.Storage != nil {
			if l.Rev != 0 {
				t.Fatalf("revision %d of a lock that storage decides, want 0", l.Rev)
			}
		} else if l.Rev <= last || l.Rev <= 0 {
			t.Fatalf("revision %d after %d: storage would refuse the take-over", l.Rev, last)
		}
		last = l.Rev
		m.give(0, shard)
	}
}

func testManyShards(t *testing.T, c *cluster) {
	a, b := c.start(), c.start()
	shards := shardsOf(2048)
	began := time.Now()
	a.mustTake(shards...)
	t.Logf("%d locks took %s", len(shards), time.Since(began))
	locks, err := b.take(shards...)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range locks {
		if l.Held {
			t.Fatalf("%v is held by two", l.Shard)
		}
	}
	c.await(a, "two members", c.TTL, func() bool { return a.sees(b) })
	began = time.Now()
	a.give(b.self.Incarnation, shards[:1024]...)
	b.takeSoon(c.Late, shards[:1024]...)
	t.Logf("%d locks moved in %s", 1024, time.Since(began))
	began = time.Now()
	a.give(0, shards[1024:]...)
	b.takeSoon(c.TTL, shards[1024:]...)
	t.Logf("%d locks freed and taken in %s", 1024, time.Since(began))
}

// testRaces has members take, give and free shards at random. Whoever has one
// writes its name into a table: it must find it empty, and as it left it.
func testRaces(t *testing.T, c *cluster) {
	const shards, rounds = 12, 40
	all := shardsOf(shards)
	var members []*member
	for range 4 {
		members = append(members, c.start())
	}
	for _, m := range members {
		c.await(m, "all members", c.TTL, func() bool { return len(m.Members()) == len(members) })
	}
	table := &holders{of: make(map[crustertype.Shard]crustertype.Incarnation)}
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for range rounds {
				if err := m.raceOnce(t.Context(), rnd, all, table); err != nil {
					t.Errorf("incarnation %d: %v", m.self.Incarnation, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if table.grants == 0 {
		t.Error("nobody was granted anything")
	}
	t.Logf("%d grants, %d refusals", table.grants, table.refusals)
}

// holders is who has what, by what they were told.
type holders struct {
	mu               sync.Mutex
	of               map[crustertype.Shard]crustertype.Incarnation
	grants, refusals int
}

func (h *holders) granted(l membership.Lock, to crustertype.Incarnation) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !l.Held {
		h.refusals++
		return nil
	}
	h.grants++
	if has := h.of[l.Shard]; has != 0 {
		return fmt.Errorf("%v was granted to %d while %d has it", l.Shard, to, has)
	}
	h.of[l.Shard] = to
	return nil
}

func (h *holders) freed(s crustertype.Shard) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, s)
}

func (m *member) raceOnce(ctx context.Context, rnd *rand.Rand, all []crustertype.Shard, table *holders) error {
	subset := slices.Clone(all)
	rnd.Shuffle(len(subset), func(i, j int) { subset[i], subset[j] = subset[j], subset[i] })
	subset = subset[:1+rnd.IntN(6)]
	locks, err := m.take(subset...)
	if err != nil {
		return err
	}
	var mine []crustertype.Shard
	for _, l := range locks {
		if err := table.granted(l, m.self.Incarnation); err != nil {
			return err
		}
		if l.Held {
			mine = append(mine, l.Shard)
		}
	}
	if again, err := m.take(mine...); err != nil {
		return err
	} else if slices.ContainsFunc(again, func(l membership.Lock) bool { return !l.Held }) {
		return fmt.Errorf("a lock that is held was refused: %v", again)
	}
	for _, s := range mine {
		table.freed(s)
	}
	if m.c.Storage != nil {
		if err := m.c.Storage.Give(ctx, m.self.Incarnation, 0, mine); err != nil {
			return err
		}
	}
	return m.Unlock(ctx, mine)
}
