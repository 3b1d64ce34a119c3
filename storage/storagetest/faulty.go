package storagetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// Fault is a way in which a commit meets trouble.
type Fault int

// The faults.
const (
	NoFault        Fault = iota
	FailBefore           // nothing is written; a transient error
	FailAfter            // all is written, then the answer is lost: transient, Unknown
	Stall                // nothing is written; the call returns when its context ends
	Serialization        // nothing is written; the database asks to try again
	ConnectionLost       // nothing is written, but nobody can know: transient, Unknown
)

var faultNames = [...]string{"none", "fail before", "fail after", "stall", "serialization failure", "connection lost"}

// String returns a few words.
func (f Fault) String() string {
	if f >= 0 && int(f) < len(faultNames) {
		return faultNames[f]
	}
	return "unknown"
}

// Operations as [Script] names them.
const (
	OpCommit     = "Commit"
	OpTxCommit   = "Tx.Commit"
	OpBegin      = "Begin"
	OpRegister   = "Register"
	OpRenew      = "Renew"
	OpUnregister = "Unregister"
	OpTakeOver   = "TakeOver"
	OpHandOver   = "HandOver"
)

// Script says which operations of a [FaultyStore] fail, and how. Operations
// are counted from 1; OpCommit and OpTxCommit share one count, each other
// operation has its own.
type Script struct {
	// Faults are met by the commits with these numbers.
	Faults map[int]Fault

	// Before is called before an operation. When it returns an error, the
	// operation does not happen and returns that error. It may block, and is
	// called concurrently.
	Before func(n int, op string) error

	// After is called when an operation has happened and returned err. What it
	// returns takes err's place: it can hide a success, as a lost answer does,
	// or let a test look at the store at every point where it changes.
	After func(n int, op string, err error) error
}

// FaultyStore is a store whose writes fail by a script. Reads go through.
type FaultyStore struct {
	storage.Store
	script Script

	mu     sync.Mutex
	counts map[string]int
	next   Fault
}

// Faulty wraps store so that its writes follow script.
func Faulty(store storage.Store, script Script) *FaultyStore {
	return &FaultyStore{Store: store, script: script, counts: make(map[string]int)}
}

// Inject makes the next commit meet f, in place of what the script says.
func (s *FaultyStore) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = f
}

// Commits returns how many commits were begun, by Commit and by Tx.Commit.
func (s *FaultyStore) Commits() int { return s.Count(OpCommit) }

// Count returns how many operations of a name were begun.
func (s *FaultyStore) Count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[counted(op)]
}

// Stats returns what the store inside counts, if it does.
func (s *FaultyStore) Stats() storage.Stats {
	if c, ok := s.Store.(interface{ Stats() storage.Stats }); ok {
		return c.Stats()
	}
	return storage.Stats{}
}

// Unwrap returns the store inside.
func (s *FaultyStore) Unwrap() storage.Store { return s.Store }

func counted(op string) string {
	if op == OpTxCommit {
		return OpCommit
	}
	return op
}

// do runs one operation by the script. undo ends a transaction that a fault
// keeps from committing; it may be nil.
func (s *FaultyStore) do(ctx context.Context, op string, run func() error, undo func()) error {
	s.mu.Lock()
	s.counts[counted(op)]++
	n, fault := s.counts[counted(op)], NoFault
	if counted(op) == OpCommit {
		if fault = s.next; fault == NoFault {
			fault = s.script.Faults[n]
		}
		s.next = NoFault
	}
	s.mu.Unlock()

	err := error(nil)
	if s.script.Before != nil {
		err = s.script.Before(n, op)
	}
	if err == nil {
		err = before(ctx, fault)
	}
	if err != nil {
		if undo != nil {
			undo()
		}
		return err
	}
	if err = run(); err == nil && fault == FailAfter {
		err = &storage.TransientError{Err: errors.New("injected: the answer to the commit was lost"), Unknown: true}
	}
	if s.script.After != nil {
		err = s.script.After(n, op, err)
	}
	return err
}

