package cruster

import (
	"context"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/duty"
	"github.com/cruster-go/cruster/internal/runner"
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
	stop *duty.Stop
}

// Cancellation returns a channel that is closed when the task is to stop, and
// opts in to a graceful stop: from then on the context itself ends only when
// the budget of Shutdown is used up. Without it, the context ends at once.
func (c SingletonContext) Cancellation() <-chan struct{} { return c.stop.Requested() }

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
	task := duty.NewSingleton(s.dutyHost(), sg.Name, sg.ShardGroup, s.cfg.SingletonBackoff, func(ctx context.Context, stop *duty.Stop) error {
		return sg.Run(SingletonContext{Context: ctx, stop: stop})
	})
	s.run.AddDuty(runner.Duty{Shard: task.Shard(), Run: task.Loop})
	return nil
}

func (s *Service) dutyHost() duty.Host {
	return duty.Host{Run: s.run, Store: s.cfg.Storage, Logger: s.cfg.Logger, Codec: s.cfg.Codec.Name(), Capacity: s.cfg.MailboxCapacity, Started: s.workflows.Started}
}
