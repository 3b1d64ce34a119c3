// Package quiet keeps a log readable when somebody knocks all the time.
package quiet

import (
	"sync"
	"time"
)

// Limiter lets one event through in each interval and counts the others. Its
// methods may be called concurrently.
type Limiter struct {
	// Interval defaults to 10 s.
	Interval time.Duration

	mu      sync.Mutex
	next    time.Time
	skipped int
}

// Allow reports whether an event is to be logged, and how many were not since
// the last one.
func (l *Limiter) Allow() (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.next) {
		l.skipped++
		return 0, false
	}
	interval := l.Interval
	if interval <= 0 {
		interval = 10 * time.Second
	}
	l.next = now.Add(interval)
	skipped, l.skipped = l.skipped, 0
	return skipped, true
}