// before returns the error of a fault that keeps a commit from happening.
func before(ctx context.Context, f Fault) error {
	switch f {
	case FailBefore:
		return &storage.TransientError{Err: errors.New("injected: the database does not answer")}
	case Stall:
		<-ctx.Done()
		return ctx.Err()
	case Serialization:
		return &storage.TransientError{Err: errors.New("injected: serialization failure")}
	case ConnectionLost:
		return &storage.TransientError{Err: errors.New("injected: connection lost"), Unknown: true}
	}
	return nil
}

// Commit commits by the script.
func (s *FaultyStore) Commit(ctx context.Context, units []storage.Unit) (results []storage.Result, err error) {
	err = s.do(ctx, OpCommit, func() (err error) {
		results, err = s.Store.Commit(ctx, units)
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return results, nil
}

// Begin returns a transaction whose Commit follows the script.
func (s *FaultyStore) Begin(ctx context.Context) (tx storage.Tx, err error) {
	err = s.do(ctx, OpBegin, func() (err error) {
		tx, err = s.Store.Begin(ctx)
		return err
	}, nil)
	if err != nil {
		if tx != nil {
			err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
		}
		return nil, err
	}
	return &faultyTx{Tx: tx, store: s}, nil
}

// Register registers by the script.
func (s *FaultyStore) Register(ctx context.Context, r storage.Runner, ttl time.Duration) (inc crustertype.Incarnation, err error) {
	err = s.do(ctx, OpRegister, func() (err error) {
		inc, err = s.Store.Register(ctx, r, ttl)
		return err
	}, nil)
	return inc, err
}

// Renew renews by the script.
func (s *FaultyStore) Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
	return s.do(ctx, OpRenew, func() error { return s.Store.Renew(ctx, inc, draining, ttl) }, nil)
}

// Unregister unregisters by the script.
func (s *FaultyStore) Unregister(ctx context.Context, inc crustertype.Incarnation) error {
	return s.do(ctx, OpUnregister, func() error { return s.Store.Unregister(ctx, inc) }, nil)
}

// TakeOver takes over by the script.
func (s *FaultyStore) TakeOver(ctx context.Context, t storage.TakeOver) (leases []crustertype.Lease, err error) {
	err = s.do(ctx, OpTakeOver, func() (err error) {
		leases, err = s.Store.TakeOver(ctx, t)
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return leases, nil
}

// HandOver hands over by the script.
func (s *FaultyStore) HandOver(ctx context.Context, leases []crustertype.Lease, to crustertype.Incarnation) (given []crustertype.Lease, err error) {
	err = s.do(ctx, OpHandOver, func() (err error) {
		given, err = s.Store.HandOver(ctx, leases, to)
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return given, nil
}

// faultyTx is a transaction of a FaultyStore.
type faultyTx struct {
	storage.Tx
	store *FaultyStore
	done  bool
}

// Unwrap returns the transaction inside, for native access.
func (t *faultyTx) Unwrap() storage.Tx { return t.Tx }

// Rollback ends the transaction.
func (t *faultyTx) Rollback(ctx context.Context) error {
	t.done = true
	return t.Tx.Rollback(ctx)
}

// Commit commits by the script. A fault rolls back. Committing a transaction
// that is over is not counted.
func (t *faultyTx) Commit(ctx context.Context, unit storage.Unit) (res storage.Result, err error) {
	if t.done {
		return t.Tx.Commit(ctx, unit)
	}
	t.done = true
	err = t.store.do(ctx, OpTxCommit, func() (err error) {
		res, err = t.Tx.Commit(ctx, unit)
		return err
	}, func() {
		// The fault is what the caller learns; a rollback that fails as well
		// leaves the transaction to the store.
		_ = t.Tx.Rollback(context.WithoutCancel(ctx))
	})
	if err != nil {
		return storage.Result{}, err
	}
	return res, nil
}
