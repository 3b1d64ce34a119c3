package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"modernc.org/sqlite"

	"github.com/cruster-go/cruster/storage"
)

// read runs f, which only reads, as a call. Of a file it has a connection of
// its own; in memory it has the writer's, between two statements of whoever has
// the turn. Our tables change in one piece there, except under an outbox.
func read[T any](ctx context.Context, s *Store, f func(ctx context.Context, c *conn) (T, error)) (out T, err error) {
	if err := s.enter(ctx); err != nil {
		return out, err
	}
	defer s.leave()
	if s.path == "" {
		err = s.readMemory(ctx, func(ctx context.Context, c *conn) (err error) {
			out, err = f(ctx, c)
			return err
		})
	} else {
		var c *conn
		if c, err = s.reader(ctx); err != nil {
			return out, err
		}
		defer func() { s.readers <- c }()
		out, err = f(ctx, c)
	}
	if err != nil {
		var none T
		if ctx.Err() != nil {
			return none, ctx.Err()
		}
		return none, explain(err)
	}
	return out, nil
}

// errDirty says that an open transaction has written our tables.
var errDirty = errors.New("an outbox is open")

func (s *Store) readMemory(ctx context.Context, f func(ctx context.Context, c *conn) error) error {
	plain := context.WithoutCancel(ctx) // an interrupt would reach the statements of others
	box, _ := storage.OutboxFrom(ctx).(*outbox)
	own := box != nil && box.tx.s == s
	err := s.w.do(func(c *conn) error {
		if s.w.dirty && !own {
			return errDirty
		}
		return f(plain, c)
	})
	if !errors.Is(err, errDirty) {
		return err
	}
	if err := s.w.acquire(ctx); err != nil {
		return err
	}
	defer s.w.release()
	return s.w.do(func(c *conn) error { return f(plain, c) })
}

// reader returns a connection for reading. The caller gives it back.
func (s *Store) reader(ctx context.Context) (*conn, error) {
	var c *conn
	select {
	case c = <-s.readers:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c != nil {
		return c, nil
	}
	raw, err := connect(context.WithoutCancel(ctx), s.path)
	if err != nil {
		s.readers <- nil
		return nil, explain(err)
	}
	return newConn(raw, &s.statements), nil
}

// openDB makes the users' pool.
func (s *Store) openDB() *sql.DB {
	if s.path == "" {
		return sql.OpenDB(memoryConnector{s})
	}
	connector, err := sqlite.NewConnector(dsn(s.path, readOnly))
	if err != nil {
		return sql.OpenDB(brokenConnector{err})
	}
	return sql.OpenDB(connector)
}
