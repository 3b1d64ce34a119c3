package scheduler_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cruster-go/cruster/scheduler"
)

func TestDelay(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, tc := range []struct {
		name   string
		policy scheduler.Policy
		want   []time.Duration // after attempts 1, 2, ...
	}{
		{"zero value", scheduler.Policy{}, []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s}},
		{"negative fields are defaults", scheduler.Policy{Initial: -1, Max: -1, Jitter: -1}, []time.Duration{s, 2 * s, 4 * s}},
		{"own bounds", scheduler.Policy{Initial: 3 * s, Max: 10 * s}, []time.Duration{3 * s, 6 * s, 10 * s, 10 * s}},
		{"max hit exactly", scheduler.Policy{Initial: s, Max: 4 * s}, []time.Duration{s, 2 * s, 4 * s, 4 * s}},
		{"initial above max", scheduler.Policy{Initial: 90 * s}, []time.Duration{90 * s, 90 * s}},
		{"constant", scheduler.Policy{Kind: scheduler.Constant, Initial: 90 * s, Max: s}, []time.Duration{90 * s, 90 * s, 90 * s}},
		{"constant default", scheduler.Policy{Kind: scheduler.Constant}, []time.Duration{s, s}},
		{"one nanosecond", scheduler.Policy{Initial: 1, Max: 3}, []time.Duration{1, 2, 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for i, want := range tc.want {
				if got := tc.policy.Delay(i+1, nil); got != want {
					t.Errorf("%+v.Delay(%d) = %v, want %v", tc.policy, i+1, got, want)
				}
			}
			if got := tc.policy.Delay(-5, nil); got != tc.want[0] {
				t.Errorf("%+v.Delay(-5) = %v, want the first pause %v", tc.policy, got, tc.want[0])
			}
		})
	}
}

func TestDelayNeverOverflows(t *testing.T) {
	t.Parallel()
	for _, p := range []scheduler.Policy{
		{Max: math.MaxInt64},
		{Initial: 1, Max: math.MaxInt64},
		{Initial: math.MaxInt64, Max: math.MaxInt64, Jitter: 1},
		{Initial: math.MaxInt64/2 + 1, Max: math.MaxInt64},
	} {
		last := time.Duration(0)
		for _, attempt := range []int{1, 2, 30, 62, 63, 64, 65, 1 << 20, math.MaxInt} {
			got := p.Delay(attempt, nil)
			if got < last || got <= 0 {
				t.Errorf("%+v.Delay(%d) = %d after %d: pauses never shrink without jitter", p, attempt, got, last)
			}
			last = got
		}
		if last != math.MaxInt64 {
			t.Errorf("%+v ends at %d, want Max", p, last)
		}
	}
}

func TestJitterShortensOnly(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		p := scheduler.Policy{
			Kind:    scheduler.Kind(rnd.IntN(2)),
			Initial: time.Duration(rnd.Int64N(int64(time.Hour))),
			Max:     time.Duration(rnd.Int64N(int64(time.Hour))),
			Jitter:  rnd.Float64() * 1.5,
		}
		attempt := rnd.IntN(80)
		full := p.Delay(attempt, nil)
		got := p.Delay(attempt, rnd.Float64)
		least := time.Duration(float64(full) * (1 - min(p.Jitter, 1)))
		if got > full || got < least-1 {
			t.Fatalf("%+v.Delay(%d) = %v, want from %v to %v", p, attempt, got, least, full)
		}
	}
	wild := func(v float64) func() float64 { return func() float64 { return v } }
	p := scheduler.Policy{Jitter: 1}
	for _, v := range []float64{-1, 0, 1, 2, math.Inf(1), math.Inf(-1), math.NaN()} {
		if got := p.Delay(3, wild(v)); got < 0 || got > 4*time.Second {
			t.Errorf("Delay with a source that yields %v = %v, want from 0 to 4s", v, got)
		}
	}
	if got := p.Delay(3, wild(0.25)); got != 3*time.Second {
		t.Errorf("Delay with a quarter of full jitter = %v, want 3s", got)
	}
}

func TestPolicyValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		policy scheduler.Policy
		want   string // part of the error; "": none
	}{
		{scheduler.Policy{}, ""},
		{scheduler.Policy{Kind: scheduler.Constant, Initial: time.Hour, Max: 1}, ""},
		{scheduler.Policy{Kind: 7}, "backoff kind 7 is unknown"},
		{scheduler.Policy{Initial: -time.Second}, "backoff initial -1s is negative"},
		{scheduler.Policy{Max: -time.Second}, "backoff max -1s is negative"},
		{scheduler.Policy{Initial: 2, Max: 1}, "backoff max 1ns is below initial 2ns"},
		{scheduler.Policy{Jitter: 1.01}, "backoff jitter 1.01"},
		{scheduler.Policy{Jitter: math.NaN()}, "backoff jitter NaN"},
	} {
		err := tc.policy.Validate()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%+v.Validate() = %v, want %q", tc.policy, err, tc.want)
		}
	}
	if got := scheduler.Kind(9).String() + " " + scheduler.Exponential.String() + " " + scheduler.Constant.String(); got != "Kind(9) exponential constant" {
		t.Errorf("kinds are called %q", got)
	}
}

func BenchmarkDelay(b *testing.B) {
	p := scheduler.Policy{Jitter: 0.2}
	b.ReportAllocs()
	for b.Loop() {
		p.Delay(5, rand.Float64)
	}
}
