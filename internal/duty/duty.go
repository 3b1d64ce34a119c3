// Package duty runs what a runner does by itself: singletons, crons, retention.
package duty

import (
	"context"
	"log/slog"
	"time"

	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/storage"
)

// Host is the runner that duties are done on.
type Host struct {
	Run      *runner.Runner
	Store    storage.Store
	Logger   *slog.Logger
	Codec    string // name of the codec of what is written
	Capacity int    // of a mailbox
}

// Retain removes what has outlived keep, in small batches, until ctx ends;
// tombstones after keepKeys, 0: never.
func (h Host) Retain(ctx context.Context, keep, keepKeys time.Duration) {
	t := time.NewTicker(min(time.Hour, max(keep/10, time.Second)))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		p := storage.Purge{Before: time.Now().Add(-keep), Messages: storage.AllTypes, Executions: storage.AllTypes}
		if keepKeys > 0 {
			p.KeysBefore = time.Now().Add(-keepKeys)
		}
		for {
			n, err := h.Store.Purge(ctx, p)
			if err != nil && ctx.Err() == nil {
				h.Logger.WarnContext(ctx, "retention failed, it is tried again later", "error", err)
			}
			if n == 0 || err != nil {
				break
			}
		}
	}
}
