package invoke

import (
	"context"
	"errors"
	"testing"
)

// An error that Err has returned stays, whatever is asked of the context next.
func TestErrDoesNotGoBack(t *testing.T) {
	t.Parallel()
	cause := errors.New("drain")
	for range 100 {
		life, drain := context.WithCancelCause(context.Background())
		c := NewLight(context.Background(), life, &What{"e", "Do"}, "a", nil)
		drain(cause)
		if c.Err() == nil {
			t.Fatal("Err() = nil after the end of the lifetime")
		}
		done := c.Done()
		if c.Err() == nil {
			t.Fatal("Err() went back to nil when Done was called")
		}
		select {
		case <-done:
		default:
			t.Fatal("Done is open, and Err says that the context has ended")
		}
		if got := context.Cause(c); got != cause {
			t.Fatalf("Cause() = %v, want %v", got, cause)
		}
		c.End()
	}
}
