package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// RetryMessage makes a dead letter pending.
func (s *Store) RetryMessage(ctx context.Context, id crustertype.RequestID) error {
	return s.deadLetter(ctx, s.q.RetryMessage, id)
}

// DiscardMessage deletes a dead letter.
func (s *Store) DiscardMessage(ctx context.Context, id crustertype.RequestID) error {
	return s.deadLetter(ctx, s.q.DiscardMessage, id)
}

func (s *Store) deadLetter(ctx context.Context, sql string, id crustertype.RequestID) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.statements.Add(1)
	tag, err := s.engine.Exec(ctx, sql, id.String())
	if err != nil {
		return classify(ctx, fmt.Errorf("postgres: change dead letter %s: %w", id, err), true)
	}
	s.commits.Add(1)
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("postgres: no dead letter has ID %s: %w", id, storage.ErrNotFound)
	}
	return nil
}

// RetryExecution makes an execution running again.
func (s *Store) RetryExecution(ctx context.Context, ref crustertype.ExecutionRef, at time.Time) (crustertype.Execution, error) {
	e, err := one(read(ctx, s, "an execution", s.scanExecution, s.q.RetryExecution, ref.Type, ref.ID, stamp(at)))
	if err == nil {
		s.commits.Add(1)
		return e, nil
	}
	if err != storage.ErrNotFound { //nolint:errorlint // one's own value: no row was changed
		return e, err
	}
	type state struct {
		status int16
		purged bool
	}
	st, err := one(read(ctx, s, "an execution", func(rows pgx.Rows, v *state) error { return rows.Scan(&v.status, &v.purged) },
		s.q.ExecutionStatus, ref.Type, ref.ID))
	switch {
	case err != nil && err != storage.ErrNotFound: //nolint:errorlint // as above
		return e, err
	case err != nil, st.purged:
		return e, fmt.Errorf("postgres: execution %s does not exist any more or never did: %w", ref, storage.ErrNotFound)
	}
	return e, fmt.Errorf("postgres: execution %s is %s: only failed, cancelled, terminated, parked and dead ones are retried: %w",
		ref, crustertype.Status(st.status), storage.ErrConflict)
}

// Purge removes finished items, in one transaction.
func (s *Store) Purge(ctx context.Context, p storage.Purge) (int, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	n := 0
	err = pgx.BeginTxFunc(ctx, s.engine, txOptions, func(tx pgx.Tx) error {
		n, err = s.purge(ctx, tx, p)
		return err
	})
	if err != nil {
		return 0, classify(ctx, fmt.Errorf("postgres: purge: %w", err), true)
	}
	s.commits.Add(1)
	return n, nil
}

func (s *Store) purge(ctx context.Context, tx pgx.Tx, p storage.Purge) (int, error) {
	limit := limitOf(p.Limit)
	// What one batch removes are few rows of many, whatever statistics say.
	if _, err := tx.Exec(ctx, s.q.ByIndex); err != nil {
		return 0, err
	}
	s.statements.Add(1)
	tag, err := tx.Exec(ctx, s.q.PurgeRunners, int64(limit))
	if err != nil {
		return 0, err
	}
	n := int(tag.RowsAffected())
	for _, sort := range []struct {
		types        []string
		all          string // finds all types
		items, tombs string
	}{
		{p.Messages, s.q.MessageTypes, s.q.PurgeMessages, s.q.PurgeMessageKeys},
		{p.Executions, s.q.ExecutionTypes, s.q.PurgeExecutions, s.q.PurgeExecutionKeys},
	} {
		types := sort.types
		if len(types) == 1 && types[0] == storage.AllTypes[0] {
			types, err = query(ctx, s, tx, func(rows pgx.Rows, name *string) error { return rows.Scan(name) }, sort.all)
			if err != nil {
				return 0, err
			}
		}
		if len(types) == 0 {
			continue
		}
		for _, step := range []struct {
			sql    string
			before time.Time
		}{{sort.items, p.Before}, {sort.tombs, p.KeysBefore}} {
			if n >= limit || step.before.IsZero() {
				continue
			}
			var removed int
			s.statements.Add(1)
			if err := tx.QueryRow(ctx, step.sql, s.planned([]any{types, stamp(step.before), int64(limit - n)})...).Scan(&removed); err != nil {
				return 0, err
			}
			n += removed
		}
	}
	return n, nil
}
