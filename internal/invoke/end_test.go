package invoke

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// TestEndClosesDone ends contexts while others ask for their channel: whoever
// wins, the channel is closed after End.
func TestEndClosesDone(t *testing.T) {
	t.Parallel()
	for range 2000 {
		c := NewLight(t.Context(), t.Context(), &What{"counter", "Get"}, "1", nil)
		var wg sync.WaitGroup
		var derived context.Context
		wg.Go(func() {
			var cancel context.CancelFunc
			derived, cancel = context.WithCancel(c)
			t.Cleanup(cancel)
		})
		wg.Go(c.End)
		wg.Wait()
		<-derived.Done()
		<-c.Done()
		if err := c.Err(); !errors.Is(err, context.Canceled) {
			t.Fatalf("Err after End = %v, want context.Canceled", err)
		}
	}
}

// TestEndRefusesSends ends contexts while another goroutine adds a send: it is
// either collected or refused, and refused after End.
func TestEndRefusesSends(t *testing.T) {
	t.Parallel()
	for range 2000 {
		c := NewLight(t.Context(), t.Context(), &What{"counter", "Get"}, "1", nil)
		send := Sends{After: []func(){func() {}}}
		var wg sync.WaitGroup
		var collected bool
		wg.Go(func() { collected = c.Collect(send) })
		wg.Go(c.End)
		wg.Wait()
		if c.Collected() != collected || (len(c.Sends().After) == 1) != collected {
			t.Fatalf("Collect = %v, but Collected = %v and %d sends", collected, c.Collected(), len(c.Sends().After))
		}
		if c.Collect(send) {
			t.Fatal("Collect after End = true")
		}
	}
}
