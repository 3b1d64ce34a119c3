package scheduler

import (
	"fmt"
	"math"
	"time"
)

// Kind says how pauses develop.
type Kind uint8

// The kinds of pauses.
const (
	Exponential Kind = iota // doubling from Initial to Max
	Constant                // always Initial
)

// String returns "exponential" or "constant".
func (k Kind) String() string {
	switch k {
	case Exponential:
		return "exponential"
	case Constant:
		return "constant"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// The defaults of a [Policy].
const (
	DefaultInitial = time.Second
	DefaultMax     = time.Minute
)

// Policy computes the pauses between attempts. The zero value doubles from one
// second to sixty, without jitter. A Policy is a value: any number of
// goroutines may use it, and two equal ones can be compared with ==.
type Policy struct {
	// Kind is how pauses develop. Default: Exponential.
	Kind Kind
	// Initial is the first pause. Default, also for negative values: 1s.
	Initial time.Duration
	// Max is the longest pause of an exponential policy; below Initial it
	// counts as Initial. A constant policy does not use it. Default, also for
	// negative values: 60s.
	Max time.Duration
	// Jitter is the part of itself, from 0 to 1, by which a pause may be
	// shortened, so that what failed together does not return together. It
	// never lengthens: Max stays a promise. Values outside count as the
	// nearest inside.
	Jitter float64
}

// Delay returns the pause after the given failed attempt: for an exponential
// policy Initial × 2^(attempt-1), at most Max; then less the jitter. Attempts
// count from 1; lower numbers count as 1. There is no attempt so high that the
// result overflows.
//
// rnd yields numbers in [0, 1), such as [math/rand/v2.Float64]; nil means no
// jitter. It is called at most once.
func (p Policy) Delay(attempt int, rnd func() float64) time.Duration {
	d := p.Initial
	if d <= 0 {
		d = DefaultInitial
	}
	if p.Kind == Exponential {
		longest := p.Max
		if longest <= 0 {
			longest = DefaultMax
		}
		longest = max(longest, d)
		if doublings := max(attempt, 1) - 1; d <= longest>>doublings { // shifting by more than 62 gives 0
			d <<= doublings
		} else {
			d = longest
		}
	}
	if p.Jitter > 0 && rnd != nil {
		cut := min(p.Jitter, 1) * min(max(rnd(), 0), 1)
		if less := time.Duration(math.Round(float64(d) * cut)); less > 0 {
			d = max(d-less, 0)
		}
	}
	return d
}

// Validate returns an error that names the first field which is out of range.
// Delay works without it; it is for the place where a user writes a policy.
func (p Policy) Validate() error {
	switch {
	case p.Kind > Constant:
		return fmt.Errorf("backoff kind %d is unknown: use Exponential or Constant", p.Kind)
	case p.Initial < 0:
		return fmt.Errorf("backoff initial %s is negative: use a positive duration, or 0 for %s", p.Initial, DefaultInitial)
	case p.Max < 0:
		return fmt.Errorf("backoff max %s is negative: use a positive duration, or 0 for %s", p.Max, DefaultMax)
	case p.Kind == Exponential && p.Max > 0 && p.Initial > p.Max:
		return fmt.Errorf("backoff max %s is below initial %s: raise max or lower initial", p.Max, p.Initial)
	case !(p.Jitter >= 0 && p.Jitter <= 1):
		return fmt.Errorf("backoff jitter %v is not a part: use a number from 0 to 1", p.Jitter)
	}
	return nil
}
