package scheduler

import (
	"math"
	"time"
)

// Heap orders timers by due time. Timers due at the same nanosecond leave it in
// the order in which they were put there, so a replay of the same calls gives
// the same order. The zero value is an empty heap.
//
// Add, Update, Remove and PopDue take O(log n). A key must be equal to itself
// (a floating-point NaN is not). An entry costs the size of its key twice plus
// about 60 bytes: a million timers with int64 keys fit in 90 MB. What is no
// longer needed is given back as the heap empties.
//
// Due times are kept to the nanosecond from 1678 to 2262; times outside count
// as the nearest inside.
//
// A Heap is not safe for concurrent use.
type Heap[K comparable] struct {
	slots []timer[K]  // entries, in no order; vacant ones are chained from free
	order []place     // a 4-ary heap: four children share a cache line
	index map[K]int32 // slot of a key
	free  int32       // 1 + first vacant slot; 0: none
	seq   uint64      // of the last entry that was put
}

type timer[K comparable] struct {
	seq uint64
	key K
	pos int32 // in order; of a vacant slot: 1 + next vacant slot
}

type place struct {
	due  int64 // Unix nanoseconds
	slot int32
}

// Len returns the number of timers.
func (h *Heap[K]) Len() int { return len(h.order) }

// Add puts a timer for key. It reports false, and changes nothing, when there
// is one already.
func (h *Heap[K]) Add(key K, due time.Time) bool {
	if _, ok := h.index[key]; ok {
		return false
	}
	if h.index == nil {
		h.index = make(map[K]int32)
	}
	slot := h.free - 1
	if slot >= 0 {
		h.free = h.slots[slot].pos
	} else {
		slot = int32(len(h.slots))
		h.slots = append(h.slots, timer[K]{})
	}
	h.seq++
	pos := len(h.order)
	h.slots[slot] = timer[K]{seq: h.seq, key: key, pos: int32(pos)}
	h.order = append(h.order, place{nanos(due), slot})
	h.index[key] = slot
	h.up(pos)
	return true
}

// Update moves the timer of key to due, behind the timers that are already
// there. It reports false when key has no timer.
func (h *Heap[K]) Update(key K, due time.Time) bool {
	slot, ok := h.index[key]
	if !ok {
		return false
	}
	h.seq++
	t := &h.slots[slot]
	t.seq = h.seq
	h.order[t.pos].due = nanos(due)
	h.fix(int(t.pos))
	return true
}

// Remove takes the timer of key out. It reports false when key has none.
func (h *Heap[K]) Remove(key K) bool {
	slot, ok := h.index[key]
	if !ok {
		return false
	}
	h.remove(slot)
	return true
}

// Due returns when the timer of key is due; false when key has none.
func (h *Heap[K]) Due(key K) (time.Time, bool) {
	slot, ok := h.index[key]
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(0, h.order[h.slots[slot].pos].due).UTC(), true
}

// Next returns the timer that is due first, without taking it out; false when
// the heap is empty.
func (h *Heap[K]) Next() (key K, due time.Time, ok bool) {
	if len(h.order) == 0 {
		return key, due, false
	}
	first := h.order[0]
	return h.slots[first.slot].key, time.Unix(0, first.due).UTC(), true
}

// PopDue takes out the timer that is due first if that is at now or before;
// otherwise it reports false. Call it until it does.
func (h *Heap[K]) PopDue(now time.Time) (key K, due time.Time, ok bool) {
	key, due, ok = h.Next()
	if !ok || h.order[0].due > nanos(now) {
		var zero K
		return zero, time.Time{}, false
	}
	h.remove(h.order[0].slot)
	return key, due, true
}

func (h *Heap[K]) remove(slot int32) {
	t := &h.slots[slot]
	pos, last := int(t.pos), len(h.order)-1
	delete(h.index, t.key)
	if pos != last {
		h.set(pos, h.order[last])
	}
	h.order = h.order[:last]
	if pos != last {
		h.fix(pos)
	}
	*t = timer[K]{pos: h.free} // lets go of what the key points at
	h.free = slot + 1
	if len(h.slots) > compactAbove && last < len(h.slots)/4 {
		h.compact()
	}
}

// compactAbove is the number of slots that is too small to be worth giving back.
const compactAbove = 1024

// compact moves the entries to new, smaller arrays. It runs after three
// quarters of the slots became vacant, so its cost per removal is constant.
func (h *Heap[K]) compact() {
	n := len(h.order)
	slots := make([]timer[K], n, 2*n)
	order := make([]place, n, 2*n)
	index := make(map[K]int32, n)
	for pos, p := range h.order {
		slots[pos], order[pos] = h.slots[p.slot], place{p.due, int32(pos)}
		index[slots[pos].key] = int32(pos)
	}
	h.slots, h.order, h.index, h.free = slots, order, index, 0
}

func (h *Heap[K]) fix(pos int) {
	if !h.up(pos) {
		h.down(pos)
	}
}

func (h *Heap[K]) up(pos int) bool {
	moved, start := h.order[pos], pos
	for pos > 0 {
		parent := (pos - 1) / 4
		if !h.before(moved, h.order[parent]) {
			break
		}
		h.set(pos, h.order[parent])
		pos = parent
	}
	h.set(pos, moved)
	return pos != start
}

func (h *Heap[K]) down(pos int) {
	moved := h.order[pos]
	for {
		first := 4*pos + 1
		if first >= len(h.order) {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, len(h.order)); c++ {
			if h.before(h.order[c], h.order[least]) {
				least = c
			}
		}
		if !h.before(h.order[least], moved) {
			break
		}
		h.set(pos, h.order[least])
		pos = least
	}
	h.set(pos, moved)
}

func (h *Heap[K]) set(pos int, p place) {
	h.order[pos] = p
	h.slots[p.slot].pos = int32(pos)
}

func (h *Heap[K]) before(a, b place) bool {
	return a.due < b.due || a.due == b.due && h.slots[a.slot].seq < h.slots[b.slot].seq
}

var (
	minNanos = time.Unix(0, math.MinInt64)
	maxNanos = time.Unix(0, math.MaxInt64)
)

// nanos is UnixNano that saturates where that overflows.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(minNanos):
		return math.MinInt64
	case t.After(maxNanos):
		return math.MaxInt64
	}
	return t.UnixNano()
}
