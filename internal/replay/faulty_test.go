package replay_test

import (
	"context"
	"errors"
	"sync"

	"github.com/cruster-go/cruster/storage"
)

var errCrash = errors.New("the process dies here")

// faulty is a store whose n-th write after arm kills the process: it is refused,
// and so is everything after it.
type faulty struct {
	storage.Store
	after int

	mu    sync.Mutex
	armed bool
	n     int
	dead  bool
	f     func()
}

func (s *faulty) onFault(f func()) { s.f = f }

func (s *faulty) arm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = true
}

func (s *faulty) disarm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed, s.dead = false, false
}

func (s *faulty) write() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.armed {
		return nil
	}
	if s.n++; s.n >= s.after {
		if !s.dead {
			s.dead = true
			go s.f()
		}
		return &storage.TransientError{Err: errCrash}
	}
	return nil
}

func (s *faulty) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	if err := s.write(); err != nil {
		return nil, err
	}
	return s.Store.Commit(ctx, units)
}

func (s *faulty) Begin(ctx context.Context) (storage.Tx, error) {
	tx, err := s.Store.Begin(ctx)
	return &faultyTx{Tx: tx, s: s}, err
}

type faultyTx struct {
	storage.Tx
	s *faulty
}

func (t *faultyTx) Commit(ctx context.Context, u storage.Unit) (storage.Result, error) {
	if err := t.s.write(); err != nil {
		return storage.Result{}, err
	}
	return t.Tx.Commit(ctx, u)
}
