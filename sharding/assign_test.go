package sharding_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cruster-go/cruster/sharding"
)

const group = "default"

func runners(weights ...int) []sharding.Runner {
	var rs []sharding.Runner
	for i, w := range weights {
		rs = append(rs, sharding.Runner{ID: fmt.Sprintf("10.0.0.%d:7000", i+1), Weight: w, Groups: []string{group}})
	}
	return rs
}

func equal(n int) []sharding.Runner { return runners(slices.Repeat([]int{1}, n)...) }

// owners names the runner of each shard.
func owners(rs []sharding.Runner, group string, shards int) []string {
	var ids []string
	for _, i := range sharding.Assign(rs, group, shards) {
		if i == sharding.Unassigned {
			ids = append(ids, "")
		} else {
			ids = append(ids, rs[i].ID)
		}
	}
	return ids
}

func counts(ids []string) map[string]int {
	n := map[string]int{}
	for _, id := range ids {
		n[id]++
	}
	return n
}

// near reports whether n is within five deviations of shards × share.
func near(n, shards int, share float64) bool {
	mean := float64(shards) * share
	return math.Abs(float64(n)-mean) <= 5*math.Sqrt(mean*(1-share))+1e-9
}

// TestAssignGolden pins an assignment: runners of two versions would otherwise
// fight over every shard during an upgrade.
func TestAssignGolden(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		weights []int
		want    string
	}{
		{[]int{1, 1, 1}, "[1 2 2 2 0 0 0 2 0 1 1 0 0 1 1 0 2 1 0 1 0 0 2 0]"},
		{[]int{1, 2, 5}, "[1 2 2 2 0 2 0 2 2 1 1 2 0 1 1 2 2 1 2 1 2 0 2 2]"},
		{[]int{100, 0, 37, 100}, "[3 3 3 3 0 0 0 3 0 3 0 3 0 3 0 0 3 3 0 3 3 0 2 0]"},
	} {
		if got := fmt.Sprint(sharding.Assign(runners(tc.weights...), group, 24)); got != tc.want {
			t.Errorf("Assign to weights %v = %s, pinned %s", tc.weights, got, tc.want)
		}
	}
}

func TestAssignIgnoresOrder(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		rs := make([]sharding.Runner, 1+rnd.IntN(12))
		for i := range rs {
			rs[i] = sharding.Runner{ID: fmt.Sprint("r", i), Weight: rnd.IntN(4), Groups: []string{"other", group}[rnd.IntN(2):]}
		}
		want := owners(rs, group, 300)
		rnd.Shuffle(len(rs), func(i, j int) { rs[i], rs[j] = rs[j], rs[i] })
		if got := owners(rs, group, 300); !slices.Equal(got, want) {
			t.Fatalf("order of %+v changes the assignment", rs)
		}
	}
}

func TestAssignBalances(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 7, 20} {
		for _, shards := range []int{300, 2048, 20_000} {
			for id, got := range counts(owners(equal(n), group, shards)) {
				if !near(got, shards, 1/float64(n)) {
					t.Errorf("%d shards on %d runners: %s has %d, want near %d", shards, n, id, got, shards/n)
				}
			}
		}
	}
}

func TestAssignRespectsWeights(t *testing.T) {
	t.Parallel()
	const shards = 50_000
	for _, weights := range [][]int{{1, 2}, {1, 1, 2, 4}, {3, 5, 7, 11, 13}, {1, 1000}, {math.MaxInt32, math.MaxInt32, 1 << 30}} {
		rs, sum := runners(weights...), 0
		for _, w := range weights {
			sum += w
		}
		n := counts(owners(rs, group, shards))
		for _, r := range rs {
			if share := float64(r.Weight) / float64(sum); !near(n[r.ID], shards, share) {
				t.Errorf("weights %v: weight %d has %d of %d shards, want near %.0f", weights, r.Weight, n[r.ID], shards, share*shards)
			}
		}
	}
}

