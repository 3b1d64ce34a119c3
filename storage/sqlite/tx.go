package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// txn is a transaction that users' statements share with cruster. It has the
// writer's turn from its first statement to its end.
type txn struct {
	s *Store

	// stop guards what end needs while a statement runs under mu.
	stop struct {
		sync.Mutex
		cause  error // why the transaction was ended from outside
		cancel context.CancelFunc
	}

	mu      sync.Mutex
	open    bool  // has the turn
	done    error // why nothing more can be done; nil as long as it can
	rows    *txRows
	cancels []context.CancelFunc // of rows that we cannot close
}

var _ storage.Tx = (*txn)(nil)

// Begin returns a transaction that begins at its first statement.
func (s *Store) Begin(ctx context.Context) (storage.Tx, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	s.leave()
	return &txn{s: s}, nil
}

// ready begins the transaction if need be. mu is held.
func (t *txn) ready(ctx context.Context) error {
	switch {
	case t.done != nil:
		return t.done
	case ctx.Err() != nil:
		return ctx.Err()
	case t.open:
		return t.free()
	}
	if err := t.s.enter(ctx); err != nil {
		return err
	}
	defer t.s.leave()
	if err := t.s.w.acquire(ctx); err != nil {
		return err
	}
	if err := t.begin(ctx); err != nil {
		return err
	}
	t.s.w.holder.Store(t)
	if t.s.isClosed() { // Close may not have seen the holder
		t.abort(ctx, storage.ErrClosed)
		return storage.ErrClosed
	}
	return nil
}

// begin begins the transaction for who has the turn, or gives the turn back.
func (t *txn) begin(ctx context.Context) error {
	err := t.s.w.do(func(*conn) error { return explain(t.s.w.begin(ctx)) })
	if err != nil {
		t.s.w.release()
		return err
	}
	t.open = true
	return nil
}

// free refuses a statement while rows are open. A single row that was not
// fetched is given up.
func (t *txn) free() error {
	if t.rows == nil {
		return nil
	}
	if !t.rows.single {
		return crustertype.Errorf(crustertype.CodeInvalid, "the rows of an earlier query are open: close them before the next statement")
	}
	t.rows.close()
	return nil
}

// over gives the turn back. mu is held, and the transaction over in the
// database.
func (t *txn) over(done error) {
	t.done, t.open = done, false
	t.s.w.holder.CompareAndSwap(t, nil)
	t.s.w.release()
}

// abort rolls back. mu is held.
func (t *txn) abort(ctx context.Context, done error) {
	t.closeRows()
	if !t.open {
		t.done = done
		return
	}
	_ = t.s.w.do(func(*conn) error { t.s.w.rollback(context.WithoutCancel(ctx)); return nil })
	t.over(done)
}

func (t *txn) closeRows() {
	if t.rows != nil {
		t.rows.close()
	}
	for _, cancel := range t.cancels {
		cancel()
	}
	t.cancels = nil
}

// end rolls the transaction back from outside, interrupting what it runs.
func (t *txn) end(ctx context.Context, cause error) {
	t.stop.Lock()
	t.stop.cause = cause
	if t.stop.cancel != nil && errors.Is(cause, errCutOff) {
		t.stop.cancel()
	}
	t.stop.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done == nil {
		t.abort(ctx, cause)
	}
}

// cause returns why the transaction was ended from outside, or nil.
func (t *txn) cause() error {
	t.stop.Lock()
	defer t.stop.Unlock()
	return t.stop.cause
}

// while returns a context for a statement. It ends with ctx and when the
// transaction is cut off.
func (t *txn) while(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	t.stop.Lock()
	defer t.stop.Unlock()
	t.stop.cancel = cancel
	if t.stop.cause != nil {
		cancel()
	}
	return ctx, cancel
}

// failed explains the error of a user's statement. It gives the transaction up
// when SQLite has done so, ctx has ended, or the machine is at fault. mu is held.
func (t *txn) failed(ctx context.Context, err error) error {
	cause := t.cause()
	switch {
	case cause != nil:
		err = cause
	case ctx.Err() != nil:
		err = ctx.Err()
	case code(err) == sqlite3.SQLITE_AUTH:
		if why := t.s.w.guard.reason(); why != nil {
			return why
		}
	}
	err = explain(err)
	lost := cause != nil || ctx.Err() != nil || storage.IsTransient(err)
	if !lost {
		_ = t.s.w.do(func(*conn) error { lost = t.s.w.lost(context.WithoutCancel(ctx)); return nil })
	}
	if lost {
		t.abort(ctx, fmt.Errorf("the transaction was rolled back: %w", err))
	}
	return err
}

