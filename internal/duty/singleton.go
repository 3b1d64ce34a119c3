package duty

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/scheduler"
	"github.com/cruster-go/cruster/storage"
)

// Singleton is a task that runs on the owner of its shard.
type Singleton struct {
	h           Host
	name, group string
	backoff     time.Duration
	run         func(context.Context, *Stop) error
	row         crustertype.Schedule
}

// NewSingleton returns a singleton; run Loop.
func NewSingleton(h Host, name, group string, backoff time.Duration, run func(context.Context, *Stop) error) *Singleton {
	return &Singleton{h: h, name: name, group: group, backoff: backoff, run: run}
}

// Stop tells a task that it is to end.
type Stop struct {
	mu       sync.Mutex
	graceful bool
	stop     chan struct{}
}

// Requested returns a channel that is closed when the task is to end. Who asks
// for it ends by itself: its context then lasts as long as the shutdown does.
func (s *Stop) Requested() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.graceful = true
	return s.stop
}

// Shard returns the shard whose owner runs the task.
func (g *Singleton) Shard() crustertype.Shard { return g.h.Run.ShardOf(g.group, g.name) }

// Loop runs the task while the runner owns its shard. kill ends when even
// graceful tasks are out of time.
func (g *Singleton) Loop(life, kill context.Context) {
	g.row = crustertype.Schedule{} // others may have had the task meanwhile
	policy := scheduler.Policy{Kind: scheduler.Exponential, Initial: g.backoff, Max: max(time.Minute, g.backoff), Jitter: 0.2}
	failures := 0
	for life.Err() == nil {
		begin := time.Now()
		g.record(kill, nil, begin)
		err := g.once(kill, life)
		if life.Err() != nil {
			return
		}
		if err == nil {
			return
		}
		if time.Since(begin) > policy.Max {
			failures = 0
		}
		failures++
		pause := policy.Delay(failures, rand.Float64)
		g.h.Logger.Warn("singleton failed, it is started again", "singleton", g.name, "failures", failures, "pause", pause, "error", err)
		g.record(kill, err, begin)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-life.Done():
			t.Stop()
			return
		}
	}
}

// once runs the task to its end, on a goroutine of its own: it may end that.
func (g *Singleton) once(kill, life context.Context) error {
	st := &Stop{stop: make(chan struct{})}
	ctx, cancel := context.WithCancelCause(kill)
	defer cancel(context.Canceled)
	unhook := context.AfterFunc(life, func() {
		st.mu.Lock()
		graceful := st.graceful
		close(st.stop)
		st.mu.Unlock()
		if !graceful {
			cancel(context.Cause(life))
		}
	})
	defer unhook()
	done := make(chan error, 1)
	go func() {
		err := error(crustertype.Errorf(crustertype.CodePanic, "the task called runtime.Goexit"))
		defer func() {
			if p := recover(); p != nil {
				err = invoke.PanicError(p)
			}
			done <- err
		}()
		err = g.run(ctx, st)
	}()
	return <-done
}

// record keeps the task's state in storage for people. That it fails does not
// keep the task from running.
func (g *Singleton) record(ctx context.Context, failure error, since time.Time) {
	lease, ok := g.h.Run.Lease(g.h.Run.ShardOf(g.group, g.name))
	if !ok {
		return
	}
	row := g.row
	if row.Version == 0 {
		have, err := g.h.Store.Schedule(ctx, crustertype.ScheduleSingleton, g.name)
		if err == nil {
			row = have
		} else if !errors.Is(err, storage.ErrNotFound) {
			g.h.Logger.Warn("singleton state cannot be read", "singleton", g.name, "error", err)
			return
		}
	}
	row.Kind, row.Name, row.Shard = crustertype.ScheduleSingleton, g.name, lease.Shard
	row.Holder, row.Since, row.LastTick, row.UpdatedAt = g.h.Run.Incarnation(), since, since, time.Now()
	row.Version++
	if failure != nil {
		row.Restarts++
		row.LastError = failure.Error()
	}
	if _, err := g.h.Run.Commit.Do(ctx, storage.Unit{Leases: []crustertype.Lease{lease}, Schedules: []crustertype.Schedule{row}}); err != nil {
		g.row = crustertype.Schedule{} // somebody else may have written it: read it again
		if ctx.Err() == nil {
			g.h.Logger.Warn("singleton state is not recorded", "singleton", g.name, "error", err)
		}
		return
	}
	g.row = row
}
