package memory

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestOrderedIsASortedSet compares with a sorted slice under random changes.
func TestOrderedIsASortedSet(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for round := range 20 {
		o := newOrdered(cmp.Compare[int])
		var want []int
		for range 3000 {
			x := rng.IntN(1500)
			if round%2 == 0 && len(want) > 0 && rng.IntN(3) == 0 {
				x = want[0] // a queue: the first one goes
			}
			i, found := slices.BinarySearch(want, x)
			if rng.IntN(5) < 2 || round%2 == 0 && found {
				if o.remove(x) != found {
					t.Fatalf("seed %d: remove(%d) = %v, want %v", seed, x, !found, found)
				}
				if found {
					want = slices.Delete(want, i, i+1)
				}
			} else {
				if o.insert(x) == found {
					t.Fatalf("seed %d: insert(%d) = %v, want %v", seed, x, found, !found)
				}
				if !found {
					want = slices.Insert(want, i, x)
				}
			}
			if o.n != len(want) {
				t.Fatalf("seed %d: %d elements, want %d", seed, o.n, len(want))
			}
		}
		var up, down []int
		for c := o.first(); ; c.next() {
			x, ok := c.get()
			if !ok {
				break
			}
			up = append(up, x)
		}
		for c := o.last(); ; c.prev() {
			x, ok := c.get()
			if !ok {
				break
			}
			down = append(down, x)
		}
		slices.Reverse(down)
		if !slices.Equal(up, want) || !slices.Equal(down, want) {
			t.Fatalf("seed %d: walking gives %v and %v, want %v", seed, up, down, want)
		}
		for range 100 {
			x := rng.IntN(1600) - 50
			i, found := slices.BinarySearch(want, x)
			b := o.below(x)
			if got, ok := b.get(); ok != (i > 0) || ok && got != want[i-1] {
				t.Fatalf("seed %d: below(%d) = %d, %v", seed, x, got, ok)
			}
			if found {
				i++
			}
			a := o.above(x)
			if got, ok := a.get(); ok != (i < len(want)) || ok && got != want[i] {
				t.Fatalf("seed %d: above(%d) = %d, %v", seed, x, got, ok)
			}
		}
	}
}