// Exec runs a statement.
func (t *txn) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return 0, err
	}
	var before int64
	counted := changesRows(query)
	if !counted {
		before = t.totalChanges(ctx)
	}
	res, err := t.exec(ctx, query, args)
	if err != nil {
		return 0, err
	}
	if !counted { // SQLite would give the number of the statement before
		return t.totalChanges(ctx) - before, nil
	}
	return res.RowsAffected()
}

// exec runs a statement. mu is held, and the transaction ready.
func (t *txn) exec(ctx context.Context, query string, args []any) (sql.Result, error) {
	t.s.statements.Add(1)
	sctx, cancel := t.while(ctx)
	defer cancel()
	var res sql.Result
	st, err := t.s.w.users.get(sctx, t.s.w.sc, query)
	if err == nil {
		res, err = st.ExecContext(sctx, args...)
	}
	if err != nil {
		return nil, t.failed(ctx, err)
	}
	return res, nil
}

// changesRows reports whether a statement begins as one that sets SQLite's
// count of changed rows.
func changesRows(query string) bool {
	word, _, _ := strings.Cut(strings.TrimSpace(query), " ")
	switch strings.ToUpper(strings.TrimSpace(word)) {
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return true
	}
	return false
}

func (t *txn) totalChanges(ctx context.Context) (n int64) {
	_ = t.s.w.do(func(c *conn) error {
		c.count.Add(-1)
		return c.query(context.WithoutCancel(ctx), `SELECT total_changes()`, func(r *row) error { n = r.int64(); return nil })
	})
	return n
}

// Query runs a query.
func (t *txn) Query(ctx context.Context, query string, args ...any) (storage.Rows, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, err := t.query(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// query runs a query. mu is held.
func (t *txn) query(ctx context.Context, query string, args []any) (*txRows, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	t.s.statements.Add(1)
	sctx, cancel := t.while(ctx)
	st, err := t.s.w.users.get(sctx, t.s.w.sc, query)
	var rows *sql.Rows
	if err == nil {
		rows, err = st.QueryContext(sctx, args...)
	}
	if err != nil {
		cancel()
		return nil, t.failed(ctx, err)
	}
	t.rows = &txRows{t: t, ctx: ctx, cancel: cancel, rows: rows}
	return t.rows, nil
}

// QueryRow runs a query of which the first row is wanted.
func (t *txn) QueryRow(ctx context.Context, query string, args ...any) storage.Row {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, err := t.query(ctx, query, args)
	if err != nil {
		return failedRow{err}
	}
	r.single = true
	return firstRow{r}
}

// Commit applies unit and commits.
func (t *txn) Commit(ctx context.Context, unit storage.Unit) (storage.Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	units := []storage.Unit{unit}
	if t.done != nil {
		return storage.Result{}, t.tooLate(ctx, units)
	}
	if err := ctx.Err(); err != nil {
		t.abort(ctx, storage.ErrTxDone)
		return storage.Result{}, err
	}
	if !t.open {
		t.done = storage.ErrTxDone
		results, err := t.s.Commit(ctx, units)
		if err != nil {
			return storage.Result{}, err
		}
		return results[0], nil
	}
	t.closeRows()
	var results []storage.Result
	err := t.s.w.do(func(c *conn) (err error) {
		plain := context.WithoutCancel(ctx)
		if results, err = apply(plain, c, units); err != nil {
			t.s.w.rollback(plain)
			return explain(err)
		}
		return t.s.w.commit(plain, &t.s.commits)
	})
	t.over(storage.ErrTxDone)
	if err != nil {
		return storage.Result{}, err
	}
	t.s.units.Add(1)
	return results[0], nil
}

// tooLate returns the error of a commit after the end. One that was cut off for
// a take-over learns which shards it lost.
func (t *txn) tooLate(ctx context.Context, units []storage.Unit) error {
	if !errors.Is(t.done, errCutOff) {
		return t.done
	}
	_, err := read(ctx, t.s, func(ctx context.Context, c *conn) (struct{}, error) {
		a := &applier{ctx: ctx, c: c, units: units}
		return struct{}{}, a.fence()
	})
	if err != nil {
		return err
	}
	return t.done
}

// Rollback undoes everything.
func (t *txn) Rollback(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done == nil {
		t.abort(ctx, storage.ErrTxDone)
	}
	return nil
}
