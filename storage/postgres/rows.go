package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cruster-go/cruster/storage"
)

// txRows are the rows of a statement in a transaction. They end the batch that
// the statement travelled in, and classify errors.
type txRows struct {
	pgx.Rows
	t   *tx
	ctx context.Context
	br  pgx.BatchResults // nil: the statement travelled alone

	closed bool
	err    error
}

// Next reports whether there is a row. After the last one the rows are closed,
// as pgx does it.
func (r *txRows) Next() bool {
	if r.closed {
		return false
	}
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close ends the result.
func (r *txRows) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.Rows.Close()
	err := r.Rows.Err()
	if r.br != nil {
		if e := r.br.Close(); err == nil {
			err = e
		}
	}
	r.err = r.t.after(r.ctx, r.Rows.CommandTag(), err)
}

// Err returns the error that ended the result. Like pgx, it knows it all only
// once the rows are closed.
func (r *txRows) Err() error {
	if r.closed {
		return r.err
	}
	return classify(r.ctx, r.Rows.Err(), false)
}

// storageRows are rows as the storage contract has them.
type storageRows struct{ pgx.Rows }

var _ storage.Rows = storageRows{}

// Close ends the result and returns what ended it.
func (r storageRows) Close() error {
	r.Rows.Close()
	return r.Rows.Err()
}

// row1 is the first row of a result.
type row1 struct {
	rows pgx.Rows
	none error // what Scan returns when there is no row
}

// Scan reads the row and ends the result.
func (r row1) Scan(dest ...any) error {
	defer r.rows.Close()
	if !r.rows.Next() {
		r.rows.Close()
		if err := r.rows.Err(); err != nil {
			return err
		}
		return r.none
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// failedRows is a result without rows: of a statement that failed, or that
// only has a command tag.
type failedRows struct {
	err error
	tag pgconn.CommandTag
}

var _ pgx.Rows = failedRows{}

func (r failedRows) Close()                                       {}
func (r failedRows) Err() error                                   { return r.err }
func (r failedRows) CommandTag() pgconn.CommandTag                { return r.tag }
func (r failedRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r failedRows) Next() bool                                   { return false }
func (r failedRows) Scan(...any) error                            { return r.err }
func (r failedRows) Values() ([]any, error)                       { return nil, r.err }
func (r failedRows) RawValues() [][]byte                          { return nil }
func (r failedRows) Conn() *pgx.Conn                              { return nil }
func (r failedRows) TypeMap() *pgtype.Map                         { return nil }
