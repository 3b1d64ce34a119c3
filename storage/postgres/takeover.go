package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// patience is how long a take-over waits for transactions of the old owner
// before it ends the sessions that hold it up. A transaction holds the lock
// from its fence to its COMMIT, which travel together: a millisecond, unless
// the owner was cut off between the two.
const patience = 200 * time.Millisecond

// TakeOver gives the shards of one incarnation to another. While it waits for
// the old owner's transactions it stays in the queue, so that no new one gets
// past it, and a second connection ends those that are stuck.
func (s *Store) TakeOver(ctx context.Context, t storage.TakeOver) ([]crustertype.Lease, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	shards, err := s.numbersOf(ctx, t.Shards)
	if err != nil || len(shards) == 0 {
		return nil, err
	}
	if t.From == 0 {
		if err := s.addShards(ctx, shards); err != nil {
			return nil, err
		}
	}
	select {
	case s.taker <- struct{}{}:
		defer func() { <-s.taker }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	rows, err := s.takeOver(ctx, t, shards)
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("postgres: take over %d shards of incarnation %d: %w", len(shards), t.From, err), true)
	}
	s.commits.Add(1)
	if fenced && t.From != 0 && len(rows) > 0 {
		s.endSessions(ctx, t.From)
	}
	return s.passed(ctx, rows, t.Shards, t.By)
}

func (s *Store) takeOver(ctx context.Context, t storage.TakeOver, shards []int32) ([]owned, error) {
	conn, err := s.control.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { s.endHolders(ctx, t.From, done) })
	defer watch.Wait()
	defer close(done)

	var rows []owned
	b := new(pgx.Batch)
	b.Queue(begin)
	b.Queue(s.q.LockOwner, s.lockSpace, int64(t.From))
	b.Queue(s.q.TakeOver, shards, int64(t.From), int64(t.By), t.LockRev).Query(appendPassed(&rows))
	b.Queue(commitTx).Exec(committed)
	s.statements.Add(1)
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		rollback(ctx, conn)
		return nil, err
	}
	return rows, nil
}

// endHolders ends the sessions that hold up a take-over, until done.
func (s *Store) endHolders(ctx context.Context, from crustertype.Incarnation, done <-chan struct{}) {
	tick := time.NewTicker(patience)
	defer tick.Stop()
	takers := []int32{} // other take-overs that had the lock at the last look
	for {
		select {
		case <-tick.C:
		case <-done:
			return
		case <-ctx.Done():
			return
		}
		s.statements.Add(1)
		rows, _ := s.control.Query(ctx, s.q.EndHolders, int64(s.lockSpace), int64(from), takers)
		takers = []int32{}
		var pid int32
		var stuck, ended bool
		_, err := pgx.ForEachRow(rows, []any{&pid, &stuck, &ended}, func() error {
			if !stuck {
				takers = append(takers, pid)
				return nil
			}
			s.opt.Logger.WarnContext(ctx, "ended a session that held up a take-over", "incarnation", int64(from), "pid", pid, "ended", ended)
			return nil
		})
		if err != nil && ctx.Err() == nil {
			s.opt.Logger.WarnContext(ctx, "a stuck owner's sessions cannot be ended, trying again: "+
				"all runners need the same database role, or pg_signal_backend", "incarnation", int64(from), "error", err)
		}
	}
}

// endSessions ends what else a dead incarnation has open: transactions that had
// not come to their fence, and hold locks on rows that the new owner will want.
// It touches no incarnation whose record lives, and no failure of it matters
// for correctness.
func (s *Store) endSessions(ctx context.Context, from crustertype.Incarnation) {
	s.statements.Add(1)
	rows, _ := s.control.Query(ctx, s.q.EndSessions, sessionOf(s.lockSpace, from), int64(from))
	var pid int32
	var ended bool
	_, err := pgx.ForEachRow(rows, []any{&pid, &ended}, func() error {
		s.opt.Logger.WarnContext(ctx, "ended a transaction of a dead runner", "incarnation", int64(from), "pid", pid, "ended", ended)
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.opt.Logger.WarnContext(ctx, "a dead runner's transactions cannot be ended: "+
			"all runners need the same database role, or pg_signal_backend", "incarnation", int64(from), "error", err)
	}
}
