package scheduler_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"

	"github.com/cruster-go/cruster/scheduler"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func after(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }

func popAll[K comparable](h *scheduler.Heap[K], now time.Time) []K {
	var keys []K
	for {
		k, _, ok := h.PopDue(now)
		if !ok {
			return keys
		}
		keys = append(keys, k)
	}
}

func TestHeapPopsInOrderOfDueTime(t *testing.T) {
	t.Parallel()
	var h scheduler.Heap[string]
	for i, key := range []string{"c", "a", "b", "late"} {
		h.Add(key, after([]int{3, 1, 2, 9}[i]))
	}
	if _, _, ok := h.PopDue(epoch); ok {
		t.Error("PopDue took a timer out before it was due")
	}
	if key, due, ok := h.Next(); !ok || key != "a" || !due.Equal(after(1)) {
		t.Errorf("Next() = %q, %v, %v, want a at %v", key, due, ok, after(1))
	}
	if got := fmt.Sprint(popAll(&h, after(3))); got != "[a b c]" {
		t.Errorf("popped %s, want [a b c]", got)
	}
	if due, ok := h.Due("late"); !ok || !due.Equal(after(9)) || h.Len() != 1 {
		t.Errorf("Due(late) = %v, %v, Len() = %d, want it to stay", due, ok, h.Len())
	}
}

func TestHeapTiesKeepTheOrderOfInsertion(t *testing.T) {
	t.Parallel()
	var h scheduler.Heap[int]
	for i := range 1000 {
		h.Add(i, epoch)
	}
	h.Update(0, epoch)
	h.Remove(500)
	h.Add(500, epoch)
	got := popAll(&h, epoch)
	want := make([]int, 0, 1000)
	for i := 1; i < 1000; i++ {
		if i != 500 {
			want = append(want, i)
		}
	}
	want = append(want, 0, 500)
	if !slices.Equal(got, want) {
		t.Errorf("ties popped as %v, want the order of Add and Update", got)
	}
}

func TestHeapRefuses(t *testing.T) {
	t.Parallel()
	var h scheduler.Heap[string]
	if h.Update("x", epoch) || h.Remove("x") {
		t.Error("Update or Remove of an absent key reported true")
	}
	if _, ok := h.Due("x"); ok {
		t.Error("Due of an absent key reported true")
	}
	if _, _, ok := h.Next(); ok {
		t.Error("Next of an empty heap reported true")
	}
	h.Add("x", epoch)
	if h.Add("x", after(5)) {
		t.Error("Add of a present key reported true")
	}
	if due, _ := h.Due("x"); !due.Equal(epoch) {
		t.Errorf("a refused Add moved the timer to %v", due)
	}
}

func TestHeapTakesAnyTime(t *testing.T) {
	t.Parallel()
	var h scheduler.Heap[string]
	h.Add("far", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	h.Add("zero", time.Time{})
	h.Add("now", epoch)
	if got := fmt.Sprint(popAll(&h, epoch)); got != "[zero now]" {
		t.Errorf("popped %s, want [zero now]", got)
	}
	if got := fmt.Sprint(popAll(&h, time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC))); got != "[far]" {
		t.Errorf("popped %s, want [far]: both times are beyond the last", got)
	}
}

