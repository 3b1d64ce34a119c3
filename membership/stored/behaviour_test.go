package stored_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/stored"
	"github.com/cruster-go/cruster/membership/stored/storedtest"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

const ttl = 10 * time.Second

// cluster is a store with processes, inside a bubble.
type cluster struct {
	t     *testing.T
	store storage.Store
}

func bubble(t *testing.T, f func(t *testing.T, c *cluster)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t, memory.New()}
		t.Cleanup(func() { c.store.Close() })
		f(t, c)
	})
}

func (c *cluster) join(addr string, l *storedtest.Link) membership.Session {
	c.t.Helper()
	l.Ownership = c.store
	return c.joinWith(stored.New(l, quiet), addr)
}

func (c *cluster) joinWith(b *stored.Backend, addr string) membership.Session {
	c.t.Helper()
	self := membership.Member{Address: addr, Groups: []string{"default"}, Weight: 1}
	var err error
	if self.Incarnation, err = (storedtest.Engine{Store: c.store}).Register(c.t.Context(), self, ttl); err != nil {
		c.t.Fatal(err)
	}
	s, err := b.Join(c.t.Context(), self, ttl)
	if err != nil {
		c.t.Fatalf("Join = %v", err)
	}
	c.t.Cleanup(func() {
		if err := s.Leave(context.WithoutCancel(c.t.Context())); err != nil {
			c.t.Errorf("Leave = %v", err)
		}
	})
	return s
}

// TestIdleCost is the budget: two statements per half TTL.
func TestIdleCost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		links := []*storedtest.Link{{}, {}, {}}
		for i, l := range links {
			s := c.join(string(rune('a'+i))+":1", l)
			if _, err := s.Lock(t.Context(), []crustertype.Shard{{Group: "default", Index: i}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(700 * time.Millisecond)
		}
		time.Sleep(2 * ttl)
		before := make([]int, len(links))
		calls := func(l *storedtest.Link) int { return l.Count("Renew") + l.Count("Runners") + l.Count("Owners") }
		for i, l := range links {
			before[i] = calls(l)
		}
		time.Sleep(10 * ttl)
		for i, l := range links {
			if n := calls(l) - before[i]; n < 2*20-2 || n > 2*20+2 {
				t.Errorf("in 10 TTLs an idle member made %d statements, want 40: two per half TTL", n)
			}
		}
	})
}

// TestClocksMayDiffer: the database's clock is hours off, either way.
func TestClocksMayDiffer(t *testing.T) {
	for _, shift := range []time.Duration{-5 * time.Hour, 0, 5 * time.Hour} {
		t.Run(shift.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				la, lb := &storedtest.Link{Shift: shift}, &storedtest.Link{Shift: shift}
				a, b := c.join("a:1", la), c.join("b:1", lb)
				time.Sleep(3 * ttl)
				lb.Cut()
				kept, looks := b.Kept(), la.Count("Runners")
				for len(a.Members()) == 2 {
					<-a.Changed()
				}
				if late := time.Since(kept) - ttl; late < 0 || late > ttl/100 {
					t.Errorf("the silent member was gone %s after its lease ended, want at once", late)
				}
				if n := la.Count("Runners") - looks; n > 4 {
					t.Errorf("it took %d looks to find out, want one at the right time", n)
				}
				lb.Heal()
			})
		})
	}
}

// TestStatementsThatHang: one that never comes back does not keep the lease from
// being renewed by the next, nor the session from ending.
func TestStatementsThatHang(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := &storedtest.Link{}
		s := c.join("a:1", l)
		hang := false
		l.On(func(ctx context.Context, call string) error {
			if call != "Renew" {
				return nil
			}
			if hang = !hang; hang { // every other one
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}, nil)
		for range 100 {
			time.Sleep(ttl / 10)
			if age := time.Since(s.Kept()); age > ttl*7/10 {
				t.Fatalf("the newest renewal is %s old, TTL %s: with every other statement hanging there is time for both", age, ttl)
			}
		}
		l.On(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }, nil)
		kept := s.Kept()
		<-s.Done()
		if d := time.Since(kept); d != ttl {
			t.Errorf("with all statements hanging the session ended %s after the last renewal, want the TTL of %s", d, ttl)
		}
		if err := s.Err(); !errors.Is(err, membership.ErrExpired) {
			t.Errorf("Err = %v, want ErrExpired", err)
		}
	})
}

