package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/storage"
)

// Synchronous says when a commit is acknowledged.
type Synchronous int

const (
	// Full acknowledges a commit when it is on the disk. It is the default.
	Full Synchronous = iota
	// Normal acknowledges a commit when the operating system has it: it
	// survives the end of the process, but the last commits may be lost when
	// the machine stops. The file stays consistent.
	Normal
)

// Options configure a store. The zero value is the default.
type Options struct {
	// Synchronous says when a commit is acknowledged; default Full.
	Synchronous Synchronous
	// BusyTimeout is how long a transaction waits for another program that
	// writes to the file; default 5 s, -1 not at all.
	BusyTimeout time.Duration
	// Readers is how many connections cruster's own reads may use; default 4.
	// [Store.DB] has its own.
	Readers int
}

const (
	defaultBusyTimeout = 5 * time.Second
	defaultReaders     = 4
	// cutAfter is how long a take-over waits for a transaction that does not end.
	cutAfter = 200 * time.Millisecond
)

func (o *Options) withDefaults() (Options, error) {
	var v Options
	if o != nil {
		v = *o
	}
	if v.Synchronous != Full && v.Synchronous != Normal {
		return v, fmt.Errorf("sqlite: Options.Synchronous is %d: use Full or Normal", v.Synchronous)
	}
	if v.Readers < 0 {
		return v, fmt.Errorf("sqlite: Options.Readers is %d: use a positive number, or 0 for the default", v.Readers)
	}
	if v.BusyTimeout == 0 {
		v.BusyTimeout = defaultBusyTimeout
	}
	v.BusyTimeout = max(v.BusyTimeout, 0)
	if v.Readers == 0 {
		v.Readers = defaultReaders
	}
	return v, nil
}

// Store is one SQLite database. It implements [storage.Store].
type Store struct {
	opts Options
	path string // resolved; "" in memory
	lock *fileLock
	w    *writer

	readers chan *conn // idle readers; nil stands for one that is not connected yet. Nil in memory

	dbOnce sync.Once
	db     *sql.DB

	mu      sync.Mutex // guards closed against enter
	closed  bool
	calls   sync.WaitGroup
	closing chan struct{} // closed when Close is done
	err     error         // of Close

	commits, statements, units atomic.Int64
}

var _ storage.Store = (*Store)(nil)

// Open opens the database in the file at path, or creates it. The caller closes
// the store.
//
// It fails when another store has the file open, in this process or another
// one, and when the file is not a database that this version of cruster can
// use; the file is then left as it is.
func Open(path string, o *Options) (*Store, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	resolved, err := resolve(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %q: %w", path, err)
	}
	lock, err := lockFile(resolved)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %q: %w", path, err)
	}
	s := &Store{opts: opts, path: resolved, lock: lock, closing: make(chan struct{})}
	if err := s.open(context.Background()); err != nil { //nolint:forbidigo // it waits for nothing but the disk
		return nil, errors.Join(fmt.Errorf("sqlite: open %q: %w", path, err), lock.unlock())
	}
	return s, nil
}

// OpenMemory makes an empty database that lives until the store is closed. It
// has everything a file has but durability, waits on channels and timers only,
// and so works inside the bubbles of testing/synctest.
func OpenMemory() (*Store, error) {
	opts, err := (*Options)(nil).withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{opts: opts, closing: make(chan struct{})}
	if err := s.open(context.Background()); err != nil { //nolint:forbidigo // as above
		return nil, fmt.Errorf("sqlite: open in memory: %w", err)
	}
	return s, nil
}

// open checks the file, connects the writer and brings the tables up to date.
func (s *Store) open(ctx context.Context) error {
	all, err := migrations()
	if err != nil {
		return err
	}
	if s.path != "" {
		if err := check(ctx, s.path, all); err != nil {
			return err
		}
		s.readers = make(chan *conn, s.opts.Readers)
		for range s.opts.Readers {
			s.readers <- nil
		}
	}
	if s.w, err = openWriter(ctx, s.path, s.opts, &s.statements); err != nil {
		return err
	}
	if err := s.w.migrate(ctx, all); err != nil {
		return errors.Join(explain(err), s.w.close())
	}
	return nil
}

// Info describes the store.
func (s *Store) Info() storage.Info {
	return storage.Info{Name: "sqlite", Durable: s.path != "", SQL: true}
}

// Stats counts what the store has done since it was opened, the statements of
// users in transactions included, reads through DB not.
func (s *Store) Stats() storage.Stats {
	return storage.Stats{Commits: s.commits.Load(), Statements: s.statements.Load(), Units: s.units.Load()}
}

// DB returns a pool for reading, at any time and from any goroutine. Statements
// that write fail. It sees what has been committed. The store closes it.
//
// Of a file, reads wait for nobody; a long one keeps the WAL file from
// shrinking. In memory there is a single connection, so a read waits until an
// open transaction has ended, 5 seconds at most: inside a transaction, read
// through the transaction.
func (s *Store) DB() *sql.DB {
	s.dbOnce.Do(func() { s.db = s.openDB() })
	return s.db
}

// enter begins a call.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) leave() { s.calls.Done() }

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close waits for calls under way, rolls open transactions of handlers back and
// closes the file.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		<-s.closing
		return s.err
	}
	defer close(s.closing)
	if t := s.w.holder.Load(); t != nil {
		t.end(context.Background(), storage.ErrClosed) //nolint:forbidigo // Close has none
	}
	s.calls.Wait()
	var errs []error
	errs = append(errs, s.DB().Close())
	for range cap(s.readers) {
		if c := <-s.readers; c != nil {
			errs = append(errs, c.close())
		}
	}
	errs = append(errs, s.w.close())
	if s.lock != nil {
		errs = append(errs, s.lock.unlock())
	}
	s.err = errors.Join(errs...)
	return s.err
}
