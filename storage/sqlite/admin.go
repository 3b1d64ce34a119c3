package sqlite

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// purgeSteps bounds the journal rows that one purge deletes.
const purgeSteps = 20_000

// smallOnly is an outcome that a tombstone keeps.
const smallOnly = `CASE WHEN length(outcome) <= 1024 THEN outcome END`

const (
	retryMessage = `UPDATE cruster_message SET state = 1, seq = 0, attempts = 0, outcome = NULL, finished_at = NULL
	WHERE id = ? AND state = 3`
	discardMessage = `DELETE FROM cruster_message WHERE id = ? AND state = 3`
	retryState     = `SELECT num, status, tomb FROM cruster_execution WHERE type = ? AND id = ?`
	retryRun       = `UPDATE cruster_execution SET status = 1, attempts = 0, wake_at = NULL, waiting_for = '', outcome = NULL,
	updated_at = ?, finished_at = NULL WHERE num = ?`
	nextRun = `UPDATE cruster_execution SET run = run + 1, cancel_reason = '', cancel_at = NULL, cancel_seen = 0 WHERE num = ?`

	deadRunners = `DELETE FROM cruster_runner WHERE incarnation IN
	(SELECT incarnation FROM cruster_runner WHERE lease_until <= ? LIMIT ?)`
	deleteMessage   = `DELETE FROM cruster_message WHERE num = ?`
	entombMessage   = `UPDATE cruster_message SET tomb = 1, payload = NULL, meta = NULL, outcome = ` + smallOnly + ` WHERE num = ?`
	deleteSteps     = `DELETE FROM cruster_step WHERE execution = ?`
	deleteExecution = `DELETE FROM cruster_execution WHERE num = ?`
	entombExecution = `UPDATE cruster_execution SET tomb = 1, input = NULL, meta = NULL, outcome = ` + smallOnly + ` WHERE num = ?`
)

func noDeadLetter(n int64, id crustertype.RequestID) error {
	if n > 0 {
		return nil
	}
	return fmt.Errorf("no dead letter has ID %s: %w", id, storage.ErrNotFound)
}

// RetryMessage makes a dead letter pending.
func (s *Store) RetryMessage(ctx context.Context, id crustertype.RequestID) error {
	return s.change(ctx, func(ctx context.Context, c *conn) error {
		n, err := c.exec(ctx, retryMessage, id[:])
		if err != nil {
			return err
		}
		return noDeadLetter(n, id)
	})
}

// DiscardMessage deletes a dead letter.
func (s *Store) DiscardMessage(ctx context.Context, id crustertype.RequestID) error {
	return s.change(ctx, func(ctx context.Context, c *conn) error {
		n, err := c.exec(ctx, discardMessage, id[:])
		if err != nil {
			return err
		}
		return noDeadLetter(n, id)
	})
}

// RetryExecution makes an execution running again.
func (s *Store) RetryExecution(ctx context.Context, ref crustertype.ExecutionRef, at time.Time) (e crustertype.Execution, err error) {
	err = s.change(ctx, func(ctx context.Context, c *conn) error {
		var num int64
		var status crustertype.Status
		tomb := true
		if err := c.query(ctx, retryState, func(r *row) error {
			num, status, tomb = r.int64(), crustertype.Status(r.int64()), r.bool()
			return nil
		}, ref.Type, ref.ID); err != nil {
			return err
		}
		next := false
		switch {
		case tomb:
			return fmt.Errorf("execution %s does not exist any more or never did: %w", ref, storage.ErrNotFound)
		case status == crustertype.StatusFailed, status == crustertype.StatusCancelled, status == crustertype.StatusTerminated:
			next = true
		case status != crustertype.StatusParked && status != crustertype.StatusDead:
			return fmt.Errorf("execution %s is %s: only failed, cancelled, terminated, parked and dead ones are retried: %w",
				ref, status, storage.ErrConflict)
		}
		if _, err := c.exec(ctx, retryRun, micros(at), num); err != nil {
			return err
		}
		if next {
			if _, err := c.exec(ctx, nextRun, num); err != nil {
				return err
			}
		}
		return c.query(ctx, selectExecution, func(r *row) error { e = readExecution(r); return nil }, ref.Type, ref.ID)
	})
	if err != nil {
		return crustertype.Execution{}, err
	}
	return e, nil
}

