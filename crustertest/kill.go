package crustertest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cruster-go/cruster/storage"
)

// ErrKilled is what a killed process gets from its storage.
var ErrKilled = errors.New("crustertest: the process was killed")

// When says on which side of a commit a process dies.
type When int

// The sides of a commit.
const (
	BeforeCommit When = iota + 1 // the commit is lost
	AfterCommit                  // it is durable, and nobody hears of it
)

// String returns "before" or "after".
func (w When) String() string {
	if w == BeforeCommit {
		return "before"
	}
	return "after"
}

// mortal is one process's view of a store that outlives it. After kill, and
// from the chosen commit on, it neither reads nor writes. While it is paused its
// calls hang, those under way before their answer comes.
type mortal struct {
	store storage.Store

	mu      sync.Mutex
	commits int
	dieAt   int // number of the commit at which the process dies; 0: never
	when    When
	dead    bool
	killed  chan struct{}
	resumed chan struct{} // closed by resume; nil: the process is not paused
	delay   time.Duration // of each way to the store
}

var _ storage.Store = (*mortal)(nil)

func newMortal(s storage.Store) *mortal { return &mortal{store: s, killed: make(chan struct{})} }

func (m *mortal) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.killLocked()
}

func (m *mortal) killLocked() {
	if !m.dead {
		m.dead = true
		close(m.killed)
	}
}

func (m *mortal) pause() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resumed == nil {
		m.resumed = make(chan struct{})
	}
}

func (m *mortal) resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resumed != nil {
		close(m.resumed)
		m.resumed = nil
	}
}

func (m *mortal) slow(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delay = d
}

func (m *mortal) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return ErrKilled
	}
	return nil
}

// pass is the way to the store, or back from it: it takes as long as that is
// slow and the process is paused. It reports why the call gets no further.
func (m *mortal) pass(ctx context.Context) error {
	m.mu.Lock()
	delay := m.delay
	m.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-m.killed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		m.mu.Lock()
		dead, resumed := m.dead, m.resumed
		m.mu.Unlock()
		switch {
		case dead:
			return ErrKilled
		case resumed == nil:
			return nil
		}
		select {
		case <-resumed:
		case <-m.killed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// through makes a call that has a result.
func through[T any](ctx context.Context, m *mortal, call func() (T, error)) (v T, err error) {
	err = m.through(ctx, func() error {
		v, err = call()
		return err
	})
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// through makes a call. When it fails on the way back, it has happened.
func (m *mortal) through(ctx context.Context, call func() error) error {
	if err := m.pass(ctx); err != nil {
		return err
	}
	err := call()
	if lost := m.pass(ctx); lost != nil {
		return lost
	}
	return err
}

// commit wraps one commit of the process.
func (m *mortal) commit(ctx context.Context, apply func() error) error {
	return m.through(ctx, func() error {
		m.mu.Lock()
		if m.dead {
			m.mu.Unlock()
			return ErrKilled
		}
		m.commits++
		dies := m.commits == m.dieAt
		if dies && m.when == BeforeCommit {
			m.killLocked()
			m.mu.Unlock()
			return ErrKilled
		}
		m.mu.Unlock()
		err := apply()
		if dies {
			m.kill()
		}
		return err
	})
}

// Commit implements [storage.Writer].
func (m *mortal) Commit(ctx context.Context, units []storage.Unit) (res []storage.Result, err error) {
	err = m.commit(ctx, func() error {
		res, err = m.store.Commit(ctx, units)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// Begin implements [storage.Writer].
func (m *mortal) Begin(ctx context.Context) (storage.Tx, error) {
	tx, err := through(ctx, m, func() (storage.Tx, error) { return m.store.Begin(ctx) })
	if err != nil {
		return nil, err
	}
	return &mortalTx{Tx: tx, m: m}, nil
}

type mortalTx struct {
	storage.Tx
	m *mortal
}

func (t *mortalTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	return through(ctx, t.m, func() (int64, error) { return t.Tx.Exec(ctx, query, args...) })
}

func (t *mortalTx) Query(ctx context.Context, query string, args ...any) (storage.Rows, error) {
	return through(ctx, t.m, func() (storage.Rows, error) { return t.Tx.Query(ctx, query, args...) })
}

func (t *mortalTx) Commit(ctx context.Context, u storage.Unit) (res storage.Result, err error) {
	err = t.m.commit(ctx, func() error {
		res, err = t.Tx.Commit(ctx, u)
		return err
	})
	if errors.Is(err, ErrKilled) {
		_ = t.Tx.Rollback(context.WithoutCancel(ctx)) // a dead process's transaction is undone
	}
	return res, err
}

// Unwrap returns the transaction of the real store, for adapters that offer
// their native type.
func (t *mortalTx) Unwrap() storage.Tx { return t.Tx }

// Close does nothing: the store outlives the process.
func (m *mortal) Close() error { return nil }

// Info implements [storage.Store].
func (m *mortal) Info() storage.Info { return m.store.Info() }
