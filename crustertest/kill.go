package crustertest

import (
	"context"
	"errors"
	"sync"

	"github.com/cruster-go/cruster/crustertype"
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
// from the chosen commit on, it neither reads nor writes.
type mortal struct {
	storage.Store

	mu      sync.Mutex
	commits int
	dieAt   int // number of the commit at which the process dies; 0: never
	when    When
	dead    bool
	killed  chan struct{}
}

func newMortal(s storage.Store) *mortal { return &mortal{Store: s, killed: make(chan struct{})} }

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

func (m *mortal) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return ErrKilled
	}
	return nil
}

// commit wraps one commit of the process.
func (m *mortal) commit(apply func() error) error {
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
	m.mu.Lock()
	defer m.mu.Unlock()
	if dies {
		m.killLocked()
	}
	if m.dead {
		return ErrKilled
	}
	return err
}

func (m *mortal) Commit(ctx context.Context, units []storage.Unit) (res []storage.Result, err error) {
	err = m.commit(func() error {
		res, err = m.Store.Commit(ctx, units)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (m *mortal) Begin(ctx context.Context) (storage.Tx, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	tx, err := m.Store.Begin(ctx)
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
	if err := t.m.alive(); err != nil {
		return 0, err
	}
	return t.Tx.Exec(ctx, query, args...)
}

func (t *mortalTx) Commit(ctx context.Context, u storage.Unit) (res storage.Result, err error) {
	err = t.m.commit(func() error {
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

func (m *mortal) Message(ctx context.Context, id crustertype.RequestID) (crustertype.Message, error) {
	if err := m.alive(); err != nil {
		return crustertype.Message{}, err
	}
	return m.Store.Message(ctx, id)
}

func (m *mortal) Pending(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	return m.Store.Pending(ctx, q)
}

func (m *mortal) Unregister(ctx context.Context, inc crustertype.Incarnation) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.Store.Unregister(ctx, inc)
}

// Close does nothing: the store outlives the process.
func (m *mortal) Close() error { return nil }
