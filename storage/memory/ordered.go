package memory

import (
	"slices"
	"sort"
)

const (
	maxBlock   = 256 // elements in one block
	shiftBlock = 32  // a first element is removed by moving blocks up to this length
)

// ordered is a sorted set. It is a list of sorted blocks: inserting moves at
// most one block's elements, and appending at the end, which is what growing
// times and sequence numbers do, moves none.
type ordered[T any] struct {
	cmp    func(a, b T) int
	blocks [][]T // none is empty, except a single one that is kept for reuse
	n      int
}

func newOrdered[T any](cmp func(a, b T) int) ordered[T] { return ordered[T]{cmp: cmp} }

// search returns the place of the first element that is not below x.
func (o *ordered[T]) search(x T) (b, i int, found bool) {
	if o.n == 0 {
		return len(o.blocks), 0, false
	}
	b = sort.Search(len(o.blocks), func(k int) bool {
		blk := o.blocks[k]
		return o.cmp(blk[len(blk)-1], x) >= 0
	})
	if b == len(o.blocks) {
		return b, 0, false
	}
	i, found = slices.BinarySearchFunc(o.blocks[b], x, o.cmp)
	return b, i, found
}

// insert adds x and reports whether it was new.
func (o *ordered[T]) insert(x T) bool {
	if o.n == 0 {
		if len(o.blocks) == 0 {
			o.blocks = append(o.blocks, nil)
		}
		o.blocks[0] = append(o.blocks[0], x)
		o.n = 1
		return true
	}
	b, i, found := o.search(x)
	if found {
		return false
	}
	o.n++
	if b == len(o.blocks) { // behind the last
		last := &o.blocks[b-1]
		if len(*last) < maxBlock {
			*last = append(*last, x)
		} else {
			o.blocks = append(o.blocks, append(make([]T, 0, maxBlock), x))
		}
		return true
	}
	if blk := o.blocks[b]; len(blk) >= maxBlock {
		half := len(blk) / 2
		right := append(make([]T, 0, maxBlock), blk[half:]...)
		clear(blk[half:])
		o.blocks[b] = blk[:half]
		o.blocks = slices.Insert(o.blocks, b+1, right)
		if i > half {
			b, i = b+1, i-half
		}
	}
	o.blocks[b] = slices.Insert(o.blocks[b], i, x)
	return true
}

// remove takes x out and reports whether it was there.
func (o *ordered[T]) remove(x T) bool {
	b, i, found := o.search(x)
	if !found {
		return false
	}
	o.n--
	blk := o.blocks[b]
	if i == 0 && len(blk) > shiftBlock {
		clear(blk[:1])
		blk = blk[1:]
	} else {
		blk = slices.Delete(blk, i, i+1)
	}
	o.blocks[b] = blk
	switch {
	case len(blk) > 0 || len(o.blocks) == 1:
	case b == 0:
		o.blocks[0] = nil
		o.blocks = o.blocks[1:]
	default:
		o.blocks = slices.Delete(o.blocks, b, b+1)
	}
	return true
}

// cursor walks a set in either direction. It is valid until the set changes.
type cursor[T any] struct {
	o    *ordered[T]
	b, i int
}

// first returns a cursor at the smallest element.
func (o *ordered[T]) first() cursor[T] { return cursor[T]{o: o} }

// last returns a cursor at the largest element.
func (o *ordered[T]) last() cursor[T] {
	c := cursor[T]{o: o, b: len(o.blocks)}
	c.prev()
	return c
}

// above returns a cursor at the first element behind x.
func (o *ordered[T]) above(x T) cursor[T] {
	b, i, found := o.search(x)
	c := cursor[T]{o: o, b: b, i: i}
	if found {
		c.next()
	}
	return c
}

// below returns a cursor at the last element before x.
func (o *ordered[T]) below(x T) cursor[T] {
	b, i, _ := o.search(x)
	c := cursor[T]{o: o, b: b, i: i}
	c.prev()
	return c
}

// get returns the element at c, if there is one.
func (c *cursor[T]) get() (x T, ok bool) {
	if c.b < 0 || c.b >= len(c.o.blocks) || c.i >= len(c.o.blocks[c.b]) {
		return x, false
	}
	return c.o.blocks[c.b][c.i], true
}

func (c *cursor[T]) next() {
	if c.i++; c.i >= len(c.o.blocks[c.b]) {
		c.b, c.i = c.b+1, 0
	}
}

func (c *cursor[T]) prev() {
	if c.i--; c.i >= 0 {
		return
	}
	if c.b--; c.b >= 0 {
		c.i = max(len(c.o.blocks[c.b])-1, 0)
	}
}

// merge yields the elements of several sets in one order. It consumes the
// cursors.
func merge[T any](cmp func(a, b T) int, cursors []cursor[T]) func(yield func(T) bool) {
	return func(yield func(T) bool) {
		heap := cursors[:0]
		for _, c := range cursors {
			if _, ok := c.get(); ok {
				heap = append(heap, c)
			}
		}
		less := func(a, b int) bool {
			x, _ := heap[a].get()
			y, _ := heap[b].get()
			return cmp(x, y) < 0
		}
		down := func(i int) {
			for {
				least := i
				for _, k := range [2]int{2*i + 1, 2*i + 2} {
					if k < len(heap) && less(k, least) {
						least = k
					}
				}
				if least == i {
					return
				}
				heap[i], heap[least] = heap[least], heap[i]
				i = least
			}
		}
		for i := len(heap)/2 - 1; i >= 0; i-- {
			down(i)
		}
		for len(heap) > 0 {
			x, _ := heap[0].get()
			if !yield(x) {
				return
			}
			heap[0].next()
			if _, ok := heap[0].get(); !ok {
				heap[0] = heap[len(heap)-1]
				heap = heap[:len(heap)-1]
			}
			down(0)
		}
	}
}
