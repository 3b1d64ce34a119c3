package main

import (
	"context"
	"time"

	"github.com/cruster-go/cruster"
)

// docs:begin watcher

// Watcher counts reminders that are due and not delivered, in one process at a
// time. Each time that a process has the task is a row of the table watch.
type Watcher struct {
	db      *database
	process string
	every   time.Duration
}

// Run watches until the process stops or the task moves. It asks for
// Cancellation, so its context still works when it says goodbye.
func (w *Watcher) Run(ctx cruster.SingletonContext) error {
	stop := ctx.Cancellation()
	watch, err := w.begin(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			err := w.db.exec(ctx, `UPDATE watch SET looked = `+w.db.clock+`, late = (SELECT count(*) FROM reminder r
				WHERE r.due < `+w.db.clock+` - 1000000 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.reminder = r.id)) WHERE id = $1`, watch)
			if err != nil {
				return err
			}
		case <-stop:
			return w.db.exec(ctx, `UPDATE watch SET ended = `+w.db.clock+` WHERE id = $1`, watch)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// docs:end watcher

func (w *Watcher) begin(ctx context.Context) (watch int64, err error) {
	err = w.db.insert(ctx, &watch, `INSERT INTO watch (process, began, looked, late) VALUES ($1, `+w.db.clock+`, `+w.db.clock+`, 0) RETURNING id`, w.process)
	return watch, err
}
