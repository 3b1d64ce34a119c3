package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// SQLSTATEs of our own functions.
const (
	stateFenced   = "CR001"
	stateStep     = "CR002"
	stateOrphan   = "CR003"
	stateSchedule = "CR004"
)

const stateUniqueViolation = "23505"

// noRows is pgx's "no rows" and the storage contract's at once.
type noRows struct{}

func (noRows) Error() string { return storage.ErrNoRows.Error() }

func (noRows) Is(target error) bool { return target == storage.ErrNoRows }

func (noRows) Unwrap() error { return pgx.ErrNoRows }

// classify turns an error of the driver into one of the storage contract. sent
// says that the statement had been sent when it failed in a way that leaves its
// outcome open. Errors that are the caller's come back as they are.
func classify(ctx context.Context, err error, sent bool) error {
	if err == nil {
		return nil
	}
	var done *storage.TransientError
	if errors.As(err, &done) {
		return err
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if lost, transient := transience(pg); transient {
			return &storage.TransientError{Err: err, Unknown: sent && lost}
		}
		return err
	}
	if cause := ctx.Err(); cause != nil {
		if errors.Is(err, cause) {
			return err
		}
		return fmt.Errorf("%w: %w", cause, err)
	}
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &connect):
		return &storage.TransientError{Err: err}
	case errors.Is(err, pgx.ErrNoRows), errors.Is(err, pgx.ErrTxClosed), isArgument(err):
		return err
	}
	// pgconn.SafeToRetry is no help: the first error of a batch may hide behind
	// the "conn closed" of a later statement.
	return &storage.TransientError{Err: err, Unknown: sent}
}

// isArgument reports an error that arose before anything was sent, because a
// parameter does not fit its type.
func isArgument(err error) bool {
	text := err.Error()
	return strings.Contains(text, "failed to encode args[") || strings.HasPrefix(text, "expected ") || strings.HasPrefix(text, "mismatched param")
}

// transience reports whether trying again can help, and whether the connection
// went with the answer, so that a commit may have happened.
func transience(e *pgconn.PgError) (lost, transient bool) {
	switch e.Code {
	case "40001", "40P01", // serialization failure, deadlock
		"55P03", "55006", // lock not available, object in use
		"57014",                            // cancelled by a timeout of the server's
		"25006",                            // read-only: connected to a standby after a failover
		"26000", "42P05", "0A000", "55000": // a cached statement does not fit the session or the schema any more
		if e.Code == "0A000" && !strings.Contains(e.Message, "cached plan") {
			return false, false
		}
		if e.Code == "55000" && !strings.Contains(e.Message, "prepared") {
			return false, false
		}
		return false, true
	case "25P03", "25P04", "57P05", // idle, transaction or session timeout
		"57P01", "57P02", "57P03", "57P04": // shutdown, crash, starting up, database dropped
		return true, true
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08":
		return true, true
	case "53", "58", "XX": // resources, system, internal
		return e.Severity == "FATAL" || e.Severity == "PANIC", true
	}
	return false, false
}

// isDuplicate reports that a plain insert met a row that is there.
func isDuplicate(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == stateUniqueViolation &&
		(pg.ConstraintName == "message_pkey" || pg.ConstraintName == "execution_pkey")
}

// refusal turns an error of a commit into one of the storage contract.
func (s *Store) refusal(ctx context.Context, err error, w *writes) error {
	err = classify(ctx, err, true)
	var pg *pgconn.PgError
	if err == nil || storage.IsTransient(err) || !errors.As(err, &pg) {
		if err != nil && isArgument(err) {
			return &storage.UnitError{Index: w.only(), Err: err}
		}
		return err
	}
	switch pg.Code {
	case stateFenced:
		return s.fencedError(ctx, pg, w)
	case stateStep, stateOrphan:
		return w.stepRefused(pg)
	case stateSchedule:
		return w.scheduleRefused(pg)
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "22", "23", "54": // data, constraints, limits
		return &storage.UnitError{Index: w.only(), Err: err}
	}
	return err
}

// fencedError names the shards whose leases are not current. The fence of one
// owner has named its own; with several owners the others are looked up.
func (s *Store) fencedError(ctx context.Context, pg *pgconn.PgError, w *writes) error {
	var lost []int32
	for part := range strings.SplitSeq(strings.Trim(pg.Detail, "{}"), ",") {
		n, err := strconv.ParseInt(part, 10, 32)
		if err != nil {
			return fmt.Errorf("postgres: the fence named %q: %w", pg.Detail, pg)
		}
		lost = append(lost, int32(n))
	}
	if len(w.fences) > 1 {
		more, err := s.stale(ctx, w.fences)
		if err != nil {
			return err
		}
		lost = append(lost, more...)
	}
	e := new(storage.FencedError)
	for _, n := range lost {
		shard, err := s.shardOf(ctx, n)
		if err != nil {
			return err
		}
		e.Shards = append(e.Shards, shard)
	}
	slices.SortFunc(e.Shards, crustertype.Shard.Compare)
	e.Shards = slices.Compact(e.Shards)
	return e
}

// stale returns the shards of leases that are not current. Nothing has been
// written on the strength of them, so no lock is needed.
func (s *Store) stale(ctx context.Context, fences []fence) ([]int32, error) {
	var lost []int32
	for _, f := range fences {
		rows, err := query(ctx, s, s.control, scanOwned, s.q.Owners, f.shards)
		if err != nil {
			return nil, fmt.Errorf("postgres: read shard owners: %w", err)
		}
		for i, n := range f.shards {
			current := slices.ContainsFunc(rows, func(o owned) bool {
				return o.shard == n && o.lease.Owner == f.owner && uuid(o.lease.Token) == f.tokens[i]
			})
			if !current {
				lost = append(lost, n)
			}
		}
	}
	return lost, nil
}

// invalid is the error of a call that is wrong in itself.
func invalid(format string, args ...any) error {
	return crustertype.Errorf(crustertype.CodeInvalid, format, args...)
}