// Purge removes finished items.
func (s *Store) Purge(ctx context.Context, p storage.Purge) (int, error) {
	var total int
	err := s.change(ctx, func(ctx context.Context, c *conn) error {
		n, err := c.exec(ctx, deadRunners, micros(time.Now()), limited(p.Limit))
		if err != nil {
			return err
		}
		pg := &purge{ctx: ctx, c: c, p: p, left: limited(p.Limit) - int(n), steps: purgeSteps}
		if err := pg.table(&messageKind, p.Messages); err != nil {
			return err
		}
		if err := pg.table(&executionKind, p.Executions); err != nil {
			return err
		}
		total = limited(p.Limit) - pg.left
		return nil
	})
	return total, err
}

// purgeKind says how one table is purged.
type purgeKind struct {
	finishedTypes, tombTypes string // the next type that has such rows
	finished, tombs          string // rows of a type, oldest first
	entomb, remove           string
	steps                    bool // has journals
}

var messageKind = purgeKind{
	finishedTypes: `SELECT min(type) FROM cruster_message INDEXED BY cruster_message_finished WHERE state = 2 AND tomb = 0 AND type > ?`,
	tombTypes:     `SELECT min(type) FROM cruster_message INDEXED BY cruster_message_tomb WHERE state = 2 AND tomb = 1 AND type > ?`,
	finished: `SELECT num, key FROM cruster_message INDEXED BY cruster_message_finished
	WHERE state = 2 AND tomb = 0 AND type = ? AND finished_at < ? ORDER BY finished_at LIMIT ?`,
	tombs: `SELECT num, '' FROM cruster_message INDEXED BY cruster_message_tomb
	WHERE state = 2 AND tomb = 1 AND type = ? AND finished_at < ? ORDER BY finished_at LIMIT ?`,
	entomb: entombMessage, remove: deleteMessage,
}

var executionKind = purgeKind{
	finishedTypes: `SELECT min(type) FROM cruster_execution INDEXED BY cruster_execution_finished
	WHERE status BETWEEN 3 AND 6 AND tomb = 0 AND type > ?`,
	tombTypes: `SELECT min(type) FROM cruster_execution INDEXED BY cruster_execution_tomb
	WHERE status BETWEEN 3 AND 6 AND tomb = 1 AND type > ?`,
	finished: `SELECT num, key FROM cruster_execution INDEXED BY cruster_execution_finished
	WHERE status BETWEEN 3 AND 6 AND tomb = 0 AND type = ? AND finished_at < ? ORDER BY finished_at LIMIT ?`,
	tombs: `SELECT num, '' FROM cruster_execution INDEXED BY cruster_execution_tomb
	WHERE status BETWEEN 3 AND 6 AND tomb = 1 AND type = ? AND finished_at < ? ORDER BY finished_at LIMIT ?`,
	entomb: entombExecution, remove: deleteExecution, steps: true,
}

// purge is one transaction of retention.
type purge struct {
	ctx   context.Context // of the one call
	c     *conn
	p     storage.Purge
	left  int   // items
	steps int64 // journal rows
}

func (pg *purge) table(k *purgeKind, types []string) error {
	for _, part := range []struct {
		types, rows string
		before      time.Time
	}{{k.finishedTypes, k.finished, pg.p.Before}, {k.tombTypes, k.tombs, pg.p.KeysBefore}} {
		names := types
		if slices.Equal(types, storage.AllTypes) {
			var err error
			if names, err = pg.typesOf(part.types); err != nil {
				return err
			}
		}
		for _, name := range names {
			if err := pg.rows(k, part.rows, name, part.before); err != nil {
				return err
			}
		}
	}
	return nil
}

// typesOf lists the types of an index, one look-up for each.
func (pg *purge) typesOf(query string) (names []string, err error) {
	for last := ""; ; {
		more := false
		if err := pg.c.query(pg.ctx, query, func(r *row) error {
			if r.vals[0] != nil {
				last, more = r.text(), true
			}
			return nil
		}, last); err != nil || !more {
			return names, err
		}
		names = append(names, last)
	}
}

func (pg *purge) rows(k *purgeKind, query, name string, before time.Time) error {
	if pg.left <= 0 || pg.steps <= 0 || before.IsZero() {
		return nil
	}
	type item struct {
		num int64
		key string
	}
	var items []item
	if err := pg.c.query(pg.ctx, query, func(r *row) error {
		items = append(items, item{r.int64(), r.text()})
		return nil
	}, name, micros(before), pg.left); err != nil {
		return err
	}
	for _, it := range items {
		if pg.steps <= 0 {
			return nil
		}
		if k.steps {
			n, err := pg.c.exec(pg.ctx, deleteSteps, it.num)
			if err != nil {
				return err
			}
			pg.steps -= n
		}
		change := k.remove
		if it.key != "" {
			change = k.entomb
		}
		if _, err := pg.c.exec(pg.ctx, change, it.num); err != nil {
			return err
		}
		pg.left--
	}
	return nil
}
