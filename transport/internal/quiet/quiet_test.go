package quiet_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/transport/internal/quiet"
)

func TestOneEventInEachInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l quiet.Limiter
		if skipped, ok := l.Allow(); !ok || skipped != 0 {
			t.Errorf("first event: %d, %v, want it through", skipped, ok)
		}
		for range 5 {
			if _, ok := l.Allow(); ok {
				t.Error("an event at the same time went through")
			}
		}
		time.Sleep(10 * time.Second)
		if skipped, ok := l.Allow(); !ok || skipped != 5 {
			t.Errorf("event after the interval: %d skipped, %v, want 5, true", skipped, ok)
		}
	})
}
