package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// conn is one connection to SQLite with the statements that were prepared on
// it. One goroutine uses it at a time.
type conn struct {
	raw   driver.Conn
	stmts map[string]*prepared
	args  []driver.NamedValue
	count *atomic.Int64 // statements
}

// prepared is a statement, and room for one row of its result.
type prepared struct {
	driver.Stmt
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
	vals  []driver.Value
}

func newConn(raw driver.Conn, count *atomic.Int64) *conn {
	return &conn{raw: raw, stmts: make(map[string]*prepared), count: count}
}

func (c *conn) close() error {
	var errs []error
	for _, p := range c.stmts {
		errs = append(errs, p.Close())
	}
	c.stmts = nil
	return errors.Join(append(errs, c.raw.Close())...)
}

// prepare returns the prepared statement of a query. Queries are constants, so
// that their number is bounded.
func (c *conn) prepare(ctx context.Context, query string) (*prepared, error) {
	if p := c.stmts[query]; p != nil {
		return p, nil
	}
	st, err := c.raw.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%w in %q", err, query)
	}
	p := &prepared{Stmt: st, exec: st.(driver.StmtExecContext), query: st.(driver.StmtQueryContext)}
	c.stmts[query] = p
	return p, nil
}

// bind lays args out for the driver.
func (c *conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		switch v := a.(type) {
		case int:
			a = int64(v)
		case []byte:
			if len(v) == 0 {
				a = nil
			}
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// exec runs a statement and returns how many rows it changed.
func (c *conn) exec(ctx context.Context, query string, args ...any) (int64, error) {
	n, _, err := c.insert(ctx, query, args...)
	return n, err
}

// insert is exec that returns the number of the last row that was inserted too.
func (c *conn) insert(ctx context.Context, query string, args ...any) (changed, last int64, err error) {
	p, err := c.prepare(ctx, query)
	if err != nil {
		return 0, 0, err
	}
	c.count.Add(1)
	res, err := p.exec.ExecContext(ctx, c.bind(args))
	if err != nil {
		return 0, 0, err
	}
	last, err = res.LastInsertId()
	if err == nil {
		changed, err = res.RowsAffected()
	}
	return changed, last, err
}

// control runs BEGIN, COMMIT or the like, which does not count as a statement.
func (c *conn) control(ctx context.Context, query string) error {
	p, err := c.prepare(ctx, query)
	if err == nil {
		_, err = p.exec.ExecContext(ctx, nil)
	}
	return err
}

// script runs statements without arguments, one after the other.
func (c *conn) script(ctx context.Context, text string) error {
	_, err := c.raw.(driver.ExecerContext).ExecContext(ctx, text, nil)
	return err
}

// query runs a query and calls each for every row.
func (c *conn) query(ctx context.Context, query string, each func(r *row) error, args ...any) error {
	p, err := c.prepare(ctx, query)
	if err != nil {
		return err
	}
	return c.collect(ctx, p, each, args)
}

// queryOnce is query for a text that is not worth keeping.
func (c *conn) queryOnce(ctx context.Context, query string, each func(r *row) error, args ...any) error {
	p, err := c.prepare(ctx, query)
	if err != nil {
		return err
	}
	delete(c.stmts, query)
	return errors.Join(c.collect(ctx, p, each, args), p.Close())
}

func (c *conn) collect(ctx context.Context, p *prepared, each func(r *row) error, args []any) (err error) {
	c.count.Add(1)
	rows, err := p.query.QueryContext(ctx, c.bind(args))
	if err != nil {
		return err
	}
	defer func() {
		if e := rows.Close(); err == nil {
			err = e
		}
	}()
	if p.vals == nil {
		p.vals = make([]driver.Value, len(rows.Columns()))
	}
	for {
		switch err := rows.Next(p.vals); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		r := row{vals: p.vals}
		if err := each(&r); err != nil {
			return err
		}
		if r.err != nil {
			return r.err
		}
	}
}

// row takes the columns of a row off one by one. After the first value of
// another type than expected it gives zero values.
type row struct {
	vals []driver.Value
	err  error
}

func (r *row) next() driver.Value {
	if len(r.vals) == 0 {
		r.fail("nothing")
		return nil
	}
	v := r.vals[0]
	r.vals = r.vals[1:]
	return v
}

func (r *row) fail(got any) {
	if r.err == nil {
		r.err = fmt.Errorf("a stored row has an unexpected %T: the tables of cruster were changed by other means", got)
	}
}

func (r *row) int64() int64 {
	v := r.next()
	n, ok := v.(int64)
	if !ok {
		r.fail(v)
	}
	return n
}

func (r *row) int() int   { return int(r.int64()) }
func (r *row) bool() bool { return r.int64() != 0 }

func (r *row) text() string {
	v := r.next()
	s, ok := v.(string)
	if !ok {
		r.fail(v)
	}
	return s
}

// blob returns a blob; NULL is the empty one.
func (r *row) blob() []byte {
	v := r.next()
	b, ok := v.([]byte)
	if !ok && v != nil {
		r.fail(v)
	}
	return b
}

// blob16 returns a blob of exactly 16 bytes.
func (r *row) blob16() (b [16]byte) {
	v := r.blob()
	if len(v) != len(b) {
		r.fail(v)
		return b
	}
	return [16]byte(v)
}

// time returns a time; NULL is the zero one.
func (r *row) time() time.Time {
	v := r.next()
	if v == nil {
		return time.Time{}
	}
	n, ok := v.(int64)
	if !ok {
		r.fail(v)
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func (r *row) outcome() crustertype.Outcome {
	o, err := crustertype.DecodeOutcome(r.blob())
	if err != nil && r.err == nil {
		r.err = err
	}
	return o
}

func (r *row) shard() crustertype.Shard {
	sh, ok := parseShard(r.text())
	if !ok {
		r.fail("shard")
	}
	return sh
}

// micros is a time as it is stored.
func micros(t time.Time) int64 { return t.UnixMicro() }

// maybe is a time as it is stored in a column where NULL is the zero time.
func maybe(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}
