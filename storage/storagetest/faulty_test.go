package storagetest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/storage/storagetest"
)

func one() ([]storage.Unit, crustertype.RequestID) {
	m := crustertype.Message{ID: crustertype.NewRequestID(), State: crustertype.MessagePending, Address: crustertype.Address{Type: "t", ID: "i"}}
	return []storage.Unit{{Accepts: []crustertype.Message{m}}}, m.ID
}

func TestFaultyFollowsItsScript(t *testing.T) {
	t.Parallel()
	s := storagetest.Faulty(memory.New(), storagetest.Script{Faults: map[int]storagetest.Fault{
		1: storagetest.FailBefore, 2: storagetest.FailAfter, 4: storagetest.Serialization, 5: storagetest.ConnectionLost,
	}})
	t.Cleanup(func() { closeStore(t, s) })
	for n, want := range []struct{ fails, unknown, written bool }{
		{true, false, false}, {true, true, true}, {false, false, true}, {true, false, false}, {true, true, false}, {false, false, true},
	} {
		units, id := one()
		var err error
		if n%2 == 0 {
			_, err = s.Commit(t.Context(), units)
		} else {
			tx, beginErr := s.Begin(t.Context())
			if beginErr != nil {
				t.Fatal(beginErr)
			}
			_, err = tx.Commit(t.Context(), units[0])
			if _, again := tx.Commit(t.Context(), units[0]); !errors.Is(again, storage.ErrTxDone) {
				t.Errorf("second commit of transaction %d = %v, want ErrTxDone", n+1, again)
			}
		}
		var tr *storage.TransientError
		if failed := errors.As(err, &tr); failed != want.fails || failed && tr.Unknown != want.unknown || !failed && err != nil {
			t.Errorf("commit %d = %v, want %+v", n+1, err, want)
		}
		if _, err := s.Message(t.Context(), id); (err == nil) != want.written {
			t.Errorf("after commit %d Message = %v, want %+v", n+1, err, want)
		}
	}
}

func TestFaultyCallsItsHooks(t *testing.T) {
	t.Parallel()
	var ops []string
	no := errors.New("no")
	s := storagetest.Faulty(memory.New(), storagetest.Script{
		Before: func(n int, op string) error {
			ops = append(ops, op)
			if op == storagetest.OpCommit && n == 2 {
				return no
			}
			return nil
		},
		After: func(_ int, op string, err error) error {
			if op == storagetest.OpTakeOver {
				return no
			}
			return err
		},
	})
	t.Cleanup(func() { closeStore(t, s) })
	ctx := t.Context()
	first, _ := one()
	second, refused := one()
	if _, err := s.Commit(ctx, first); err != nil {
		t.Errorf("commit 1 = %v", err)
	}
	if _, err := s.Commit(ctx, second); !errors.Is(err, no) {
		t.Errorf("commit 2 = %v, want the hook's error", err)
	}
	if _, err := s.Message(ctx, refused); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("what the hook refused was written: %v", err)
	}
	inc, err := s.Register(ctx, storage.Runner{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Renew(ctx, inc, false, time.Hour); err != nil {
		t.Error(err)
	}
	shard := crustertype.Shard{Group: "g", Index: 1}
	if _, err := s.TakeOver(ctx, storage.TakeOver{By: inc, Shards: []crustertype.Shard{shard}}); !errors.Is(err, no) {
		t.Errorf("TakeOver = %v, want the hook's error", err)
	}
	leases, err := s.Owners(ctx, []crustertype.Shard{shard})
	if err != nil || leases[0].Owner != inc {
		t.Errorf("Owners = %v, %v: the take-over happened before its answer was lost", leases, err)
	}
	if _, err := s.HandOver(ctx, leases, 0); err != nil {
		t.Error(err)
	}
	if err := s.Unregister(ctx, inc); err != nil {
		t.Error(err)
	}
	tx, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(ctx, storage.Unit{}); err != nil {
		t.Error(err)
	}
	want := []string{"Commit", "Commit", "Register", "Renew", "TakeOver", "HandOver", "Unregister", "Begin", "Tx.Commit"}
	if !slices.Equal(ops, want) {
		t.Errorf("hooks saw %v, want %v", ops, want)
	}
	if n := s.Commits(); n != 3 {
		t.Errorf("Commits() = %d, want 3: those of transactions are counted too", n)
	}
	if st := s.Stats(); st.Commits != 2 {
		t.Errorf("Stats().Commits = %d, want 2", st.Commits)
	}
}

func TestFaultyStallsUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := storagetest.Faulty(memory.New(), storagetest.Script{})
		units, id := one()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begin := time.Now()
		s.Inject(storagetest.Stall)
		if _, err := s.Commit(ctx, units); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stalled Commit = %v, want DeadlineExceeded", err)
		}
		if took := time.Since(begin); took != time.Hour {
			t.Errorf("Commit stalled for %v, want until its context ended", took)
		}
		if _, err := s.Message(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a stalled Commit wrote: %v", err)
		}
		closeStore(t, s)
	})
}

// TestFaultyKeepsTheContract shows that the wrapper adds no fault of its own.
func TestFaultyKeepsTheContract(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(*testing.T) storagetest.Harness {
		s := storagetest.Faulty(memory.New(), storagetest.Script{})
		return storagetest.Harness{Store: s, Inject: s.Inject}
	})
}
