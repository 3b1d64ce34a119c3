package runner

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// fill stores n requests to one entity in the order of an earlier owner, who
// dies without having run them.
func fill(t *testing.T, store storage.Store, typ, id string, n int) {
	t.Helper()
	old := begin(t, store, echo(typ, one(2), func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}))
	for i := range n {
		post(t, old, old.message(typ, id, fmt.Sprint(i)))
	}
	halt(t, old)
}

func numbers(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func TestBacklogSurvivesARestartInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		fill(t, store, "e", "a", 1500) // more than a page, and far more than the mailbox holds
		var got seen
		r := begin(t, store, echo("e", one(8), func(_ context.Context, s string) (string, error) {
			got.add(s)
			return "", nil
		}))
		for i := range 20 {
			post(t, r, r.message("e", "a", fmt.Sprint(1500+i)))
		}
		synctest.Wait()
		if want := numbers(1520); !slices.Equal(got.all(), want) {
			t.Errorf("%d requests ran, want %d in the order of acceptance: %v", len(got.all()), len(want), got.all())
		}
		if a := r.Type("e").Find("a"); a == nil || a.holdsDurable() {
			t.Errorf("the entity holds state for persisted requests after the last")
		}
		halt(t, r)
	})
}

// gate is a store whose reads of pending messages wait.
type gate struct {
	storage.Store
	reads chan chan struct{}
}

func (g *gate) Pending(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
	page, err := g.Store.Pending(ctx, q)
	if !q.Unadopted && q.Address.IsZero() && g.reads != nil {
		wait := make(chan struct{})
		g.reads <- wait
		<-wait
	}
	return page, err
}

// A request that is accepted while an earlier owner's requests are still being
// recovered comes behind them, and does not hide them.
func TestAcceptedDuringRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		fill(t, store, "e", "a", 3)
		var got seen
		g := &gate{Store: store, reads: make(chan chan struct{})}
		r := setUp(t, g, echo("e", one(100), func(_ context.Context, s string) (string, error) {
			got.add(s)
			return "", nil
		}))
		go func() {
			read := <-g.reads // the page is read, and nothing of it admitted
			m := r.message("e", "a", "3")
			r.Send(storage.Unit{Accepts: []crustertype.Message{m}}, func(storage.Result, error) {})
			synctest.Wait()
			close(read)
		}()
		start(t, r)
		synctest.Wait()
		if want := numbers(4); !slices.Equal(got.all(), want) {
			t.Errorf("ran %v, want %v", got.all(), want)
		}
		halt(t, r)
	})
}

func TestScheduledWhileDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var got seen
		typ := func() *EntityType {
			return echo("e", one(100), func(_ context.Context, s string) (string, error) {
				got.add(s + " at " + time.Now().Format("15:04:05"))
				return "", nil
			})
		}
		r := begin(t, store, typ())
		begun := time.Now()
		for i, after := range []time.Duration{time.Minute, time.Hour, 2 * time.Hour} {
			m := r.message("e", "a", fmt.Sprint(i))
			m.DeliverAt = begun.Add(after)
			post(t, r, m)
		}
		time.Sleep(time.Minute + 2*coalesce)
		halt(t, r)
		time.Sleep(90 * time.Minute)
		r = begin(t, store, typ())
		synctest.Wait()
		if got := got.all(); len(got) != 2 {
			t.Errorf("%v ran, want the one that was due while nobody was up at once", got)
		}
		time.Sleep(time.Until(begun.Add(2*time.Hour)) - time.Millisecond)
		synctest.Wait()
		if got := got.all(); len(got) != 2 {
			t.Errorf("%v ran, the last one early", got)
		}
		time.Sleep(2 * coalesce)
		synctest.Wait()
		if got := got.all(); len(got) != 3 {
			t.Errorf("%v ran, the last one not on time", got)
		}
		halt(t, r)
	})
}

// A method that this process does not know keeps its requests waiting, and
// nobody else's.
func TestUnknownMethodInABacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		old := begin(t, store, echo("e", one(2), func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}))
		var unknown []crustertype.RequestID
		for i := range 20 {
			m := old.message("e", "a", fmt.Sprint(i))
			if i%2 == 1 {
				m.Method = "Gone"
				unknown = append(unknown, m.ID)
			}
			post(t, old, m)
		}
		halt(t, old)
		var got seen
		r := begin(t, store, echo("e", one(4), func(_ context.Context, s string) (string, error) {
			got.add(s)
			return "", nil
		}))
		synctest.Wait()
		if got := got.all(); len(got) != 10 {
			t.Errorf("ran %v, want the 10 even ones", got)
		}
		for _, id := range unknown {
			if m := state(t, store, id); m.State != crustertype.MessagePending || m.Attempts != 0 {
				t.Errorf("a request of an unknown method is %v after %d attempts, want pending", m.State, m.Attempts)
			}
		}
		halt(t, r)
	})
}

// An idle entity costs at most 300 bytes, its ID included.
func TestMemoryOfAnIdleEntity(t *testing.T) {
	const n = 50_000
	r := setUp(t, memory.New(), echo("e", one(4), nil))
	typ := r.Type("e")
	hold(t, r)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range n {
		a, err := typ.Activate(fmt.Sprintf("entity-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := a.Enter(&typ.Options); !ok || err != nil {
			t.Fatal(ok, err)
		}
		a.Leave(r.pool.spawn)
	}
	if each := (heap() - before) / n; each > 300 {
		t.Errorf("an idle entity costs %d bytes, want at most 300", each)
	} else {
		t.Logf("an idle entity costs %d bytes", each)
	}
	runtime.KeepAlive(typ)
}
