package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// userTx is a transaction as pgx has it: the whole one, which the engine ends,
// or a savepoint in it, which is the user's to end.
type userTx struct {
	t         *tx
	savepoint string // "": the whole transaction
	closed    bool   // the savepoint has ended
}

var _ pgx.Tx = (*userTx)(nil)

// Begin sets a savepoint.
func (u *userTx) Begin(ctx context.Context) (pgx.Tx, error) {
	if u.closed {
		return nil, pgx.ErrTxClosed
	}
	u.t.savepoints++
	name := "sp_" + strconv.Itoa(u.t.savepoints)
	if err := u.control(ctx, "savepoint "+name); err != nil {
		return nil, err
	}
	return &userTx{t: u.t, savepoint: name}, nil
}

// control sends a statement that writes nothing.
func (u *userTx) control(ctx context.Context, sql string) error {
	if err := u.t.begin(ctx); err != nil {
		return err
	}
	tag, err := u.t.inner.Exec(ctx, sql)
	return u.t.after(ctx, tag, err)
}

// end ends a savepoint.
func (u *userTx) end(ctx context.Context, verb string) error {
	if u.savepoint == "" {
		return errByHand
	}
	if u.closed {
		return pgx.ErrTxClosed
	}
	u.closed = true
	return u.control(ctx, verb+" savepoint "+u.savepoint)
}

// Commit keeps what was done since the savepoint. The whole transaction refuses.
func (u *userTx) Commit(ctx context.Context) error { return u.end(ctx, "release") }

// Rollback undoes what was done since the savepoint. The whole transaction
// refuses.
func (u *userTx) Rollback(ctx context.Context) error { return u.end(ctx, "rollback to") }

// Exec runs a statement.
func (u *userTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if u.closed {
		return pgconn.CommandTag{}, pgx.ErrTxClosed
	}
	rows, err := u.t.exec(ctx, sql, args)
	return rows.CommandTag(), err
}

// Query runs a query.
func (u *userTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if u.closed {
		return failedRows{err: pgx.ErrTxClosed}, pgx.ErrTxClosed
	}
	rows := u.t.query(ctx, sql, args)
	return rows, rows.Err()
}

// QueryRow runs a query of which the first row is wanted.
func (u *userTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, _ := u.Query(ctx, sql, args...) // the error is the rows' too
	return row1{rows: rows, none: pgx.ErrNoRows}
}

// CopyFrom copies rows into a table.
func (u *userTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error) {
	if u.closed {
		return 0, pgx.ErrTxClosed
	}
	if err := u.t.begin(ctx); err != nil {
		return 0, err
	}
	u.t.s.statements.Add(1)
	n, err := u.t.inner.CopyFrom(ctx, table, columns, src)
	return n, u.t.after(ctx, pgconn.CommandTag{}, err)
}

// SendBatch sends statements together.
func (u *userTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if u.closed {
		return pgx.FailedBatchResults(b, pgx.ErrTxClosed)
	}
	if err := u.t.begin(ctx); err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	u.t.s.statements.Add(int64(b.Len()))
	return &userBatch{u.t.inner.SendBatch(ctx, b), u.t, ctx}
}

// Prepare prepares a statement on the connection.
func (u *userTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if u.closed {
		return nil, pgx.ErrTxClosed
	}
	if err := u.t.begin(ctx); err != nil {
		return nil, err
	}
	sd, err := u.t.inner.Prepare(ctx, name, sql)
	return sd, u.t.after(ctx, pgconn.CommandTag{}, err)
}

// LargeObjects gives access to large objects. It must not be used after the
// handler has returned.
func (u *userTx) LargeObjects() pgx.LargeObjects {
	if err := u.t.begin(u.t.ctx); err != nil && u.t.inner == nil || u.t.done {
		return pgx.LargeObjects{}
	}
	return u.t.inner.LargeObjects()
}

// Conn returns the connection, with the transaction begun; a closed one when it
// cannot begin, and nil after the handler has returned.
func (u *userTx) Conn() *pgx.Conn {
	if u.t.done || u.t.conn == nil {
		return nil
	}
	conn := u.t.conn.Conn()
	if err := u.t.begin(u.t.ctx); err != nil {
		conn.Close(u.t.ctx) // or statements on it would run outside of the transaction
	}
	return conn
}

// userBatch classifies the errors of a batch.
type userBatch struct {
	pgx.BatchResults
	t   *tx
	ctx context.Context
}

// Exec reads the next result.
func (b *userBatch) Exec() (pgconn.CommandTag, error) {
	tag, err := b.BatchResults.Exec()
	return tag, classify(b.ctx, err, false)
}

// Query reads the next result.
func (b *userBatch) Query() (pgx.Rows, error) {
	rows, err := b.BatchResults.Query()
	return &txRows{Rows: rows, t: b.t, ctx: b.ctx}, classify(b.ctx, err, false)
}

// QueryRow reads the next result.
func (b *userBatch) QueryRow() pgx.Row {
	rows, _ := b.Query()
	return row1{rows: rows, none: pgx.ErrNoRows}
}

// Close reads what is left.
func (b *userBatch) Close() error {
	err := b.BatchResults.Close()
	if err != nil {
		err = fmt.Errorf("batch: %w", err)
	}
	return b.t.after(b.ctx, pgconn.CommandTag{}, err)
}
