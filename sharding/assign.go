package sharding

import (
	"math"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Runner is a candidate for shards.
type Runner struct {
	// ID tells the runner from others. A runner that keeps its ID over a restart,
	// such as its address, gets the same shards again. Of several runners with
	// one ID, only one gets shards: the one with the highest weight, and of equal
	// ones the first in the slice.
	ID string
	// Weight is its share of the shards relative to the other runners: 2 gets
	// twice as many as 1. 0 and below drains: it gets none.
	Weight int
	// Groups are the shard groups it hosts. It gets no shards of others.
	Groups []string
}

// RunnerIndex is the position of a runner in the slice given to [Assign].
type RunnerIndex int32

// Unassigned is the runner of a shard that nobody hosts.
const Unassigned RunnerIndex = -1

// Assign returns, for each shard of a group, the runner it belongs to;
// [Unassigned] for all when no runner hosts the group with a weight above 0.
// shards below 1 gives none.
//
// Every runner computes the same from the same set of runners, whatever their
// order and whatever the machine. When a runner joins, it takes its share from
// all others and nothing else moves; when one leaves, only its shards move,
// spread over those that stay; when a weight changes, shards move only to or
// from that runner.
//
// Shares are as by independent draws: of S shards, a runner with share p gets
// S×p, give or take about √(S×p×(1-p)); with 300 shards and 3 equal runners,
// 100 ± 8. The way is weighted rendezvous hashing: each pair of runner and shard
// has a pseudo-random number u in (0, 1), and a shard belongs to the runner with
// the least -ln(u)/weight.
//
// The cost is shards × runners × a few nanoseconds.
func Assign(runners []Runner, group string, shards int) []RunnerIndex {
	if shards < 1 {
		return nil
	}
	owners := make([]RunnerIndex, shards)
	classes := classify(runners, group)
	if len(classes) == 0 {
		for i := range owners {
			owners[i] = Unassigned
		}
		return owners
	}
	seed := xxhash.Sum64String(group)
	for i := range owners {
		shard := mix(seed + uint64(i)*0x9e3779b97f4a7c15)
		best, least := Unassigned, math.Inf(1)
		for _, class := range classes {
			// Among equal weights the greatest number wins, so one logarithm
			// serves a whole class. The first of equal ones wins: the highest
			// weight, then the lowest ID, then the first in the slice.
			top := class.members[0]
			greatest := mix(shard ^ top.hash)
			for _, m := range class.members[1:] {
				if h := mix(shard ^ m.hash); h > greatest {
					top, greatest = m, h
				}
			}
			if len(classes) == 1 {
				best = top.index
				break
			}
			if score := negLog(greatest) / float64(class.weight); score < least {
				best, least = top.index, score
			}
		}
		owners[i] = best
	}
	return owners
}

// class holds the runners of one weight, by ID.
type class struct {
	weight  int
	members []member
}

type member struct {
	hash  uint64
	index RunnerIndex
	id    string
}

// classify returns the runners that can have shards of group by weight, the
// highest first.
func classify(runners []Runner, group string) []class {
	type candidate struct {
		member
		weight int
	}
	var list []candidate
	for i, r := range runners {
		if r.Weight > 0 && slices.Contains(r.Groups, group) {
			list = append(list, candidate{member{mix(xxhash.Sum64String(r.ID)), RunnerIndex(i), r.ID}, r.Weight})
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		if a.weight != b.weight {
			return b.weight - a.weight
		}
		switch {
		case a.id < b.id:
			return -1
		case a.id > b.id:
			return 1
		}
		return 0
	})
	var classes []class
	for _, c := range list {
		if n := len(classes); n == 0 || classes[n-1].weight != c.weight {
			classes = append(classes, class{weight: c.weight})
		}
		last := &classes[len(classes)-1]
		last.members = append(last.members, c.member)
	}
	return classes
}

// mix spreads the bits of h over the whole of it, one to one.
func mix(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}

// negLog returns -ln(u) for the number u in (0, 1) that h stands for, above 0.
//
// It gives the same bits on every machine, which math.Log does not promise: it
// uses only operations that IEEE 754 defines exactly, and the conversions keep
// the compiler from fusing two of them into one.
func negLog(h uint64) float64 {
	// u = f × 2^-n with f in [½, 1): n leading zeros, then 52 bits and a half,
	// so that f is exact and never 1.
	h |= 1
	n := bits.LeadingZeros64(h)
	f := float64((float64(h<<n>>12) + 0.5) / (1 << 52))
	// ln f = 2 artanh(z) for z = (f-1)/(f+1), which is from -⅓ to 0.
	z := (f - 1) / (f + 1)
	zz := float64(z * z)
	sum := 0.0
	for k := 33; k >= 1; k -= 2 {
		sum = float64(sum*zz) + 1/float64(k)
	}
	return float64(float64(n)*math.Ln2) - float64(float64(2*z)*sum)
}
