package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"modernc.org/sqlite"

	"github.com/cruster-go/cruster/storage"
)

// memoryConnector makes the pool of [Store.DB] in memory. Its connections are
// turns on the writer's one.
type memoryConnector struct{ s *Store }

// Connect returns a connection.
func (m memoryConnector) Connect(context.Context) (driver.Conn, error) {
	return &memoryConn{s: m.s}, nil
}

// Driver returns SQLite's.
func (m memoryConnector) Driver() driver.Driver { return new(sqlite.Driver) }

// memoryConn runs each query in a turn of its own, and all of a transaction in
// one.
type memoryConn struct {
	s    *Store
	inTx bool
}

var (
	_ driver.QueryerContext = (*memoryConn)(nil)
	_ driver.ExecerContext  = (*memoryConn)(nil)
	_ driver.ConnBeginTx    = (*memoryConn)(nil)
)

// acquire waits for the turn, but not for ever: the caller may have it himself.
func (m *memoryConn) acquire(ctx context.Context) error {
	wctx, cancel := context.WithTimeout(ctx, defaultBusyTimeout)
	defer cancel()
	err := m.s.w.acquire(wctx)
	if err != nil && ctx.Err() == nil {
		err = transient(fmt.Errorf("a transaction has held the in-memory database for %v: read through the transaction, or end it",
			defaultBusyTimeout), false)
	}
	return err
}

// turn runs f with the connection, statements being for reading only.
func (m *memoryConn) turn(ctx context.Context, f func(raw driver.Conn) error) error {
	if !m.inTx {
		if err := m.s.enter(ctx); err != nil {
			return err
		}
		defer m.s.leave()
		if err := m.acquire(ctx); err != nil {
			return err
		}
		defer m.s.w.release()
	}
	return m.s.w.do(func(c *conn) error {
		g := &m.s.w.guard
		g.ours, g.reading = false, true
		defer func() { g.ours, g.reading = true, false }()
		err := f(c.raw)
		if why := g.reason(); why != nil && err != nil {
			return why
		}
		return explain(err)
	})
}

// QueryContext runs a query and keeps the result.
func (m *memoryConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	out := new(memoryRows)
	err := m.turn(ctx, func(raw driver.Conn) error {
		rows, err := raw.(driver.QueryerContext).QueryContext(context.WithoutCancel(ctx), query, args)
		if err != nil {
			return err
		}
		return errors.Join(out.fill(ctx, rows), rows.Close())
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ExecContext runs a statement, which may not write.
func (m *memoryConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (res driver.Result, err error) {
	err = m.turn(ctx, func(raw driver.Conn) error {
		res, err = raw.(driver.ExecerContext).ExecContext(context.WithoutCancel(ctx), query, args)
		return err
	})
	return res, err
}

// BeginTx takes a turn that lasts until the transaction ends.
func (m *memoryConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	if err := m.s.enter(ctx); err != nil {
		return nil, err
	}
	if err := m.acquire(ctx); err != nil {
		m.s.leave()
		return nil, err
	}
	m.inTx = true
	return memoryTx{m}, nil
}

// Begin is BeginTx without a context.
func (m *memoryConn) Begin() (driver.Tx, error) {
	return nil, errors.New("use BeginTx")
}

// Prepare returns the statement, which is compiled when it runs.
func (m *memoryConn) Prepare(query string) (driver.Stmt, error) { return &memoryStmt{m, query}, nil }

// Close gives up a transaction that was not ended.
func (m *memoryConn) Close() error {
	if m.inTx {
		return memoryTx{m}.Rollback()
	}
	return nil
}

// memoryTx is a turn.
type memoryTx struct{ m *memoryConn }

// Commit ends the turn.
func (t memoryTx) Commit() error { return t.Rollback() }

// Rollback ends the turn: nothing was written.
func (t memoryTx) Rollback() error {
	if !t.m.inTx {
		return storage.ErrTxDone
	}
	t.m.inTx = false
	t.m.s.w.release()
	t.m.s.leave()
	return nil
}

// memoryStmt is the text of a statement.
type memoryStmt struct {
	m     *memoryConn
	query string
}

var (
	_ driver.StmtExecContext  = (*memoryStmt)(nil)
	_ driver.StmtQueryContext = (*memoryStmt)(nil)
)

// Close does nothing.
func (*memoryStmt) Close() error { return nil }

// NumInput leaves the counting to SQLite.
func (*memoryStmt) NumInput() int { return -1 }

// Exec is ExecContext without a context.
func (*memoryStmt) Exec([]driver.Value) (driver.Result, error) {
	return nil, errors.New("use ExecContext")
}

// Query is QueryContext without a context.
func (*memoryStmt) Query([]driver.Value) (driver.Rows, error) {
	return nil, errors.New("use QueryContext")
}

// ExecContext runs the statement.
func (s *memoryStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.m.ExecContext(ctx, s.query, args)
}

// QueryContext runs the statement.
func (s *memoryStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.m.QueryContext(ctx, s.query, args)
}

// memoryRows is a whole result.
type memoryRows struct {
	columns []string
	types   []string
	rows    [][]driver.Value
}

func (m *memoryRows) fill(ctx context.Context, rows driver.Rows) error {
	m.columns = rows.Columns()
	typed, _ := rows.(driver.RowsColumnTypeDatabaseTypeName)
	m.types = make([]string, len(m.columns))
	for i := range m.types {
		if typed != nil {
			m.types[i] = typed.ColumnTypeDatabaseTypeName(i)
		}
	}
	for {
		vals := make([]driver.Value, len(m.columns))
		switch err := rows.Next(vals); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		m.rows = append(m.rows, vals)
	}
}

// Columns returns the names.
func (m *memoryRows) Columns() []string { return m.columns }

// ColumnTypeDatabaseTypeName returns the declared type.
func (m *memoryRows) ColumnTypeDatabaseTypeName(i int) string { return m.types[i] }

// Close forgets the result.
func (m *memoryRows) Close() error {
	m.rows = nil
	return nil
}

// Next gives the next row.
func (m *memoryRows) Next(dest []driver.Value) error {
	if len(m.rows) == 0 {
		return io.EOF
	}
	copy(dest, m.rows[0])
	m.rows = m.rows[1:]
	return nil
}

// brokenConnector connects to nothing.
type brokenConnector struct{ err error }

// Connect returns the error.
func (b brokenConnector) Connect(context.Context) (driver.Conn, error) { return nil, b.err }

// Driver returns SQLite's.
func (b brokenConnector) Driver() driver.Driver { return new(sqlite.Driver) }
