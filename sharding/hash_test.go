package sharding_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/cruster-go/cruster/sharding"
)

// TestShardOfGolden pins placements. A change here would send every stored
// request of every cluster to the wrong shard: change the code, not the values.
func TestShardOfGolden(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		group, id string
		shards    int
		want      int
	}{
		{"default", "c-1", 300, 106},
		{"default", "c-2", 300, 107},
		{"default", "", 300, 266},
		{"", "", 300, 179},
		{"default", "order-0190b5c2-7d1f-7c3a-9d1e-3f2a1b4c5d6e", 300, 48},
		{"billing", "c-1", 300, 213},
		{"default", "ключ", 300, 77},
		{"default", "c-1", 2048, 1510},
		{"default", "c-1", 2, 0},
		{"default", strings.Repeat("long", 100), 300, 102},
		{strings.Repeat("g", 200), strings.Repeat("i", 200), 1 << 30, 912902485},
	} {
		if got := sharding.ShardOf(tc.group, tc.id, tc.shards); got != tc.want {
			t.Errorf("ShardOf(%.20q, %.20q, %d) = %d, pinned %d", tc.group, tc.id, tc.shards, got, tc.want)
		}
	}
}

// TestShardOfIsTheDocumentedHash keeps the fast path for short keys equal to
// the definition.
func TestShardOfIsTheDocumentedHash(t *testing.T) {
	t.Parallel()
	for _, g := range []int{0, 1, 7, 31, 64, 200} {
		for i := range 300 {
			group, id := strings.Repeat("g", g), strings.Repeat("x", i)
			b := binary.LittleEndian.AppendUint64(nil, uint64(g))
			b = append(append(b, group...), id...)
			want := int(xxhash.Sum64(b) % 100_003)
			if got := sharding.ShardOf(group, id, 100_003); got != want {
				t.Fatalf("group of %d and ID of %d bytes: shard %d, want %d", g, i, got, want)
			}
		}
	}
}

func TestShardOfKeepsGroupAndIDApart(t *testing.T) {
	t.Parallel()
	const shards = 1 << 30 // so many that equal means confused
	if sharding.ShardOf("ab", "c", shards) == sharding.ShardOf("a", "bc", shards) {
		t.Error(`ShardOf("ab", "c") == ShardOf("a", "bc"): the border is not part of the hash`)
	}
	if sharding.ShardOf("", "abc", shards) == sharding.ShardOf("abc", "", shards) {
		t.Error(`ShardOf("", "abc") == ShardOf("abc", ""): the border is not part of the hash`)
	}
}

func TestShardOfTakesAnyCount(t *testing.T) {
	t.Parallel()
	for _, shards := range []int{math.MinInt, -1, 0, 1} {
		if got := sharding.ShardOf("default", "c-1", shards); got != 0 {
			t.Errorf("ShardOf with %d shards = %d, want 0", shards, got)
		}
	}
	for _, shards := range []int{2, 3, 300, math.MaxInt} {
		if got := sharding.ShardOf("default", "c-1", shards); got < 0 || got >= shards {
			t.Errorf("ShardOf with %d shards = %d, want from 0 to %d", shards, got, shards-1)
		}
	}
}

// TestShardOfSpreads checks that IDs as people number them spread like random
// ones: chi-square over 300 shards within five deviations of its mean.
func TestShardOfSpreads(t *testing.T) {
	t.Parallel()
	const shards, ids = 300, 60_000
	for _, format := range []string{"%d", "user-%d", "%08x", "tenant-7/order/%d"} {
		var count [shards]int
		for i := range ids {
			count[sharding.ShardOf("default", fmt.Sprintf(format, i), shards)]++
		}
		chi := 0.0
		for _, n := range count {
			d := float64(n) - ids/shards
			chi += d * d / (ids / shards)
		}
		if limit := shards - 1 + 5*math.Sqrt(2*(shards-1)); chi > limit {
			t.Errorf("IDs like %q: chi-square %.0f, want at most %.0f", format, chi, limit)
		}
	}
}

func TestShardOfDoesNotAllocate(t *testing.T) { // alone: it counts allocations
	for _, id := range []string{"c-1", strings.Repeat("x", 500)} {
		if n := testing.AllocsPerRun(100, func() { sharding.ShardOf("default", id, 300) }); n != 0 {
			t.Errorf("ShardOf of an ID of %d bytes allocates %v times, want 0", len(id), n)
		}
	}
}

func BenchmarkShardOf(b *testing.B) {
	for _, n := range []int{8, 36, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			id := strings.Repeat("x", n)
			b.ReportAllocs()
			for b.Loop() {
				sharding.ShardOf("default", id, 300)
			}
		})
	}
}
