package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/storage"
)

// tx is a transaction on a connection of the user's pool. It takes the
// connection, and begins, when it is first needed; BEGIN then travels with the
// first statement. It is used by one goroutine at a time.
type tx struct {
	s   *Store
	ctx context.Context // of Begin, for the two methods of pgx.Tx that have none

	conn  *pgxpool.Conn // nil: not needed yet, or done
	inner pgx.Tx        // pgx's own transaction; nil: not begun
	done  bool
	// failed is the error of the statement since which the transaction can
	// only be rolled back, at least to a savepoint.
	failed error
	// over is why it can never commit, whatever follows.
	over       error
	savepoints int
}

// Begin returns a transaction for user code. Nothing is sent before its first
// statement.
func (s *Store) Begin(ctx context.Context) (storage.Tx, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return &tx{s: s, ctx: ctx}, nil
}

// Tx returns the transaction of the handler or activity that ctx belongs to, as
// pgx knows it. What is written through it commits together with the handler's
// outcome, or not at all. Commit and Rollback are refused with ErrTxDone, since
// they are the engine's to do; savepoints, made by Begin, work.
func Tx(ctx context.Context) (pgx.Tx, error) {
	st, err := storage.TxFrom(ctx)
	if err != nil {
		return nil, err
	}
	t, ok := st.(*tx)
	if !ok {
		return nil, invalid("postgres: the service stores in something else (%T): use cruster.Tx, or that storage's own Tx", st)
	}
	if err := t.acquire(ctx); err != nil {
		return nil, err
	}
	return &userTx{t: t}, nil
}

// errByHand refuses to end a transaction that the engine ends.
var errByHand = fmt.Errorf("postgres: the engine commits or rolls back when the handler returns: return nil or an error instead: %w", storage.ErrTxDone)

// acquire takes a connection.
func (t *tx) acquire(ctx context.Context) error {
	if t.done {
		return fmt.Errorf("postgres: the transaction has ended: %w", storage.ErrTxDone)
	}
	if t.conn != nil {
		return nil
	}
	conn, err := t.s.user.Acquire(ctx)
	if err != nil {
		return classify(ctx, fmt.Errorf("postgres: take a connection from the pool: %w", err), false)
	}
	t.conn = conn
	return nil
}

// ready takes a connection, and reports why no statement can be sent.
func (t *tx) ready(ctx context.Context) error {
	if t.over != nil {
		return t.over
	}
	return t.acquire(ctx)
}

// after looks at what a statement has done to the transaction.
func (t *tx) after(ctx context.Context, tag pgconn.CommandTag, err error) error {
	err = classify(ctx, err, false)
	if t.conn == nil || t.over != nil {
		return err
	}
	c := t.conn.Conn()
	if !c.IsClosed() && c.PgConn().IsBusy() { // rows are open
		return err
	}
	switch status := c.PgConn().TxStatus(); {
	case err != nil && (c.IsClosed() || status == 'I'):
		t.over = err
	case c.IsClosed(), status == 'I', tag.String() == "COMMIT": // the last: AND CHAIN
		err = errByHand
		t.over = err
	case status == 'E':
		if t.failed == nil {
			t.failed = err
		}
	default:
		t.failed = nil // perhaps a savepoint was rolled back to
	}
	return err
}

// session names the session for the time of the transaction, so that its locks
// can be released when the incarnation is dead. It is local to the transaction,
// so it works through a pooler.
func (t *tx) session() (sql string, ok bool) {
	if name := t.s.session.Load(); name != nil {
		return "set local application_name = '" + *name + "'", true
	}
	return "", false
}

// begin sends BEGIN on its own.
func (t *tx) begin(ctx context.Context) error {
	if err := t.ready(ctx); err != nil || t.inner != nil {
		return err
	}
	br := t.conn.SendBatch(ctx, t.opening())
	t.inner = br.Tx()
	return t.after(ctx, pgconn.CommandTag{}, br.Close())
}

// opening is a batch that begins.
func (t *tx) opening() *pgx.Batch {
	b := new(pgx.Batch)
	b.BeginTx(txOptions)
	if sql, ok := t.session(); ok {
		b.Queue(sql)
	}
	return b
}

// batchable reports whether a statement can travel with BEGIN. A text without
// arguments may consist of several statements, and pgx's options for one
// statement do not apply in a batch.
func batchable(args []any) bool {
	if len(args) == 0 {
		return false
	}
	switch args[0].(type) {
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return false
	}
	return true
}

// query sends a statement, with BEGIN if it is the first one.
func (t *tx) query(ctx context.Context, sql string, args []any) pgx.Rows {
	if err := t.ready(ctx); err != nil {
		return failedRows{err: err}
	}
	if t.inner == nil && batchable(args) {
		return t.queryFirst(ctx, sql, args)
	}
	if err := t.begin(ctx); err != nil {
		return failedRows{err: err}
	}
	t.s.statements.Add(1)
	rows, _ := t.inner.Query(ctx, sql, args...) // the error is the rows' too
	r := &txRows{Rows: rows, t: t, ctx: ctx}
	if rows.Err() != nil {
		r.Close()
	}
	return r
}