// TestLostAnswersAreNoKeepalives: renewals are applied, but nobody knows.
func TestLostAnswersAreNoKeepalives(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := &storedtest.Link{Ownership: c.store}
		b := stored.New(l, quiet)
		s := c.joinWith(b, "")
		l.On(nil, func(call string) error {
			if call == "Renew" {
				return &storage.TransientError{Err: errors.New("connection lost"), Unknown: true}
			}
			return nil
		})
		kept := s.Kept()
		<-s.Done()
		if d := time.Since(kept); d != ttl {
			t.Errorf("it ended %s after the last renewal whose answer came, want %s", d, ttl)
		}
		l.On(nil, nil)
		again := c.joinWith(b, "")
		if n := len(again.Members()); n != 1 {
			t.Errorf("after the process joined again there are %d members, want 1: the record of its own ended session is removed, without an address too", n)
		}
	})
}

// TestHintsAreCoalesced: a crowd of hints costs a few looks.
func TestHintsAreCoalesced(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := &storedtest.Link{}
		s := c.join("a:1", l)
		before := l.Count("Runners")
		for range 1000 {
			s.Refresh()
			time.Sleep(time.Millisecond)
		}
		if n := l.Count("Runners") - before; n < 5 || n > 12 {
			t.Errorf("1000 hints in a second made %d looks, want about 10", n)
		}
	})
}

// TestRefusalIsPolledOnlyWhileItMatters: Unlock takes the interest back.
func TestRefusalIsPolledOnlyWhileItMatters(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		engine := storedtest.Engine{Store: c.store}
		la, lb := &storedtest.Link{}, &storedtest.Link{}
		a, b := c.join("a:1", la), c.join("b:1", lb)
		shards := []crustertype.Shard{{Group: "default", Index: 1}}
		locks, err := a.Lock(t.Context(), shards)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Take(t.Context(), a.Members()[0].Incarnation, locks); err != nil {
			t.Fatal(err)
		}
		if locks, err = b.Lock(t.Context(), shards); err != nil || locks[0].Held {
			t.Fatalf("Lock = %v, %v, want refused", locks, err)
		}
		before := lb.Count("Owners")
		time.Sleep(ttl)
		if n := lb.Count("Owners") - before; n < 3 || n > 15 {
			t.Errorf("a refused lock was looked at %d times in a TTL, want a few", n)
		}
		if err := b.Unlock(t.Context(), shards); err != nil {
			t.Fatal(err)
		}
		before = lb.Count("Owners")
		time.Sleep(3 * ttl)
		if n := lb.Count("Owners") - before; n > 0 {
			t.Errorf("it was looked at %d times after Unlock, want never", n)
		}
	})
}

// reweigher is a store that can change weights.
type reweigher struct {
	storage.Store
	weight int
}

func (r *reweigher) Reweigh(_ context.Context, _ crustertype.Incarnation, weight int) error {
	r.weight = weight
	return nil
}

func TestWeightNeedsAStoreThatCan(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		r := &reweigher{Store: c.store}
		if err := c.joinWith(stored.New(r, quiet), "a:1").Update(t.Context(), 5, false); err != nil || r.weight != 5 {
			t.Errorf("Update with a store that can change weights = %v, weight %d", err, r.weight)
		}
		err := c.joinWith(stored.New(c.store, quiet), "b:1").Update(t.Context(), 5, false)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Update with a store that cannot = %v, want ErrUnsupported", err)
		}
	})
}

// TestSole: what other processes left behind in a store of one is removed.
func TestSole(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		if _, err := c.store.Register(t.Context(), storage.Runner{Address: "old:1"}, time.Hour); err != nil {
			t.Fatal(err)
		}
		s := c.joinWith(stored.New(c.store, &stored.Options{Logger: quiet.Logger, Sole: true}), "")
		if n := len(s.Members()); n != 1 {
			t.Errorf("%d members of a store that one process uses, want 1", n)
		}
	})
}

func TestClosedStoreEndsTheSession(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		store := memory.New()
		c.store = store
		s, err := func() (membership.Session, error) {
			inc, err := store.Register(t.Context(), storage.Runner{}, ttl)
			if err != nil {
				return nil, err
			}
			return stored.New(store, quiet).Join(t.Context(), membership.Member{Incarnation: inc}, ttl)
		}()
		if err != nil {
			t.Fatal(err)
		}
		store.Close()
		<-s.Done()
		if err := s.Err(); !errors.Is(err, membership.ErrExpired) || !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Err = %v, want ErrExpired and ErrClosed", err)
		}
	})
}
