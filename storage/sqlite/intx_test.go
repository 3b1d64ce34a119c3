package sqlite_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// send puts a message into the outbox of ctx.
func send(t *testing.T, ctx context.Context, m crustertype.Message, committed func()) error {
	t.Helper()
	box := storage.OutboxFrom(ctx)
	if box == nil {
		t.Fatal("no outbox in the context")
	}
	box.OnCommit(committed)
	_, err := box.Send(ctx, storage.Unit{Accepts: []crustertype.Message{m}})
	return err
}

func stored(t *testing.T, s *sqlite.Store, m crustertype.Message) bool {
	t.Helper()
	_, err := s.Message(t.Context(), m.ID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestInTxCommitsSendsWithTheRows(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		mustExec(t, s, `CREATE TABLE t (x)`)
		m, hooks := message(), 0
		var box storage.Outbox
		if err := sqlite.InTx(t.Context(), s, func(ctx context.Context, tx *sqlite.Transaction) error {
			box = storage.OutboxFrom(ctx)
			if same, err := sqlite.Tx(ctx); err != nil || same != tx {
				t.Errorf("Tx(ctx) inside InTx = %v, %v", same, err)
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO t VALUES ($1)`, 1); err != nil {
				return err
			}
			if err := send(t, ctx, m, func() {
				hooks++
				if !stored(t, s, m) {
					t.Error("OnCommit was called before the commit")
				}
			}); err != nil {
				return err
			}
			res, err := box.Send(ctx, storage.Unit{Accepts: []crustertype.Message{m}})
			if err != nil || len(res.Accepts) != 1 || res.Accepts[0].Existing == nil {
				t.Errorf("Send again = %+v, %v, want the stored message", res, err)
			}
			refused := storage.Unit{Accepts: []crustertype.Message{message()}, Steps: make([]storage.StepWrite, 1)}
			if _, err := box.Send(ctx, refused); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Send of a unit that is refused = %v", err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if hooks != 1 || !stored(t, s, m) || count(t, s, `SELECT count(*) FROM t`) != 1 || count(t, s, `SELECT count(*) FROM cruster_message`) != 1 {
			t.Errorf("hooks called %d times, message stored: %v", hooks, stored(t, s, m))
		}
		if _, err := box.Send(t.Context(), storage.Unit{}); !errors.Is(err, storage.ErrTxDone) {
			t.Errorf("Send after the commit = %v, want ErrTxDone", err)
		}
	})
}

func TestInTxRollsBack(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		mustExec(t, s, `CREATE TABLE t (x)`)
		failure := errors.New("no")
		m := message()
		work := func(ctx context.Context, tx *sqlite.Transaction) error {
			if _, err := tx.ExecContext(ctx, `INSERT INTO t VALUES (1)`); err != nil {
				return err
			}
			return send(t, ctx, m, func() { t.Error("OnCommit was called") })
		}
		if err := sqlite.InTx(t.Context(), s, func(ctx context.Context, tx *sqlite.Transaction) error {
			return errors.Join(work(ctx, tx), failure)
		}); !errors.Is(err, failure) {
			t.Errorf("InTx() = %v, want the function's error", err)
		}
		func() {
			defer func() {
				if r := recover(); r != "bang" {
					t.Errorf("recovered %v, want the function's panic", r)
				}
			}()
			_ = sqlite.InTx(t.Context(), s, func(ctx context.Context, tx *sqlite.Transaction) error {
				if err := work(ctx, tx); err != nil {
					return err
				}
				panic("bang")
			})
		}()
		ctx, cancel := context.WithCancel(t.Context())
		if err := sqlite.InTx(ctx, s, func(ctx context.Context, tx *sqlite.Transaction) error {
			defer cancel()
			return work(ctx, tx)
		}); !errors.Is(err, context.Canceled) {
			t.Errorf("InTx whose context ends = %v", err)
		}
		if stored(t, s, m) || count(t, s, `SELECT count(*) FROM t`) != 0 {
			t.Error("a transaction that was rolled back left something behind")
		}
	})
}

func TestUncommittedSendsAreNotSeen(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		m := message()
		seen := make(chan int, 1)
		if err := sqlite.InTx(t.Context(), s, func(ctx context.Context, _ *sqlite.Transaction) error {
			if err := send(t, ctx, m, func() {}); err != nil {
				return err
			}
			short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			page, err := s.Pending(short, storage.PendingQuery{Unadopted: true, Now: time.Now()})
			if len(page) != 0 || err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Pending outside the transaction = %v, %v", page, err)
			}
			go func() {
				page, err := s.Pending(t.Context(), storage.PendingQuery{Unadopted: true, Now: time.Now()})
				if err != nil {
					t.Error(err)
				}
				seen <- len(page)
			}()
			if _, err := s.Message(ctx, m.ID); err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("reading with the transaction's context = %v", err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		<-seen
		if !stored(t, s, m) {
			t.Error("the message is not stored")
		}
	})
}

func TestInTxInsideAHandlersTransaction(t *testing.T) {
	t.Parallel()
	s := openMemory(t)
	tx := beginTx(t, s)
	ctx := context.WithValue(t.Context(), storage.TxKey{}, func() (storage.Tx, error) { return tx, nil })
	x, err := sqlite.Tx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.ExecContext(ctx, `CREATE TABLE t (x)`); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := sqlite.InTx(short, s, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("InTx = %v", err)
	}
	if _, err := sqlite.Tx(t.Context()); !errors.Is(err, crustertype.ErrInvalid) {
		t.Errorf("Tx without a transaction = %v, want ErrInvalid", err)
	}
}