// queryFirst sends BEGIN and a statement together.
func (t *tx) queryFirst(ctx context.Context, sql string, args []any) pgx.Rows {
	t.s.statements.Add(1)
	b := t.opening()
	opening := b.Len()
	b.Queue(sql, args...)
	br := t.conn.SendBatch(ctx, b)
	t.inner = br.Tx()
	for range opening {
		if _, err := br.Exec(); err != nil {
			br.Close()
			return failedRows{err: t.after(ctx, pgconn.CommandTag{}, err)}
		}
	}
	rows, err := br.Query()
	r := &txRows{Rows: rows, t: t, ctx: ctx, br: br}
	if err != nil {
		r.Close()
	}
	return r
}

// exec runs a statement for its effect.
func (t *tx) exec(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	if len(args) > 0 {
		rows := t.query(ctx, sql, args)
		rows.Close()
		return rows, rows.Err()
	}
	if err := t.begin(ctx); err != nil {
		return failedRows{err: err}, err
	}
	t.s.statements.Add(1)
	tag, err := t.inner.Exec(ctx, sql)
	err = t.after(ctx, tag, err)
	return failedRows{err: err, tag: tag}, err
}

// Exec runs a statement.
func (t *tx) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	rows, err := t.exec(ctx, sql, args)
	return rows.CommandTag().RowsAffected(), err
}

// Query runs a query.
func (t *tx) Query(ctx context.Context, sql string, args ...any) (storage.Rows, error) {
	rows := t.query(ctx, sql, args)
	if err := rows.Err(); err != nil {
		rows.Close()
		return nil, err
	}
	return storageRows{rows}, nil
}

// QueryRow runs a query of which the first row is wanted.
func (t *tx) QueryRow(ctx context.Context, sql string, args ...any) storage.Row {
	return row1{rows: t.query(ctx, sql, args), none: noRows{}}
}

// Commit writes the unit and commits, in one round trip. Without a statement
// before, it is an ordinary commit on an engine connection.
func (t *tx) Commit(ctx context.Context, unit storage.Unit) (storage.Result, error) {
	if t.done {
		return storage.Result{}, fmt.Errorf("postgres: the transaction has ended: %w", storage.ErrTxDone)
	}
	s, units := t.s, []storage.Unit{unit}
	leave, err := s.enter(ctx)
	if err != nil {
		t.abort(ctx)
		return storage.Result{}, err
	}
	defer leave()
	w, err := s.gather(ctx, units)
	if err != nil {
		t.abort(ctx)
		return storage.Result{}, err
	}
	var results []storage.Result
	if t.inner == nil && t.over == nil {
		t.abort(ctx) // gives the connection back, if there is one
		results, err = s.commit(ctx, w, units)
	} else if err = t.commitable(); err != nil {
		t.abort(ctx)
	} else {
		results, err = t.commit(ctx, w, units)
	}
	if err != nil {
		return storage.Result{}, err
	}
	return results[0], nil
}

// commitable reports why the transaction cannot commit: COMMIT would answer
// ROLLBACK, or commit the unit without what it belongs to.
func (t *tx) commitable() error {
	cause := t.over
	if cause == nil {
		cause = t.failed
	}
	if cause == nil {
		switch c := t.conn.Conn(); {
		case c.IsClosed():
			return &storage.TransientError{Err: errors.New("postgres: the connection was closed")}
		case c.PgConn().IsBusy():
			cause = errors.New("postgres: rows are still open: close them before returning")
		case c.PgConn().TxStatus() == 'I':
			cause = errByHand
		case c.PgConn().TxStatus() == 'E':
			cause = errors.New("postgres: a statement failed, so the transaction can only be rolled back")
		default:
			return nil
		}
	}
	if storage.IsTransient(cause) {
		return cause
	}
	return &storage.UnitError{Err: cause}
}

func (t *tx) commit(ctx context.Context, w *writes, units []storage.Unit) ([]storage.Result, error) {
	b := new(pgx.Batch)
	in, err := t.s.queue(ctx, b, w, false) // a failed insert would take the user's work with it
	if err != nil {
		t.abort(ctx)
		return nil, err
	}
	b.Queue(immediate) // deferred constraints wait for rows: before the lock, not inside COMMIT
	t.s.queueEnd(b, w)
	err = t.conn.SendBatch(ctx, b).Close()
	t.abort(ctx)
	if err != nil {
		return nil, t.s.refusal(ctx, err, w)
	}
	t.s.commits.Add(1)
	return t.s.results(ctx, w, units, in)
}

// abort ends the transaction and gives the connection back.
func (t *tx) abort(ctx context.Context) {
	t.done = true
	if t.conn != nil {
		rollback(ctx, t.conn)
		t.conn.Release() // a connection that is still in a transaction is closed
		t.conn = nil
	}
}

// Rollback undoes everything.
func (t *tx) Rollback(ctx context.Context) error {
	t.abort(ctx)
	return nil
}
