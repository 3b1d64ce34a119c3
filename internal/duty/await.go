package duty

import (
	"context"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// lastWait is how long [Await] waits at least.
const lastWait = time.Second

// Await waits until the goroutines of a service are gone. When ctx ends first it
// waits a moment longer, and reports that some still run: activities, or code of
// workflows, that do not listen to their contexts.
func Await(ctx context.Context, wg *sync.WaitGroup) error {
	gone := make(chan struct{})
	go func() { // outlives the service when something never ends
		wg.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	t := time.NewTimer(lastWait)
	defer t.Stop()
	select {
	case <-gone:
		return nil
	case <-t.C:
		return crustertype.Errorf(crustertype.CodeTimeout, "activities or workflows still run, and are left behind: %w", context.Cause(ctx))
	}
}
