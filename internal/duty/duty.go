// Package duty runs what a runner does by itself: singletons, crons, retention.
package duty

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
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
	// Started is told of executions that were committed. Required where crons
	// start some.
	Started func([]crustertype.Execution, []storage.StartResult)
}

// Retention says how long finished work is kept.
type Retention struct {
	Keep     time.Duration // below 0: for ever
	KeepKeys time.Duration // tombstones; 0: for ever
	// Workflows are those that have a retention of their own, and Others the
	// rest of the registered ones.
	Workflows map[string]time.Duration
	Others    []string
}

// Add tells of a registered workflow, and of its own retention if it is set.
func (r *Retention) Add(workflow string, own time.Duration, set bool) {
	if !set {
		r.Others = append(r.Others, workflow)
		return
	}
	if r.Workflows == nil {
		r.Workflows = make(map[string]time.Duration)
	}
	r.Workflows[workflow] = own
}

// Retain removes what has outlived its retention, in small batches, until ctx
// ends.
func (h Host) Retain(ctx context.Context, r Retention) {
	every := time.Hour
	for _, keep := range append(slices.Collect(maps.Values(r.Workflows)), r.Keep) {
		if keep > 0 {
			every = min(every, max(keep/10, time.Second))
		}
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if r.Keep > 0 {
			executions := storage.AllTypes
			if len(r.Workflows) > 0 {
				executions = r.Others
			}
			h.purge(ctx, r, storage.Purge{Before: time.Now().Add(-r.Keep), Messages: storage.AllTypes, Executions: executions})
		}
		for name, keep := range r.Workflows {
			if keep > 0 {
				h.purge(ctx, r, storage.Purge{Before: time.Now().Add(-keep), Executions: []string{name}})
			}
		}
	}
}

func (h Host) purge(ctx context.Context, r Retention, p storage.Purge) {
	if r.KeepKeys > 0 {
		p.KeysBefore = time.Now().Add(-r.KeepKeys)
	}
	for {
		n, err := h.Store.Purge(ctx, p)
		if err != nil && ctx.Err() == nil {
			h.Logger.WarnContext(ctx, "retention failed, it is tried again later", "error", err)
		}
		if n == 0 || err != nil {
			return
		}
	}
}
