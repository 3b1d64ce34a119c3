package sharding

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestNegLog(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	hashes := []uint64{0, 1, 2, 1 << 10, 1<<63 - 1, 1 << 63, 1<<63 + 1, math.MaxUint64 - 4096, math.MaxUint64 - 1, math.MaxUint64}
	for range 100_000 {
		hashes = append(hashes, rnd.Uint64()>>rnd.IntN(64))
	}
	for _, h := range hashes {
		got := negLog(h)
		if !(got > 0) || math.IsInf(got, 0) {
			t.Fatalf("negLog(%#x) = %v, want above 0 and finite", h, got)
		}
		// For small h the lowest bit is set, so compare with that.
		if want := -math.Log(float64(h|1) / (1 << 64)); h < math.MaxUint64-1<<30 && h > 1<<12 && math.Abs(got-want) > 1e-9*want+1e-15 {
			t.Errorf("negLog(%#x) = %v, want about %v", h, got, want)
		}
	}
	for h := uint64(1 << 40); h < 1<<62; h *= 2 {
		if negLog(h) <= negLog(h+h/7) {
			t.Errorf("negLog does not fall from %#x on", h)
		}
	}
}

// TestNegLogBits pins results to the bit: every machine must have the same.
func TestNegLogBits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ h, want uint64 }{
		{0, 0x40462e42fefa39ef},
		{0x123456789abcdef, 0x4015aa16394d481f},
		{0x9e3779b97f4a7c15, 0x3fdecc2caec5160a},
		{0xbf58476d1ce4e5b9, 0x3fd2a162bb9c4ebd},
		{math.MaxUint64, 0x3ca0000000000000},
	} {
		if got := math.Float64bits(negLog(tc.h)); got != tc.want {
			t.Errorf("negLog(%#x) has bits %#x, pinned %#x", tc.h, got, tc.want)
		}
	}
}
