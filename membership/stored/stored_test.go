package stored_test

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/membertest"
	"github.com/cruster-go/cruster/membership/stored"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

var quiet = &stored.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}

func TestContract(t *testing.T) {
	t.Parallel()
	membertest.RunVirtual(t, func(t *testing.T) *membertest.Service {
		store := memory.New()
		t.Cleanup(func() { store.Close() })
		return &membertest.Service{
			TTL: 10 * time.Second, Late: 300 * time.Millisecond,
			Node: func(*testing.T) *membertest.Node {
				l := &link{Ownership: store}
				return &membertest.Node{
					Backend: stored.New(l, quiet), Cut: l.cut, Heal: l.heal,
					Register: func(ctx context.Context, m membership.Member, ttl time.Duration) (crustertype.Incarnation, error) {
						return register(ctx, store, m, ttl)
					},
				}
			},
			Steal: func(ctx context.Context, shard crustertype.Shard) error {
				thief, err := store.Register(ctx, storage.Runner{}, time.Hour)
				if err != nil {
					return err
				}
				owners, err := store.Owners(ctx, []crustertype.Shard{shard})
				if err == nil {
					_, err = store.TakeOver(ctx, storage.TakeOver{By: thief, From: owners[0].Owner, Shards: []crustertype.Shard{shard}})
				}
				return err
			},
			Storage: engine{store},
		}
	})
}

func register(ctx context.Context, store storage.Ownership, m membership.Member, ttl time.Duration) (crustertype.Incarnation, error) {
	return store.Register(ctx, storage.Runner{Address: m.Address, Groups: m.Groups, Weight: m.Weight, Version: m.Version, Draining: m.Draining}, ttl)
}

// engine moves shards in storage as the engine does.
type engine struct{ store storage.Ownership }

func (e engine) Take(ctx context.Context, by crustertype.Incarnation, locks []membership.Lock) ([]crustertype.Shard, error) {
	var got []crustertype.Shard
	from := make(map[crustertype.Incarnation][]crustertype.Shard)
	for _, l := range locks {
		if l.From == by {
			got = append(got, l.Shard)
		} else {
			from[l.From] = append(from[l.From], l.Shard)
		}
	}
	for owner, shards := range from {
		leases, err := e.store.TakeOver(ctx, storage.TakeOver{By: by, From: owner, Shards: shards})
		if err != nil {
			return nil, err
		}
		for _, l := range leases {
			got = append(got, l.Shard)
		}
	}
	return got, nil
}

func (e engine) Give(ctx context.Context, from, to crustertype.Incarnation, shards []crustertype.Shard) error {
	owners, err := e.store.Owners(ctx, shards)
	if err != nil {
		return err
	}
	owners = slices.DeleteFunc(owners, func(l crustertype.Lease) bool { return l.Owner != from })
	_, err = e.store.HandOver(ctx, owners, to)
	return err
}

// link is a process's connection to the store. It counts, can go silent, and
// lets a test come between.
type link struct {
	storage.Ownership
	mu     sync.Mutex
	silent chan struct{} // closed when the silence ends; nil: none
	calls  map[string]int
	before func(ctx context.Context, call string) error
	after  func(call string) error
	shift  time.Duration // what the database's clock is ahead
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent == nil {
		l.silent = make(chan struct{})
	}
}

func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent != nil {
		close(l.silent)
		l.silent = nil
	}
}

func (l *link) count(call string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[call]
}

func (l *link) on(before func(context.Context, string) error, after func(string) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.after = before, after
}

func through[T any](ctx context.Context, l *link, call string, f func() (T, error)) (T, error) {
	var none T
	l.mu.Lock()
	if l.calls == nil {
		l.calls = make(map[string]int)
	}
	l.calls[call]++
	silent, before, after := l.silent, l.before, l.after
	l.mu.Unlock()
	if silent != nil {
		select {
		case <-silent:
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
	if before != nil {
		if err := before(ctx, call); err != nil {
			return none, err
		}
	}
	v, err := f()
	if after != nil {
		err = cmp.Or(err, after(call))
	}
	return v, err
}

func (l *link) Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
	_, err := through(ctx, l, "renew", func() (int, error) { return 0, l.Ownership.Renew(ctx, inc, draining, ttl) })
	return err
}

func (l *link) Unregister(ctx context.Context, inc crustertype.Incarnation) error {
	_, err := through(ctx, l, "unregister", func() (int, error) { return 0, l.Ownership.Unregister(ctx, inc) })
	return err
}

func (l *link) Runners(ctx context.Context) ([]storage.Runner, error) {
	rs, err := through(ctx, l, "runners", func() ([]storage.Runner, error) { return l.Ownership.Runners(ctx) })
	for i := range rs {
		rs[i].LeaseUntil = rs[i].LeaseUntil.Add(l.shift)
	}
	return rs, err
}

func (l *link) Owners(ctx context.Context, shards []crustertype.Shard) ([]crustertype.Lease, error) {
	return through(ctx, l, "owners", func() ([]crustertype.Lease, error) { return l.Ownership.Owners(ctx, shards) })
}
