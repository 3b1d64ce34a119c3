package replay_test

import (
	"context"
	"errors"
	"sync"

	"github.com/cruster-go/cruster/storage"
)

var errCrash = errors.New("the process dies here")

// faulty is a store whose n-th write after arm kills the process: it fails, and
// so does everything after it.
type faulty struct {
	storage.Store
	after   int
	applied bool // the n-th write happens, only its answer is lost
	once    bool // later writes work

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

// write says what becomes of a write: whether it happens, and the error.
func (s *faulty) write() (happens bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.armed {
		return true, nil
	}
	s.n++
	if s.n < s.after || s.once && s.n > s.after {
		return true, nil
	}
	if !s.dead {
		s.dead = true
		go s.f()
	}
	return s.applied && s.n == s.after, &storage.TransientError{Err: errCrash, Unknown: true}
}

func (s *faulty) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	happens, lost := s.write()
	if !happens {
		return nil, lost
	}
	res, err := s.Store.Commit(ctx, units)
	if lost != nil {
		return nil, lost
	}
	return res, err
}

func (s *faulty) Begin(ctx context.Context) (storage.Tx, error) {
	tx, err := s.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyTx{Tx: tx, s: s}, nil
}

type faultyTx struct {
	storage.Tx
	s *faulty
}

func (t *faultyTx) Commit(ctx context.Context, u storage.Unit) (storage.Result, error) {
	happens, lost := t.s.write()
	if !happens {
		_ = t.Tx.Rollback(ctx)
		return storage.Result{}, lost
	}
	res, err := t.Tx.Commit(ctx, u)
	if lost != nil {
		return storage.Result{}, lost
	}
	return res, err
}
