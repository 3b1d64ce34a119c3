package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/cruster-go/cruster/crustertype"
)

// groupCache knows the numbers of shard groups. They never change, so what was
// read once is right for ever.
type groupCache struct {
	mu     sync.RWMutex
	byName map[string]int32
	byID   map[int32]string
}

// errUnknownGroup reports a shard number whose group was made by another
// process since the groups were last read.
var errUnknownGroup = errors.New("postgres: unknown shard group")

const (
	maxShards = 1 << 16
	maxGroups = 1<<15 - 1
)

// numberOf returns the number of a shard, making its group known to the
// database if it is new.
func (s *Store) numberOf(ctx context.Context, shard crustertype.Shard) (int32, error) {
	if shard.Index < 0 || shard.Index >= maxShards {
		return 0, invalid("postgres: shard index %d is out of range: 0 to %d are allowed", shard.Index, maxShards-1)
	}
	id, ok := s.groups.id(shard.Group)
	if !ok {
		if err := s.loadGroups(ctx); err != nil {
			return 0, err
		}
		if id, ok = s.groups.id(shard.Group); !ok {
			var err error
			if id, err = s.addGroup(ctx, shard.Group); err != nil {
				return 0, err
			}
		}
	}
	return id<<16 | int32(shard.Index), nil
}

// numbersOf returns sorted numbers without duplicates; nil for nil.
func (s *Store) numbersOf(ctx context.Context, shards []crustertype.Shard) ([]int32, error) {
	if shards == nil {
		return nil, nil
	}
	out := make([]int32, len(shards))
	for i, shard := range shards {
		n, err := s.numberOf(ctx, shard)
		if err != nil {
			return nil, err
		}
		out[i] = n
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// cachedShard is the inverse of numberOf, without asking the database.
func (s *Store) cachedShard(n int32) (crustertype.Shard, error) {
	s.groups.mu.RLock()
	defer s.groups.mu.RUnlock()
	name, ok := s.groups.byID[n>>16]
	if !ok {
		return crustertype.Shard{}, errUnknownGroup
	}
	return crustertype.Shard{Group: name, Index: int(n & (maxShards - 1))}, nil
}

// shardOf is the inverse of numberOf.
func (s *Store) shardOf(ctx context.Context, n int32) (crustertype.Shard, error) {
	shard, err := s.cachedShard(n)
	if errors.Is(err, errUnknownGroup) {
		if err := s.loadGroups(ctx); err != nil {
			return shard, err
		}
		shard, err = s.cachedShard(n)
	}
	return shard, err
}

func (c *groupCache) id(name string) (int32, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	id, ok := c.byName[name]
	return id, ok
}

func (c *groupCache) size() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.byName)
}

func (s *Store) loadGroups(ctx context.Context) error {
	rows, _ := s.control.Query(ctx, s.q.Groups)
	byName, byID := make(map[string]int32), make(map[int32]string)
	var id int32
	var name string
	_, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		byName[name], byID[id] = id, name
		return nil
	})
	if err != nil {
		return classify(ctx, fmt.Errorf("postgres: read shard groups: %w", err), false)
	}
	s.groups.mu.Lock()
	defer s.groups.mu.Unlock()
	if len(byName) >= len(s.groups.byName) { // groups are never removed: the larger set is the newer one
		s.groups.byName, s.groups.byID = byName, byID
	}
	return nil
}

// addGroup makes a group. When another process makes one at the same time, one
// of the two finds its number taken and tries again.
func (s *Store) addGroup(ctx context.Context, name string) (int32, error) {
	for {
		if s.groups.size() >= maxGroups {
			return 0, invalid("postgres: shard group %q is one too many: %d are allowed", name, maxGroups)
		}
		if _, err := s.control.Exec(ctx, s.q.GroupAdd, name); err != nil {
			return 0, classify(ctx, fmt.Errorf("postgres: make shard group %q: %w", name, err), false)
		}
		if err := s.loadGroups(ctx); err != nil {
			return 0, err
		}
		if id, ok := s.groups.id(name); ok {
			return id, nil
		}
	}
}
