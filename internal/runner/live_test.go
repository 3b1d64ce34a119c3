package runner

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/mailbox"
	"github.com/cruster-go/cruster/storage/memory"
)

// TestLiveAgainstMap makes random changes to a table and to a map.
func TestLiveAgainstMap(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	var l live
	model := make(map[string]*Activation)
	for step := range 20_000 {
		id := fmt.Sprint(rnd.IntN(500))
		hash := maphash.String(hashSeed, id)
		if got := l.find(hash, id); got != model[id] {
			t.Fatalf("step %d: find(%q) = %p, want %p", step, id, got, model[id])
		}
		switch {
		case model[id] == nil:
			a := &Activation{id: id}
			l.add(hash, a)
			model[id] = a
		case step%100 == 0:
			keep := rnd.IntN(8)
			n := l.removeIf(func(a *Activation) bool { return len(a.id)+int(a.id[0])%8 != keep })
			for id := range model {
				if len(id)+int(id[0])%8 != keep {
					delete(model, id)
					n--
				}
			}
			if n != 0 {
				t.Fatalf("step %d: removeIf returned %d too many", step, n)
			}
		}
		if l.n != len(model) {
			t.Fatalf("step %d: n = %d, want %d", step, l.n, len(model))
		}
	}
	for a := range l.all() {
		if model[a.id] != a {
			t.Errorf("all yields %q, which is not in the table", a.id)
		}
		delete(model, a.id)
	}
	if len(model) != 0 {
		t.Errorf("all leaves out %d entities", len(model))
	}
}

// TestEvictedEntityNeverRuns lets callers enter entities without a lock while a
// sweep evicts them: of one ID, never two are in their turn at once.
func TestEvictedEntityNeverRuns(t *testing.T) {
	t.Parallel()
	const ids, callers, calls = 8, 4, 20_000
	typ := &EntityType{Name: "t", Group: crustertype.DefaultShardGroup, Options: mailbox.Options{Capacity: 1, Concurrency: 1}}
	hold(t, setUp(t, memory.New(), typ))
	var inside [ids]atomic.Int32
	var ran, closed atomic.Int64
	stop := make(chan struct{})
	var sweeper, running sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				typ.sweep()
			}
		}
	})
	spawn := func(f func()) { go f() }
	for c := range callers {
		running.Go(func() {
			for i := range calls {
				n := (c + i) % ids
				id := fmt.Sprint(n)
				a := typ.Find(id)
				if a == nil {
					var err error
					if a, err = typ.Activate(id); err != nil {
						t.Error(err)
						return
					}
				}
				free, err := a.Enter(&typ.Options)
				if err != nil {
					if !errors.Is(err, crustertype.ErrNotOwner) {
						t.Error(err)
					}
					closed.Add(1)
					continue
				}
				if !free {
					continue
				}
				if inside[n].Add(1) != 1 {
					t.Errorf("entity %d is in two turns at once", n)
				}
				ran.Add(1)
				inside[n].Add(-1)
				a.Leave(spawn)
			}
		})
	}
	running.Wait()
	close(stop)
	sweeper.Wait()
	if ran.Load() == 0 {
		t.Error("nothing ran")
	}
	t.Logf("%d runs, %d of %d calls met an entity that was just evicted", ran.Load(), closed.Load(), callers*calls)
}