func TestAssignDrainsAndIsolates(t *testing.T) {
	t.Parallel()
	rs := []sharding.Runner{
		{ID: "both", Weight: 1, Groups: []string{group, "billing"}},
		{ID: "default only", Weight: 1, Groups: []string{group}},
		{ID: "billing only", Weight: 1, Groups: []string{"billing"}},
		{ID: "client", Weight: 1},
		{ID: "drained", Weight: 0, Groups: []string{group, "billing", "batch"}},
		{ID: "negative", Weight: -1, Groups: []string{group, "billing", "batch"}},
	}
	for name, want := range map[string][]string{group: {"both", "default only"}, "billing": {"both", "billing only"}, "batch": {""}, "nobody's": {""}} {
		n := counts(owners(rs, name, 300))
		if len(n) != len(want) {
			t.Errorf("group %q is on %v, want on %q", name, n, want)
		}
		for _, id := range want {
			if n[id] == 0 {
				t.Errorf("group %q: %q has nothing: %v", name, id, n)
			}
		}
	}
	// One runner in many groups does not have the same shards in all of them.
	a, b := owners(equal(4), group, 0), []string(nil)
	if len(a) != 0 || sharding.Assign(equal(2), group, -5) != nil {
		t.Error("without shards there is something assigned")
	}
	rs = equal(4)
	for i := range rs {
		rs[i].Groups = []string{group, "billing"}
	}
	a, b = owners(rs, group, 2000), owners(rs, "billing", 2000)
	same := 0
	for i := range a {
		if a[i] == b[i] {
			same++
		}
	}
	if !near(same, 2000, 0.25) {
		t.Errorf("%d of 2000 shards have one owner in two groups, want near 500: groups must not be correlated", same)
	}
	if got := sharding.Assign(nil, group, 3); !slices.Equal(got, []sharding.RunnerIndex{sharding.Unassigned, sharding.Unassigned, sharding.Unassigned}) {
		t.Errorf("without runners: %v, want all unassigned", got)
	}
}

func TestAssignMovesOnlyTheShare(t *testing.T) {
	t.Parallel()
	const shards = 3000
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		weights := make([]int, 2+rnd.IntN(10))
		total := 0
		for i := range weights {
			weights[i] = 1 + rnd.IntN(3)
			total += weights[i]
		}
		rs := runners(weights...)
		before := owners(rs, group, shards)
		joined := sharding.Runner{ID: "new", Weight: 1 + rnd.IntN(5), Groups: []string{group}}
		after := owners(append(slices.Clone(rs), joined), group, shards)
		moved := 0
		for i := range before {
			if before[i] != after[i] {
				moved++
				if after[i] != joined.ID {
					t.Fatalf("weights %v: shard %d moved from %s to %s when another runner joined", weights, i, before[i], after[i])
				}
			}
		}
		if share := float64(joined.Weight) / float64(total+joined.Weight); !near(moved, shards, share) {
			t.Errorf("weights %v: %d shards moved to a runner with share %.3f", weights, moved, share)
		}

		// A runner leaves or drains: its shards move, in proportion; no others.
		gone := rnd.IntN(len(rs))
		left := slices.Delete(slices.Clone(rs), gone, gone+1)
		drained := slices.Clone(rs)
		drained[gone].Weight = 0
		after = owners(left, group, shards)
		if !slices.Equal(after, owners(drained, group, shards)) {
			t.Errorf("weights %v: weight 0 is not the same as being gone", weights)
		}
		had := 0
		heirs := map[string]int{}
		for i := range before {
			switch {
			case before[i] == rs[gone].ID:
				had++
				heirs[after[i]]++
			case before[i] != after[i]:
				t.Fatalf("weights %v: shard %d moved from %s to %s when %s left", weights, i, before[i], after[i], rs[gone].ID)
			}
		}
		for _, r := range left {
			if share := float64(r.Weight) / float64(total-rs[gone].Weight); !near(heirs[r.ID], had, share) {
				t.Errorf("weights %v: %s inherits %d of %d shards, want a share of %.3f", weights, r.ID, heirs[r.ID], had, share)
			}
		}

		// A weight grows: shards move to it alone.
		heavier := slices.Clone(rs)
		heavier[gone].Weight += 1 + rnd.IntN(3)
		after = owners(heavier, group, shards)
		for i := range before {
			if before[i] != after[i] && after[i] != rs[gone].ID {
				t.Fatalf("weights %v: shard %d moved from %s to %s when %s became heavier", weights, i, before[i], after[i], rs[gone].ID)
			}
		}
	}
}

func TestAssignTakesOneRunnerPerID(t *testing.T) {
	t.Parallel()
	rs := equal(3)
	want := owners(rs, group, 300)
	old := sharding.Runner{ID: rs[1].ID, Weight: 0, Groups: []string{group}} // the life before, draining
	if got := owners([]sharding.Runner{old, rs[0], rs[1], rs[2]}, group, 300); !slices.Equal(got, want) {
		t.Error("a draining runner with the same ID changes the assignment")
	}
	twice := append(slices.Clone(rs), rs[1])
	for i, r := range sharding.Assign(twice, group, 300) {
		if r == 3 {
			t.Fatalf("shard %d went to the second of two runners with one ID", i)
		}
	}
}

func BenchmarkAssign(b *testing.B) {
	for _, bc := range []struct {
		name   string
		rs     []sharding.Runner
		shards int
	}{
		{"3x300", equal(3), 300},
		{"100x2048", equal(100), 2048},
		{"weighted/100x2048", runners(slices.Repeat([]int{1, 2, 3, 4}, 25)...), 2048},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sharding.Assign(bc.rs, group, bc.shards)
			}
		})
	}
}
