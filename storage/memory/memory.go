// Package memory is the storage that keeps everything in the process: the
// default of the embedded mode, and the one for tests.
//
// It follows the contract of package storage except that it survives nothing
// and executes no SQL. It starts no goroutines and never blocks, so it works
// inside the bubbles of testing/synctest.
//
// Work that is not finished is indexed by shard, so the cost of a read or a
// write depends on neither history nor the number of sleeping executions.
package memory

import (
	"context"
	"sync"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// store is one in-memory database. mu guards everything below it and is never
// held while anything waits.
type store struct {
	mu     sync.Mutex
	closed bool
	stats  storage.Stats

	shards    map[crustertype.Shard]*shard
	messages  map[crustertype.RequestID]*message
	execs     map[crustertype.ExecutionRef]*execution
	schedules map[scheduleKey]*crustertype.Schedule
	messageBy map[string]*messageType
	execBy    map[string]*execType

	messageLog ordered[*message]   // all, by creation
	execLog    ordered[*execution] // all, by creation
	undo       []undo              // of the commit being applied; kept for its capacity

	lastInc crustertype.Incarnation
	runners map[crustertype.Incarnation]*storage.Runner
}

var _ storage.Store = (*store)(nil)

// New returns an empty store. It implements interface{ Stats() storage.Stats }
// too.
func New() storage.Store {
	return &store{
		shards:     make(map[crustertype.Shard]*shard),
		messages:   make(map[crustertype.RequestID]*message),
		execs:      make(map[crustertype.ExecutionRef]*execution),
		schedules:  make(map[scheduleKey]*crustertype.Schedule),
		messageBy:  make(map[string]*messageType),
		execBy:     make(map[string]*execType),
		messageLog: newOrdered(byMessageCreation),
		execLog:    newOrdered(byExecutionCreation),
		runners:    make(map[crustertype.Incarnation]*storage.Runner),
	}
}

// enter locks the store for a call, unless it is closed or ctx has ended.
func (s *store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return storage.ErrClosed
	}
	return nil
}

// Info describes the store.
func (s *store) Info() storage.Info { return storage.Info{Name: "memory"} }

// Stats counts commits and units. There are no statements.
func (s *store) Stats() storage.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close makes later calls fail and lets the content go.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.shards, s.messages, s.execs, s.schedules = nil, nil, nil, nil
	s.messageBy, s.execBy, s.runners, s.undo = nil, nil, nil, nil
	s.messageLog, s.execLog = ordered[*message]{}, ordered[*execution]{}
	return nil
}
