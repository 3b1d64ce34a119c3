package sqlite

import (
	"container/list"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
)

// writer is the connection that writes. In memory it is the only one, and the
// statements of reads come in between those of an open transaction.
//
// Two things are held in order: the turn, by who has a transaction, and the
// connection's lock (of database/sql), by who runs a statement.
type writer struct {
	turn   chan struct{} // full while somebody has the turn
	busy   time.Duration // how long to wait for other programs
	db     *sql.DB
	sc     *sql.Conn // for users' statements: database/sql converts their values
	c      *conn     // the same connection, for ours
	users  *stmtCache
	holder atomic.Pointer[txn] // the handler's transaction that has the turn, if one has
	guard  guard               // under the connection's lock
	dirty  bool                // an open transaction has written our tables; under the connection's lock
}

// dsn names a file to the driver. Times that users pass are stored as text.
func dsn(path, options string) string {
	if path == "" {
		return ":memory:?" + timeOptions
	}
	escaped := (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()
	return "file:" + escaped + "?" + timeOptions + options
}

const timeOptions = "_time_format=sqlite&_timezone=UTC"

func openWriter(ctx context.Context, path string, o Options, count *atomic.Int64) (*writer, error) {
	connector, err := sqlite.NewConnector(dsn(path, ""))
	if err != nil {
		return nil, err
	}
	w := &writer{turn: make(chan struct{}, 1), busy: o.BusyTimeout, db: sql.OpenDB(connector), users: newStmtCache()}
	w.db.SetMaxOpenConns(1)
	if w.sc, err = w.db.Conn(ctx); err != nil {
		return nil, errors.Join(explain(err), w.db.Close())
	}
	err = w.sc.Raw(func(raw any) error {
		w.c = newConn(raw.(driver.Conn), count)
		if err := w.configure(ctx, path, o); err != nil {
			return err
		}
		return raw.(sqlite.AuthorizerRegisterer).RegisterAuthorizer(w.guard.decide)
	})
	if err != nil {
		return nil, errors.Join(explain(err), w.close())
	}
	return w, nil
}

// configure sets what belongs to a connection and not to the file, except for
// WAL. Waiting for other programs is done in begin, in a way that ends with the
// context.
func (w *writer) configure(ctx context.Context, path string, o Options) error {
	pragmas := []string{"busy_timeout = 5000", "foreign_keys = ON", "temp_store = MEMORY"}
	if path != "" {
		synchronous := "FULL"
		if o.Synchronous == Normal {
			synchronous = "NORMAL"
		}
		pragmas = append(pragmas, "synchronous = "+synchronous, "cache_size = -16000", "journal_size_limit = 67108864")
		mode := ""
		if err := w.c.once(ctx, "PRAGMA journal_mode = WAL", func(r *row) error { mode = r.text(); return nil }); err != nil {
			return err
		}
		if !strings.EqualFold(mode, "wal") {
			return fmt.Errorf("the file cannot be put into WAL mode, it stays in %q: is it on a network file system?", mode)
		}
	}
	for _, p := range append(pragmas, "busy_timeout = 0") {
		if err := w.c.once(ctx, "PRAGMA "+p, func(*row) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// once runs a statement that is not counted.
func (c *conn) once(ctx context.Context, query string, each func(r *row) error) error {
	c.count.Add(-1)
	return c.queryOnce(ctx, query, each)
}

func (w *writer) close() error {
	w.users.close()
	var errs []error
	if w.c != nil {
		errs = append(errs, w.do(func(c *conn) error {
			var errs []error
			for _, p := range c.stmts {
				errs = append(errs, p.Close())
			}
			c.stmts = nil
			return errors.Join(errs...)
		}))
	}
	if w.sc != nil {
		errs = append(errs, w.sc.Close())
	}
	return errors.Join(append(errs, w.db.Close())...)
}

// acquire waits for the turn.
func (w *writer) acquire(ctx context.Context) error {
	select {
	case w.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// acquireFrom waits for the turn, and ends the transaction of a handler that
// keeps it for too long.
func (w *writer) acquireFrom(ctx context.Context, cause error) error {
	t := time.NewTimer(cutAfter)
	defer t.Stop()
	for {
		select {
		case w.turn <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			if h := w.holder.Load(); h != nil {
				h.end(ctx, cause)
			}
			t.Reset(cutAfter)
		}
	}
}

func (w *writer) release() { <-w.turn }

// do runs f with the connection locked. Statements are ours in it.
func (w *writer) do(f func(c *conn) error) error {
	return w.sc.Raw(func(any) error {
		w.guard.ours = true
		defer func() { w.guard.ours = false }()
		return f(w.c)
	})
}

// The statements that begin and end transactions.
const (
	begin    = "BEGIN IMMEDIATE"
	commit   = "COMMIT"
	rollback = "ROLLBACK"
)

// begin begins a transaction, waiting for other programs that write. The caller
// has the turn and the connection.
func (w *writer) begin(ctx context.Context) error {
	plain := context.WithoutCancel(ctx)
	err := w.c.control(plain, begin)
	if !isBusy(err) || w.busy <= 0 {
		return err
	}
	end := time.Now().Add(w.busy)
	t := time.NewTimer(time.Millisecond)
	defer t.Stop()
	for pause := time.Millisecond; isBusy(err) && time.Now().Before(end); pause = min(2*pause, 50*time.Millisecond) {
		t.Reset(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		err = w.c.control(plain, begin)
	}
	return err
}

// rollback ends a transaction. SQLite has done so itself after some errors.
func (w *writer) rollback(ctx context.Context) {
	w.dirty = false
	_ = w.c.control(ctx, rollback) // an error says that there is no transaction
}

// lost reports whether SQLite has rolled the transaction back by itself.
func (w *writer) lost(ctx context.Context) bool {
	if w.c.control(ctx, "BEGIN") != nil {
		return false // within a transaction it fails
	}
	w.rollback(ctx)
	return true
}

// commit commits, or rolls back.
func (w *writer) commit(ctx context.Context, commits *atomic.Int64) error {
	err := w.c.control(ctx, commit)
	if err != nil {
		w.rollback(ctx)
		return explainCommit(err)
	}
	w.dirty = false
	commits.Add(1)
	return nil
}

// write runs f in a transaction of its own.
func (s *Store) write(ctx context.Context, f func(c *conn) error) error {
	if err := s.w.acquire(ctx); err != nil {
		return err
	}
	defer s.w.release()
	return s.writeNow(ctx, f)
}

// writeNow is write for who has the turn.
func (s *Store) writeNow(ctx context.Context, f func(c *conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.w.do(func(c *conn) error {
		if err := s.w.begin(ctx); err != nil {
			return explain(err)
		}
		plain := context.WithoutCancel(ctx)
		if err := f(c); err != nil {
			s.w.rollback(plain)
			return explain(err)
		}
		return s.w.commit(plain, &s.commits)
	})
}

// stmtCache keeps users' statements prepared, the most recent ones.
type stmtCache struct {
	byText map[string]*list.Element
	recent *list.List // of *userStmt, newest first
}

type userStmt struct {
	text string
	*sql.Stmt
}

const maxUserStmts = 200

func newStmtCache() *stmtCache {
	return &stmtCache{byText: make(map[string]*list.Element), recent: list.New()}
}

func (s *stmtCache) get(ctx context.Context, sc *sql.Conn, text string) (*sql.Stmt, error) {
	if e := s.byText[text]; e != nil {
		s.recent.MoveToFront(e)
		return e.Value.(*userStmt).Stmt, nil
	}
	st, err := sc.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.byText[text] = s.recent.PushFront(&userStmt{text, st})
	if s.recent.Len() > maxUserStmts {
		s.drop(s.recent.Back())
	}
	return st, nil
}

func (s *stmtCache) drop(e *list.Element) {
	u := s.recent.Remove(e).(*userStmt)
	delete(s.byText, u.text)
	_ = u.Close() // closing a statement that is not running cannot fail
}

func (s *stmtCache) close() {
	for s.recent.Len() > 0 {
		s.drop(s.recent.Back())
	}
}
