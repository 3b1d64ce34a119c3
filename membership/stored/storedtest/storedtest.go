// Package storedtest helps to test a membership that is kept in storage: a
// connection that can go silent, and the engine's part of moving shards.
package storedtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/storage"
)

// Engine moves shards in storage as the engine does.
type Engine struct{ Store storage.Ownership }

// Take takes over the shards of locks that were granted, and returns those that
// it got or owns already.
func (e Engine) Take(ctx context.Context, by crustertype.Incarnation, locks []membership.Lock) ([]crustertype.Shard, error) {
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
		leases, err := e.Store.TakeOver(ctx, storage.TakeOver{By: by, From: owner, Shards: shards})
		if err != nil {
			return nil, err
		}
		for _, l := range leases {
			got = append(got, l.Shard)
		}
	}
	return got, nil
}

// Give hands shards over.
func (e Engine) Give(ctx context.Context, from, to crustertype.Incarnation, shards []crustertype.Shard) error {
	owners, err := e.Store.Owners(ctx, shards)
	if err != nil {
		return err
	}
	owners = slices.DeleteFunc(owners, func(l crustertype.Lease) bool { return l.Owner != from })
	_, err = e.Store.HandOver(ctx, owners, to)
	return err
}

// Steal takes a shard from whoever owns it.
func (e Engine) Steal(ctx context.Context, shard crustertype.Shard) error {
	thief, err := e.Store.Register(ctx, storage.Runner{}, time.Hour)
	if err != nil {
		return err
	}
	owners, err := e.Store.Owners(ctx, []crustertype.Shard{shard})
	if err != nil {
		return err
	}
	leases, err := e.Store.TakeOver(ctx, storage.TakeOver{By: thief, From: owners[0].Owner, Shards: []crustertype.Shard{shard}})
	if err == nil && len(leases) != 1 {
		err = fmt.Errorf("%v was not taken over", shard)
	}
	return err
}

// Register issues an incarnation for m.
func (e Engine) Register(ctx context.Context, m membership.Member, ttl time.Duration) (crustertype.Incarnation, error) {
	return e.Store.Register(ctx, storage.Runner{
		Address: m.Address, Groups: m.Groups, Weight: m.Weight, Version: m.Version, Draining: m.Draining,
	}, ttl)
}

// Link is a process's connection to the store. It counts, can go silent, and
// lets a test come between.
type Link struct {
	storage.Ownership
	// Shift is by how much the database's clock is ahead.
	Shift time.Duration

	mu     sync.Mutex
	silent chan struct{} // closed when the silence ends; nil: none
	calls  map[string]int
	before func(ctx context.Context, call string) error
	after  func(call string) error
}

var _ storage.Ownership = (*Link)(nil)

// Cut makes calls hang until their contexts end, or until Heal.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent == nil {
		l.silent = make(chan struct{})
	}
}

// Heal ends the silence.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent != nil {
		close(l.silent)
		l.silent = nil
	}
}

// Count returns how often a method was called: "Renew", "Runners", "Owners" or
// "Unregister".
func (l *Link) Count(call string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[call]
}

// On has before called ahead of each call, and after when it is done. An error
// of before keeps the call from the store; one of after loses its answer. nil
// means none.
func (l *Link) On(before func(context.Context, string) error, after func(string) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.after = before, after
}

func through[T any](ctx context.Context, l *Link, call string, f func() (T, error)) (T, error) {
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

// Renew is that of the store.
func (l *Link) Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
	_, err := through(ctx, l, "Renew", func() (int, error) { return 0, l.Ownership.Renew(ctx, inc, draining, ttl) })
	return err
}

// Unregister is that of the store.
func (l *Link) Unregister(ctx context.Context, inc crustertype.Incarnation) error {
	_, err := through(ctx, l, "Unregister", func() (int, error) { return 0, l.Ownership.Unregister(ctx, inc) })
	return err
}

// Runners is that of the store.
func (l *Link) Runners(ctx context.Context) ([]storage.Runner, error) {
	rs, err := through(ctx, l, "Runners", func() ([]storage.Runner, error) { return l.Ownership.Runners(ctx) })
	for i := range rs {
		rs[i].LeaseUntil = rs[i].LeaseUntil.Add(l.Shift)
	}
	return rs, err
}

// Owners is that of the store.
func (l *Link) Owners(ctx context.Context, shards []crustertype.Shard) ([]crustertype.Lease, error) {
	return through(ctx, l, "Owners", func() ([]crustertype.Lease, error) { return l.Ownership.Owners(ctx, shards) })
}
