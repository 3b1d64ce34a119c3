package replay

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

const pageSize = 500

// Recover takes over the unfinished executions of shards that the runner has
// come to own. It returns when they are known to the engine; at most
// MaxResident of them run at a time, the rest stays in storage meanwhile. It
// waits for Run to begin.
func (e *Engine) Recover(ctx context.Context, shards []crustertype.Shard) error {
	select {
	case <-e.begun:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if _, err := e.ready(); err != nil {
		return err
	}
	e.mu.Lock()
	for _, s := range shards {
		e.shards[s] = true
		delete(e.closed, s)
	}
	e.mu.Unlock()
	return e.take(ctx, shards)
}

// take activates what is runnable or due in shards, as long as there is room.
func (e *Engine) take(ctx context.Context, shards []crustertype.Shard) error {
	var after storage.Cursor
	for {
		page, next, err := e.cfg.Store.Runnable(ctx, shards, after, pageSize)
		if err != nil {
			return err
		}
		for i := range page {
			if !e.activate(page[i].ExecutionRef, page[i].Shard, nil, false) {
				return nil
			}
		}
		if next == "" {
			break
		}
		after = next
	}
	q := storage.TimerQuery{Shards: shards, Until: time.Now(), Limit: pageSize}
	for {
		due, next, err := e.cfg.Store.Timers(ctx, q)
		if err != nil {
			return err
		}
		for _, t := range due {
			if t.Execution.Type != "" && !e.activate(t.Execution, t.Shard, nil, false) {
				return nil
			}
		}
		if next == "" {
			return nil
		}
		q.Cursor = next
	}
}

// nudgeFeeder makes the feeder look whether there is room for more runs.
func (e *Engine) nudgeFeeder() {
	select {
	case e.poke <- struct{}{}:
	default:
	}
}

// feedPause is how long the feeder waits for more room, so that it reads pages
// and not a row for each place that becomes free.
const feedPause = 20 * time.Millisecond

// feed brings runs into memory that had to stay in storage.
func (e *Engine) feed(ctx context.Context) {
	e.mu.Lock()
	room := e.cfg.MaxResident - len(e.slots) + e.waiting
	if e.closing != nil || !e.backlog || room <= 0 {
		e.mu.Unlock()
		return
	}
	if room < e.cfg.MaxResident/8 {
		e.mu.Unlock()
		t := time.NewTimer(feedPause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		e.mu.Lock()
	}
	e.backlog = false
	shards := slices.Collect(maps.Keys(e.shards))
	e.mu.Unlock()
	err := e.take(ctx, shards)
	if err == nil || errors.Is(err, crustertype.ErrNotStarted) || ctx.Err() != nil {
		return
	}
	e.cfg.Logger.Warn("executions cannot be read, trying again", "error", err)
	e.mu.Lock()
	e.backlog = true
	e.mu.Unlock()
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-t.C:
		e.nudgeFeeder()
	case <-ctx.Done():
	}
}

// Wake tells that an execution's timer is due, or that something happened to
// it. It may be called early, twice, and for any execution.
func (e *Engine) Wake(ref crustertype.ExecutionRef) {
	if shard, _, ok := e.owned(ref); ok {
		e.activate(ref, shard, nil, false)
	}
}

// Feed brings an execution into memory that was stored by somebody else. Unlike
// Wake it does nothing when it is there.
func (e *Engine) Feed(ref crustertype.ExecutionRef) {
	if !e.resident(ref) {
		e.Wake(ref)
	}
}

// Started tells that executions were committed by others than Start: sent from
// a handler, or in a transaction of the user's. results is what the commit
// returned for them.
func (e *Engine) Started(starts []crustertype.Execution, results []storage.StartResult) {
	for i := range starts {
		x := starts[i]
		if i < len(results) && results[i].Existing != nil {
			continue
		}
		if _, ok := e.cfg.Lease(x.Shard); !ok {
			e.cfg.Nudge(x.Shard, x.ExecutionRef)
			continue
		}
		e.activate(x.ExecutionRef, x.Shard, &x, false)
	}
}

// Drop forgets the executions of shards that the runner has lost: their runs
// end without writing anything, and whoever waits for them asks the new owner.
// It is called after the lease is gone, also when Release was called before:
// somebody may have begun to wait in between.
func (e *Engine) Drop(shards []crustertype.Shard) {
	e.end(shards, &exit{kind: exitDropped, err: crustertype.ErrNotOwner})
}

// Release ends the runs of shards that the runner is to give away, like Drain
// does, and waits until what they wrote is durable.
func (e *Engine) Release(ctx context.Context, shards []crustertype.Shard) error {
	for _, s := range e.end(shards, &exit{kind: exitDrained, err: crustertype.ErrNotOwner}) {
		select {
		case <-s.left():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// end stops the runs of shards and answers those who wait for executions there.
func (e *Engine) end(shards []crustertype.Shard, x *exit) []*slot {
	gone := make(map[crustertype.Shard]bool, len(shards))
	e.mu.Lock()
	for _, s := range shards {
		gone[s], e.closed[s] = true, true
		delete(e.shards, s)
	}
	var slots []*slot
	for _, s := range e.slots {
		if gone[s.shard] {
			slots = append(slots, s)
		}
	}
	var waiters []chan answer
	for ref, list := range e.waiters {
		if gone[e.shardOf(ref)] {
			waiters = append(waiters, list...)
			delete(e.waiters, ref)
		}
	}
	e.mu.Unlock()
	for _, s := range slots {
		s.stop(x)
	}
	for _, ch := range waiters {
		ch <- answer{err: x.err}
	}
	return slots
}

// Resident returns how many executions are in memory.
func (e *Engine) Resident() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.slots)
}
