// Package scheduler computes when things happen: cron ticks, pauses between
// attempts, due timers. It is pure: no clock, no goroutine, no I/O.
package scheduler

import "time"

// Kind says how pauses develop.
type Kind uint8

// The kinds of pauses.
const (
	Exponential Kind = iota // doubling from Initial to Max
	Constant                // always Initial
)

// Policy computes the pauses between attempts. The zero value doubles from one
// second to sixty, without jitter.
type Policy struct {
	Kind    Kind
	Initial time.Duration // first pause; default 1s
	Max     time.Duration // longest pause; default 60s
	Jitter  float64       // a pause is shortened by up to this part of itself, from 0 to 1
}

// Delay returns the pause after the given attempt, counted from 1. rnd yields
// numbers in [0, 1); nil: no jitter.
func (p Policy) Delay(attempt int, rnd func() float64) time.Duration {
	d, longest := p.Initial, p.Max
	if d <= 0 {
		d = time.Second
	}
	if longest <= 0 {
		longest = time.Minute
	}
	if p.Kind == Exponential {
		for ; attempt > 1 && d < longest; attempt-- {
			d *= 2
		}
		d = min(d, max(longest, p.Initial))
	}
	if p.Jitter > 0 && rnd != nil {
		d -= time.Duration(float64(d) * min(p.Jitter, 1) * rnd())
	}
	return d
}
