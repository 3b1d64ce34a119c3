package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

func TestInTx(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.account(t)
	m, e := message(), execution("o-1")
	m.Key = "k"
	send := func(ctx context.Context, tx pgx.Tx, told *int) (storage.Result, error) {
		if _, err := tx.Exec(ctx, f.in("UPDATE @.account SET n = n + 1 WHERE id = 'a'")); err != nil {
			return storage.Result{}, err
		}
		box := storage.OutboxFrom(ctx)
		box.OnCommit(func() { *told++ })
		return box.Send(ctx, storage.Unit{Accepts: []crustertype.Message{m}, Starts: []crustertype.Execution{e}})
	}
	told := 0
	sentinel := errors.New("the user's own")
	err := postgres.InTx(t.Context(), f.pool, f.Store, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := send(ctx, tx, &told); err != nil {
			return err
		}
		return sentinel
	})
	if err != sentinel || told != 0 { //nolint:errorlint // the value itself is wanted
		t.Errorf("InTx = %v, told %d times; want the user's error itself, and no call", err, told)
	}
	if _, err := f.Message(t.Context(), m.ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Message after a rollback = %v, want ErrNotFound", err)
	}
	for i := range 2 {
		err := postgres.InTx(t.Context(), f.pool, f.Store, func(ctx context.Context, tx pgx.Tx) error {
			res, err := send(ctx, tx, &told)
			if met := res.Accepts != nil && res.Starts != nil; err == nil && met != (i == 1) {
				t.Errorf("time %d: met an existing row: %v", i+1, met)
			}
			return err
		})
		if err != nil || told != i+1 {
			t.Errorf("InTx = %v, told %d times, want %d", err, told, i+1)
		}
	}
	if n := f.number(t, f.in("SELECT n FROM @.account WHERE id = 'a'")); n != 3 {
		t.Errorf("n = %d, want 3", n)
	}
	var kept context.Context
	if err := postgres.InTx(t.Context(), f.pool, f.Store, func(ctx context.Context, _ pgx.Tx) error { kept = ctx; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.OutboxFrom(kept).Send(t.Context(), storage.Unit{Accepts: []crustertype.Message{message()}}); !errors.Is(err, storage.ErrTxDone) {
		t.Errorf("Send after the transaction = %v, want ErrTxDone", err)
	}
}

func TestOutboxTakesSendsOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	err := postgres.InTx(t.Context(), f.pool, f.Store, func(ctx context.Context, _ pgx.Tx) error {
		_, err := storage.OutboxFrom(ctx).Send(ctx, storage.Unit{Finishes: []storage.Finish{{}}})
		return err
	})
	if crustertype.CodeOf(err) != crustertype.CodeInvalid {
		t.Errorf("Send of a finish = %v, want an error that explains", err)
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for name, commit := range map[string]bool{"commit": true, "rollback": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := f.open(t)
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.WithoutCancel(t.Context()))
			ctx := postgres.Join(t.Context(), tx, s)
			told := make(chan struct{}, 2)
			m := message()
			for i := range 2 {
				if _, err := storage.OutboxFrom(ctx).Send(ctx, storage.Unit{Accepts: []crustertype.Message{m}}); err != nil {
					t.Fatalf("send %d: %v", i, err)
				}
				storage.OutboxFrom(ctx).OnCommit(func() { told <- struct{}{} })
			}
			if _, err := f.Message(ctx, m.ID); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Message before the commit = %v, want ErrNotFound", err)
			}
			if !commit {
				if err := tx.Rollback(ctx); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil { // waits for the watcher
					t.Fatal(err)
				}
				if len(told) != 0 {
					t.Error("told about a commit that was a rollback")
				}
				return
			}
			if err := tx.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			<-told
			<-told
			if _, err := f.Message(ctx, m.ID); err != nil {
				t.Errorf("Message after the commit = %v", err)
			}
		})
	}
}
