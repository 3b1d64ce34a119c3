package duty

import (
	"testing"
	"time"
)

// A tick is late by a minute at most when the wall clock jumps while the loop
// waits: it looks at the clock again.
func TestPauseIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Now().Round(0)
	for until, want := range map[time.Duration]time.Duration{
		-time.Second: 0, 0: 0, 10 * time.Second: 10 * time.Second, time.Minute: time.Minute, time.Hour: time.Minute, 1e4 * time.Hour: time.Minute,
	} {
		if got := pauseUntil(now.Add(until), now); got != want {
			t.Errorf("it waits %v for a tick in %v, want %v", got, until, want)
		}
	}
}
