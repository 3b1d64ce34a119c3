package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/cruster-go/cruster/storage"
)

// txRows is the result of a query in a transaction.
type txRows struct {
	t      *txn
	ctx    context.Context // of the query
	cancel context.CancelFunc
	rows   *sql.Rows
	single bool // QueryRow's
	closed bool
	err    error
}

// Next moves to the next row.
func (r *txRows) Next() bool {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	return r.next()
}

func (r *txRows) next() bool {
	switch {
	case r.closed:
		return false
	case r.rows.Next():
		return true
	}
	err := r.rows.Err()
	r.close()
	if err != nil {
		r.err = r.t.failed(r.ctx, err)
	}
	return false
}

// Scan reads the columns of the row.
func (r *txRows) Scan(dest ...any) error {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	return r.scan(dest)
}

func (r *txRows) scan(dest []any) error {
	if r.closed {
		if r.err != nil {
			return r.err
		}
		return fmt.Errorf("the rows are closed: call Next first, and Scan while it returns true")
	}
	return r.rows.Scan(timed(dest)...)
}

// Err returns the error that ended the iteration.
func (r *txRows) Err() error {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	return r.err
}

// Close ends the iteration.
func (r *txRows) Close() error {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	r.close()
	return nil
}

// close releases the statement. What the transaction was ended with is the
// error of an iteration that it cut short.
func (r *txRows) close() {
	if r.closed {
		return
	}
	r.closed = true
	if r.err == nil {
		r.err = r.t.cause()
	}
	_ = r.rows.Close() // its error is that of the iteration, or of nobody
	r.cancel()
	if r.t.rows == r {
		r.t.rows = nil
	}
}

// firstRow is a result of which one row is wanted.
type firstRow struct{ r *txRows }

// Scan reads the columns of the row.
func (f firstRow) Scan(dest ...any) error {
	r := f.r
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	if r.closed {
		if r.err != nil {
			return r.err
		}
		return fmt.Errorf("the row is gone: call Scan once, before the next statement")
	}
	if !r.next() {
		if r.err != nil {
			return r.err
		}
		return storage.ErrNoRows
	}
	err := r.scan(dest)
	r.close()
	return err
}

// failedRow is the row of a query that failed.
type failedRow struct{ err error }

// Scan returns the error of the query.
func (f failedRow) Scan(...any) error { return f.err }

// timed replaces destinations of times by ones that read text as well: SQLite
// has no type for times, and keeps that of a column only when it is selected
// directly.
func timed(dest []any) []any {
	copied := false
	for i, d := range dest {
		var replacement any
		switch p := d.(type) {
		case *time.Time:
			replacement = timeScanner{func(t time.Time, null bool) error {
				if null {
					return fmt.Errorf("NULL does not fit into a time.Time: scan into a *time.Time or sql.NullTime")
				}
				*p = t
				return nil
			}}
		case **time.Time:
			replacement = timeScanner{func(t time.Time, null bool) error {
				if *p = nil; !null {
					*p = &t
				}
				return nil
			}}
		case *sql.NullTime:
			replacement = timeScanner{func(t time.Time, null bool) error {
				*p = sql.NullTime{Time: t, Valid: !null}
				return nil
			}}
		default:
			continue
		}
		if !copied {
			dest, copied = append([]any(nil), dest...), true
		}
		dest[i] = replacement
	}
	return dest
}

type timeScanner struct {
	set func(t time.Time, null bool) error
}

// The forms in which SQLite's functions and this package write times.
var timeForms = []string{
	"2006-01-02 15:04:05.999999999-07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999Z07:00",
	"2006-01-02T15:04:05.999999999", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02",
}

// Scan takes a column's value.
func (s timeScanner) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		return s.set(time.Time{}, true)
	case time.Time:
		return s.set(v, false)
	case string:
		for _, form := range timeForms {
			if t, err := time.Parse(form, v); err == nil {
				return s.set(t.UTC(), false)
			}
		}
		return fmt.Errorf("%q does not read as a time: store it as %q", v, timeForms[0])
	}
	return fmt.Errorf("a %T does not fit into a time.Time: scan it into an int64 and convert it", src)
}
