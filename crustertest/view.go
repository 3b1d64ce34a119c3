package crustertest

import (
	"context"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// What follows implements [storage.Store] for mortal: every call goes through.

func (m *mortal) Message(ctx context.Context, id crustertype.RequestID) (crustertype.Message, error) {
	return through(ctx, m, func() (crustertype.Message, error) { return m.store.Message(ctx, id) })
}

func (m *mortal) Execution(ctx context.Context, ref crustertype.ExecutionRef) (crustertype.Execution, error) {
	return through(ctx, m, func() (crustertype.Execution, error) { return m.store.Execution(ctx, ref) })
}

func (m *mortal) Steps(ctx context.Context, ref crustertype.ExecutionRef, run int) ([]crustertype.Step, error) {
	return through(ctx, m, func() ([]crustertype.Step, error) { return m.store.Steps(ctx, ref, run) })
}

func (m *mortal) Pending(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
	return through(ctx, m, func() ([]crustertype.Message, error) { return m.store.Pending(ctx, q) })
}

func (m *mortal) Schedule(ctx context.Context, kind crustertype.ScheduleKind, name string) (crustertype.Schedule, error) {
	return through(ctx, m, func() (crustertype.Schedule, error) { return m.store.Schedule(ctx, kind, name) })
}

func (m *mortal) Schedules(ctx context.Context, kind crustertype.ScheduleKind) ([]crustertype.Schedule, error) {
	return through(ctx, m, func() ([]crustertype.Schedule, error) { return m.store.Schedules(ctx, kind) })
}

func (m *mortal) Register(ctx context.Context, r storage.Runner, ttl time.Duration) (crustertype.Incarnation, error) {
	return through(ctx, m, func() (crustertype.Incarnation, error) { return m.store.Register(ctx, r, ttl) })
}

func (m *mortal) Runners(ctx context.Context) ([]storage.Runner, error) {
	return through(ctx, m, func() ([]storage.Runner, error) { return m.store.Runners(ctx) })
}

func (m *mortal) Owners(ctx context.Context, shards []crustertype.Shard) ([]crustertype.Lease, error) {
	return through(ctx, m, func() ([]crustertype.Lease, error) { return m.store.Owners(ctx, shards) })
}

func (m *mortal) TakeOver(ctx context.Context, t storage.TakeOver) ([]crustertype.Lease, error) {
	return through(ctx, m, func() ([]crustertype.Lease, error) { return m.store.TakeOver(ctx, t) })
}

func (m *mortal) HandOver(ctx context.Context, leases []crustertype.Lease, to crustertype.Incarnation) ([]crustertype.Lease, error) {
	return through(ctx, m, func() ([]crustertype.Lease, error) { return m.store.HandOver(ctx, leases, to) })
}

func (m *mortal) Counts(ctx context.Context) (storage.Counts, error) {
	return through(ctx, m, func() (storage.Counts, error) { return m.store.Counts(ctx) })
}

func (m *mortal) RetryExecution(ctx context.Context, ref crustertype.ExecutionRef, at time.Time) (crustertype.Execution, error) {
	return through(ctx, m, func() (crustertype.Execution, error) { return m.store.RetryExecution(ctx, ref, at) })
}

func (m *mortal) Purge(ctx context.Context, p storage.Purge) (int, error) {
	return through(ctx, m, func() (int, error) { return m.store.Purge(ctx, p) })
}

func (m *mortal) Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
	return m.through(ctx, func() error { return m.store.Renew(ctx, inc, draining, ttl) })
}

func (m *mortal) Unregister(ctx context.Context, inc crustertype.Incarnation) error {
	return m.through(ctx, func() error { return m.store.Unregister(ctx, inc) })
}

func (m *mortal) RetryMessage(ctx context.Context, id crustertype.RequestID) error {
	return m.through(ctx, func() error { return m.store.RetryMessage(ctx, id) })
}

func (m *mortal) DiscardMessage(ctx context.Context, id crustertype.RequestID) error {
	return m.through(ctx, func() error { return m.store.DiscardMessage(ctx, id) })
}

func (m *mortal) Runnable(ctx context.Context, shards []crustertype.Shard, after storage.Cursor, limit int) (list []crustertype.Execution, next storage.Cursor, err error) {
	list, err = through(ctx, m, func() ([]crustertype.Execution, error) {
		list, next, err = m.store.Runnable(ctx, shards, after, limit)
		return list, err
	})
	return list, next, err
}

func (m *mortal) Timers(ctx context.Context, q storage.TimerQuery) (list []storage.Timer, next storage.Cursor, err error) {
	list, err = through(ctx, m, func() ([]storage.Timer, error) {
		list, next, err = m.store.Timers(ctx, q)
		return list, err
	})
	return list, next, err
}

func (m *mortal) Messages(ctx context.Context, f storage.MessageFilter) (list []crustertype.Message, next storage.Cursor, err error) {
	list, err = through(ctx, m, func() ([]crustertype.Message, error) {
		list, next, err = m.store.Messages(ctx, f)
		return list, err
	})
	return list, next, err
}

func (m *mortal) Executions(ctx context.Context, f storage.ExecutionFilter) (list []crustertype.Execution, next storage.Cursor, err error) {
	list, err = through(ctx, m, func() ([]crustertype.Execution, error) {
		list, next, err = m.store.Executions(ctx, f)
		return list, err
	})
	return list, next, err
}
