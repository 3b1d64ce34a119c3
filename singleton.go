package cruster

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

// Singleton is a task that runs on one runner at a time.
type Singleton struct {
	// Name identifies the task in the cluster.
	Name string
	// Run does the work until its context ends. When it returns an error or
	// panics, it is started again after a pause that doubles with each failure;
	// when it returns nil, it is done for this ownership.
	Run func(SingletonContext) error
	// ShardGroup places the task. Default: the default group.
	ShardGroup string
}

// SingletonContext is the context of a singleton. It ends when the runner stops
// or loses the task.
type SingletonContext struct {
	context.Context
	st *singletonState
}

type singletonState struct {
	mu       sync.Mutex
	graceful bool
	stop     chan struct{}
}

// Cancellation returns a channel that is closed when the task is to stop, and
// opts in to a graceful stop: from then on the context itself ends only when
// the budget of Shutdown is used up. Without it, the context ends at once.
func (c SingletonContext) Cancellation() <-chan struct{} {
	c.st.mu.Lock()
	defer c.st.mu.Unlock()
	c.st.graceful = true
	return c.st.stop
}

// RegisterSingleton registers a task that runs once in the cluster, on the
// runner that owns its shard.
func RegisterSingleton(s *Service, sg Singleton) error {
	if err := crustertype.CheckName("singleton name", sg.Name); err != nil {
		return invalid("%w", err)
	}
	if sg.Run == nil {
		return invalid("singleton %q: Run is nil", sg.Name)
	}
	if sg.ShardGroup == "" {
		sg.ShardGroup = crustertype.DefaultShardGroup
	}
	if sg.ShardGroup != crustertype.DefaultShardGroup {
		if err := crustertype.CheckName("shard group", sg.ShardGroup); err != nil {
			return invalid("singleton %q: %w", sg.Name, err)
		}
	}
	if err := s.reserve("singleton", sg.Name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.HostGroup(sg.ShardGroup)
	s.singletons = append(s.singletons, &singleton{Singleton: sg, svc: s})
	return nil
}

type singleton struct {
	Singleton
	svc *Service
	row crustertype.Schedule
}

// loop runs the task while the service serves. kill ends at the end of the
// shutdown, when even graceful tasks are out of time.
func (g *singleton) loop(kill context.Context) {
	s := g.svc
	policy := scheduler.Policy{Kind: scheduler.Exponential, Initial: s.cfg.SingletonBackoff, Max: max(time.Minute, s.cfg.SingletonBackoff), Jitter: 0.2}
	life := s.run.Lifetime()
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
		s.cfg.Logger.Warn("singleton failed, it is started again", "singleton", g.Name, "failures", failures, "pause", pause, "error", err)
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

func (g *singleton) once(kill, life context.Context) (err error) {
	st := &singletonState{stop: make(chan struct{})}
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
	defer func() {
		if p := recover(); p != nil {
			err = invoke.PanicError(p)
		}
	}()
	return g.Run(SingletonContext{Context: ctx, st: st})
}

// record keeps the task's state in storage for people. That it fails does not
// keep the task from running.
func (g *singleton) record(ctx context.Context, failure error, since time.Time) {
	s := g.svc
	lease, ok := s.run.Lease(s.run.ShardOf(g.ShardGroup, g.Name))
	if !ok {
		return
	}
	row := g.row
	if row.Version == 0 {
		have, err := s.cfg.Storage.Schedule(ctx, crustertype.ScheduleSingleton, g.Name)
		if err == nil {
			row = have
		} else if !errors.Is(err, storage.ErrNotFound) {
			s.cfg.Logger.Warn("singleton state cannot be read", "singleton", g.Name, "error", err)
			return
		}
	}
	row.Kind, row.Name, row.Shard = crustertype.ScheduleSingleton, g.Name, lease.Shard
	row.Holder, row.Since, row.LastTick, row.UpdatedAt = s.run.Incarnation(), since, since, time.Now()
	row.Version++
	if failure != nil {
		row.Restarts++
		row.LastError = failure.Error()
	}
	if _, err := s.run.Commit.Do(ctx, storage.Unit{Leases: []crustertype.Lease{lease}, Schedules: []crustertype.Schedule{row}}); err != nil {
		if ctx.Err() == nil {
			s.cfg.Logger.Warn("singleton state is not recorded", "singleton", g.Name, "error", err)
		}
		return
	}
	g.row = row
}
