package runner

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// sleeper is a suspended execution that is due at a time.
func sleeper(id string, at time.Time) crustertype.Execution {
	return crustertype.Execution{
		ExecutionRef: crustertype.ExecutionRef{Type: "w", ID: id}, Run: 1, Status: crustertype.StatusRunning, CreatedAt: time.Now(), Codec: "json",
		Shard: crustertype.Shard{Group: crustertype.DefaultShardGroup}, WakeAt: at,
	}
}

// TestTimersAreWokenOnce lets executions become due one after the other that
// stay due, because nobody loads them.
func TestTimersAreWokenOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		r := setUp(t, store)
		r.HostGroup(crustertype.DefaultShardGroup)
		var mu sync.Mutex
		woken := make(map[string]int)
		r.cfg.Wake = func(ref crustertype.ExecutionRef) {
			mu.Lock()
			defer mu.Unlock()
			woken[ref.ID]++
		}
		expect := func(when string, want map[string]int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			for id, n := range want {
				if woken[id] != n {
					t.Errorf("%s: %s was woken %d times, want %d", when, id, woken[id], n)
				}
			}
		}
		suspend := func(id string, at time.Time) {
			t.Helper()
			x := sleeper(id, at)
			lease, ok := r.Lease(x.Shard)
			if !ok {
				t.Fatal("the runner does not own its shards")
			}
			_, err := r.Commit.Do(t.Context(), storage.Unit{Starts: []crustertype.Execution{x}})
			if err == nil {
				_, err = r.Commit.Do(t.Context(), storage.Unit{Leases: []crustertype.Lease{lease}, Updates: []storage.Update{{
					ExecutionRef: x.ExecutionRef, Run: 1, Status: crustertype.StatusSuspended, WakeAt: at, At: time.Now(),
				}}})
			}
			if err != nil {
				t.Fatal(err)
			}
			r.WakeAt(at)
		}
		start(t, r)
		defer halt(t, r)
		begin := time.Now()
		suspend("a", begin.Add(time.Second))
		suspend("b", begin.Add(1100*time.Millisecond))
		suspend("c", begin.Add(5*time.Second))
		time.Sleep(2 * time.Second)
		expect("after two fires", map[string]int{"a": 1, "b": 1, "c": 0})
		suspend("late", begin.Add(1101*time.Millisecond)) // due before the last fire, which was at 1,102 ms
		time.Sleep(time.Second)
		expect("with one that came late", map[string]int{"a": 1, "b": 1, "late": 1})
		time.Sleep(3 * time.Second)
		expect("after the third", map[string]int{"a": 1, "b": 1, "c": 1, "late": 1})
		suspend("d", begin.Add(2*rescan))
		time.Sleep(2 * rescan)
		expect("after a rescan", map[string]int{"a": 2, "b": 2, "c": 2, "d": 1, "late": 2})
	})
}