// TestHeapAgainstModel plays random calls on a heap and on a sorted slice.
func TestHeapAgainstModel(t *testing.T) {
	t.Parallel()
	type entry struct{ key, due, seq int }
	rnd := rand.New(rand.NewPCG(3, 4))
	var h scheduler.Heap[int]
	var model []entry
	find := func(key int) int {
		return slices.IndexFunc(model, func(e entry) bool { return e.key == key })
	}
	insert := func(e entry) {
		i, _ := slices.BinarySearchFunc(model, e, func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.seq, b.seq))
		})
		model = slices.Insert(model, i, e)
	}
	for seq := range 60_000 {
		keys := 3000
		if seq/10_000%2 == 1 {
			keys = 20 // lets the heap shrink, so that it gives memory back
		}
		key, due := rnd.IntN(keys), rnd.IntN(50)
		i := find(key)
		switch op := rnd.IntN(10); {
		case op < 4:
			if got := h.Add(key, after(due)); got != (i < 0) {
				t.Fatalf("step %d: Add(%d) = %v, model %v", seq, key, got, i < 0)
			}
			if i < 0 {
				insert(entry{key, due, seq})
			}
		case op < 6:
			if got := h.Update(key, after(due)); got != (i >= 0) {
				t.Fatalf("step %d: Update(%d) = %v, model %v", seq, key, got, i >= 0)
			}
			if i >= 0 {
				model = slices.Delete(model, i, i+1)
				insert(entry{key, due, seq})
			}
		case op < 7:
			if got := h.Remove(key); got != (i >= 0) {
				t.Fatalf("step %d: Remove(%d) = %v, model %v", seq, key, got, i >= 0)
			}
			if i >= 0 {
				model = slices.Delete(model, i, i+1)
			}
		default:
			now := due / 4
			for range 3 {
				key, at, ok := h.PopDue(after(now))
				want := len(model) > 0 && model[0].due <= now
				if ok != want || ok && (key != model[0].key || !at.Equal(after(model[0].due))) {
					t.Fatalf("step %d: PopDue = %d, %v, %v, model %v", seq, key, at, ok, model[:min(1, len(model))])
				}
				if ok {
					model = model[1:]
				}
			}
		}
		if h.Len() != len(model) {
			t.Fatalf("step %d: Len() = %d, model %d", seq, h.Len(), len(model))
		}
	}
}

func TestHeapGivesMemoryBack(t *testing.T) { // alone: it measures the process
	var h scheduler.Heap[int64]
	before := heapInUse()
	const n = 250_000
	for i := range int64(n) {
		h.Add(i, after(int(i*7919%n)))
	}
	full := heapInUse() - before
	if full > n*100 {
		t.Errorf("a timer takes %d bytes, want at most 100", full/n)
	}
	for range n - 100 {
		if _, _, ok := h.PopDue(after(n)); !ok {
			t.Fatal("a timer is missing")
		}
	}
	if left := heapInUse() - before; left > 512<<10 {
		t.Errorf("a hundred timers of former %d take %d kB, want at most 512", n, left>>10)
	}
	t.Logf("a timer takes %d bytes", full/n)
	runtime.KeepAlive(&h)
}

func TestHeapLetsGoOfKeys(t *testing.T) {
	t.Parallel()
	var h scheduler.Heap[*[1024]byte]
	h.Add(nil, epoch)
	gone := func() weak.Pointer[[1024]byte] {
		key := new([1024]byte)
		h.Add(key, epoch)
		h.Remove(key)
		return weak.Make(key)
	}()
	runtime.GC()
	if gone.Value() != nil {
		t.Error("the heap holds on to a key that was removed")
	}
	runtime.KeepAlive(&h)
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkHeap(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("AddPopDue/%d", n), func(b *testing.B) {
			var h scheduler.Heap[int]
			rnd := rand.New(rand.NewPCG(5, 6))
			for i := range n {
				h.Add(i, after(rnd.IntN(n)))
			}
			b.ReportAllocs()
			for b.Loop() {
				_, due, _ := h.Next()
				key, _, _ := h.PopDue(due)
				h.Add(key, due.Add(time.Duration(rnd.IntN(n))*time.Second))
			}
		})
		b.Run(fmt.Sprintf("Update/%d", n), func(b *testing.B) {
			var h scheduler.Heap[int]
			rnd := rand.New(rand.NewPCG(5, 6))
			for i := range n {
				h.Add(i, after(rnd.IntN(n)))
			}
			b.ReportAllocs()
			for b.Loop() {
				h.Update(rnd.IntN(n), after(rnd.IntN(n)))
			}
		})
	}
}
