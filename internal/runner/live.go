package runner

import (
	"hash/maphash"
	"iter"
	"sync/atomic"
)

// live finds the entities in memory by their ID: a hash table with open
// addressing that is read without a lock. Changes are made under the stripe's
// lock; a table that a reader still holds when it is replaced is merely old, so
// what is not found is looked for again under the lock.
type live struct {
	table atomic.Pointer[[]atomic.Pointer[Activation]] // of a power of two; nil: empty
	n     int                                          // entities
	used  int                                          // places that are not free: entities and removed ones
}

// removed takes the place of an entity that was there, so that those behind it
// are found.
var removed = new(Activation)

const minTable = 8

// find returns the entity with that ID, or nil. hash is that of the ID.
func (l *live) find(hash uint64, id string) *Activation {
	t := l.table.Load()
	if t == nil {
		return nil
	}
	table := *t
	mask := uint64(len(table) - 1)
	for i := place(hash) & mask; ; i = (i + 1) & mask {
		switch a := table[i].Load(); {
		case a == nil:
			return nil
		case a.id == id && a != removed:
			return a
		}
	}
}

// place is where an ID's search begins; the other bits chose the stripe.
func place(hash uint64) uint64 { return hash / stripeCount }

// add puts in an entity that is not there. The stripe is locked.
func (l *live) add(hash uint64, a *Activation) {
	t := l.table.Load()
	if t == nil || l.used >= len(*t)/4*3 {
		t = l.rebuild()
	}
	put(*t, hash, a)
	l.n++
	l.used++
}

// put stores an entity in the first free place. Places of removed ones stay
// what they are until the table is rebuilt: a reader may be looking past them.
func put(table []atomic.Pointer[Activation], hash uint64, a *Activation) {
	mask := uint64(len(table) - 1)
	i := place(hash) & mask
	for table[i].Load() != nil {
		i = (i + 1) & mask
	}
	table[i].Store(a)
}

// rebuild makes a table that is at most half full.
func (l *live) rebuild() *[]atomic.Pointer[Activation] {
	size := minTable
	for size < 2*(l.n+1) {
		size *= 2
	}
	next := make([]atomic.Pointer[Activation], size)
	for a := range l.all() {
		put(next, maphash.String(hashSeed, a.id), a)
	}
	l.used = l.n
	l.table.Store(&next)
	return &next
}

// all yields the entities. The stripe is locked.
func (l *live) all() iter.Seq[*Activation] {
	return func(yield func(*Activation) bool) {
		t := l.table.Load()
		if t == nil {
			return
		}
		for i := range *t {
			if a := (*t)[i].Load(); a != nil && a != removed && !yield(a) {
				return
			}
		}
	}
}

// removeIf removes the entities for which gone is true and returns their number.
// The stripe is locked.
func (l *live) removeIf(gone func(*Activation) bool) (n int) {
	t := l.table.Load()
	if t == nil {
		return 0
	}
	for i := range *t {
		if a := (*t)[i].Load(); a != nil && a != removed && gone(a) {
			(*t)[i].Store(removed)
			n++
		}
	}
	l.n -= n
	switch {
	case l.n == 0:
		l.table.Store(nil)
		l.used = 0
	case n > 0 && l.n < len(*t)/8:
		l.rebuild()
	}
	return n
}

// clear removes all entities. The stripe is locked.
func (l *live) clear() {
	l.table.Store(nil)
	l.n, l.used = 0, 0
}
