package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// query reads all rows of a statement. A row of a shard group that is not known
// yet makes it read the groups and start again.
func query[T any](ctx context.Context, s *Store, db querier, scan func(pgx.Rows, *T) error, sql string, args ...any) ([]T, error) {
	out, err := queryOnce(ctx, s, db, scan, sql, args...)
	if errors.Is(err, errUnknownGroup) {
		if err := s.loadGroups(ctx); err != nil {
			return nil, err
		}
		out, err = queryOnce(ctx, s, db, scan, sql, args...)
	}
	if err != nil {
		return nil, classify(ctx, err, false)
	}
	return out, nil
}

func queryOnce[T any](ctx context.Context, s *Store, db querier, scan func(pgx.Rows, *T) error, sql string, args ...any) ([]T, error) {
	s.statements.Add(1)
	rows, err := db.Query(ctx, sql, s.planned(args)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		var v T
		if err := scan(rows, &v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// planned makes a read be planned at each execution. A plan that was cached
// while the tables were empty scans them when they have grown.
func (s *Store) planned(args []any) []any {
	if !s.caches {
		return args
	}
	return append([]any{pgx.QueryExecModeCacheDescribe}, args...)
}

// read is a call that reads rows on an engine connection.
func read[T any](ctx context.Context, s *Store, what string, scan func(pgx.Rows, *T) error, sql string, args ...any) ([]T, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	out, err := query(ctx, s, s.engine, scan, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("postgres: read %s: %w", what, err)
	}
	return out, nil
}

// one returns the only row of a read.
func one[T any](rows []T, err error) (T, error) {
	var zero T
	if err != nil {
		return zero, err
	}
	if len(rows) == 0 {
		return zero, storage.ErrNotFound
	}
	return rows[0], nil
}

// Message returns one message.
func (s *Store) Message(ctx context.Context, id crustertype.RequestID) (crustertype.Message, error) {
	return one(read(ctx, s, "a message", s.scanMessage, s.q.Message, id.String()))
}

// Execution returns one execution.
func (s *Store) Execution(ctx context.Context, ref crustertype.ExecutionRef) (crustertype.Execution, error) {
	return one(read(ctx, s, "an execution", s.scanExecution, s.q.Execution, ref.Type, ref.ID))
}

// Steps returns the journal of one run.
func (s *Store) Steps(ctx context.Context, ref crustertype.ExecutionRef, run int) ([]crustertype.Step, error) {
	n, err := narrow("run", run)
	if err != nil {
		return nil, invalid("postgres: %w", err)
	}
	return read(ctx, s, "a journal", scanStep, s.q.Steps, ref.Type, ref.ID, n)
}

// fewShards is up to how many shards are read one by one. With more, walking
// through the work of all shards in order costs less.
const fewShards = 8

// lastRequest sorts behind every ID.
const lastRequest = "ffffffff-ffff-ffff-ffff-ffffffffffff"

// Pending returns messages to be delivered.
func (s *Store) Pending(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	shards, err := s.numbersOf(ctx, q.Shards)
	if err != nil {
		return nil, err
	}
	afterSeq, afterID, upTo := q.AfterSeq, q.AfterID.String(), int64(math.MaxInt64)
	switch {
	case q.Unadopted:
		afterSeq, afterID, upTo = -1, lastRequest, 0
	case afterSeq <= 0:
		afterSeq, afterID = 0, lastRequest
	}
	sql := s.q.PendingMany
	if shards != nil && len(shards) <= fewShards {
		sql = s.q.PendingFew
	}
	out, err := query(ctx, s, s.engine, s.scanMessage, sql, shards, afterSeq, afterID, upTo, stamp(q.Now),
		q.Address.Type, q.Address.ID, int64(limitOf(q.Limit)))
	if err != nil {
		return nil, fmt.Errorf("postgres: read pending messages: %w", err)
	}
	return out, nil
}

// Runnable returns executions to be run.
func (s *Store) Runnable(ctx context.Context, shards []crustertype.Shard, after storage.Cursor, limit int) ([]crustertype.Execution, storage.Cursor, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, "", err
	}
	defer leave()
	at := position{at: beginning}
	if after != "" {
		if at, err = parseCursor(after); err != nil {
			return nil, "", err
		}
	}
	numbers, err := s.numbersOf(ctx, shards)
	if err != nil {
		return nil, "", err
	}
	limit = limitOf(limit)
	out, err := query(ctx, s, s.engine, s.scanExecution, s.q.Runnable, at.at, at.ref.Type, at.ref.ID, numbers, int64(limit)+1)
	if err != nil {
		return nil, "", fmt.Errorf("postgres: read runnable executions: %w", err)
	}
	if len(out) <= limit {
		return out, "", nil
	}
	out = out[:limit]
	last := &out[limit-1]
	return out, position{at: last.CreatedAt, ref: last.ExecutionRef}.cursor(), nil
}

// Timers returns what becomes due.
func (s *Store) Timers(ctx context.Context, q storage.TimerQuery) ([]storage.Timer, storage.Cursor, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, "", err
	}
	defer leave()
	shards, err := s.numbersOf(ctx, q.Shards)
	if err != nil {
		return nil, "", err
	}
	// At one time executions come first. Nothing sorts before an empty name or
	// the zero ID, so the next microsecond with those is just behind a time.
	executions := position{at: stamp(q.After).Add(time.Microsecond)}
	messages := executions
	if q.Cursor != "" {
		at, err := parseCursor(q.Cursor)
		if err != nil {
			return nil, "", err
		}
		executions, messages = at, at
		if at.ref == (crustertype.ExecutionRef{}) {
			executions = position{at: at.at.Add(time.Microsecond)}
		} else {
			messages = position{at: at.at}
		}
	}
	limit := limitOf(q.Limit)
	out, err := query(ctx, s, s.engine, s.scanTimer, s.q.Timers, shards, stamp(q.Until), executions.at, executions.ref.Type,
		executions.ref.ID, messages.at, messages.id.String(), int64(limit)+1)
	if err != nil {
		return nil, "", fmt.Errorf("postgres: read timers: %w", err)
	}
	if len(out) <= limit {
		return out, "", nil
	}
	out = out[:limit]
	last := &out[limit-1]
	return out, position{at: last.At, id: last.Message, ref: last.Execution}.cursor(), nil
}

func (s *Store) scanTimer(rows pgx.Rows, t *storage.Timer) error {
	var (
		shard int32
		id    *string
	)
	if err := rows.Scan(&t.At, &shard, &id, &t.Execution.Type, &t.Execution.ID); err != nil {
		return err
	}
	t.At = t.At.UTC()
	var err error
	if id != nil {
		if t.Message, err = crustertype.ParseRequestID(*id); err != nil {
			return err
		}
	}
	t.Shard, err = s.cachedShard(shard)
	return err
}

// Schedule returns one schedule.
func (s *Store) Schedule(ctx context.Context, kind crustertype.ScheduleKind, name string) (crustertype.Schedule, error) {
	return one(read(ctx, s, "a schedule", s.scanSchedule, s.q.ScheduleOne, int16(kind), name))
}

// Schedules returns all schedules of a kind.
func (s *Store) Schedules(ctx context.Context, kind crustertype.ScheduleKind) ([]crustertype.Schedule, error) {
	return read(ctx, s, "schedules", s.scanSchedule, s.q.ScheduleAll, int16(kind))
}
