package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

// handler begins a transaction as the engine offers it to a handler.
func (f *fixture) handler(t *testing.T) (context.Context, storage.Tx) {
	t.Helper()
	st, err := f.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Rollback(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return context.WithValue(t.Context(), storage.TxKey{}, func() (storage.Tx, error) { return st, nil }), st
}

// account makes a table of the user's.
func (f *fixture) account(t *testing.T) {
	t.Helper()
	if err := f.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.exec(t, f.in("CREATE TABLE @.account (id text PRIMARY KEY, n bigint NOT NULL)"))
	f.exec(t, f.in("INSERT INTO @.account VALUES ('a', 1), ('b', 2)"))
}

// TestUserTxIsARealTransaction uses all of pgx.Tx, and nothing of it is seen
// before the commit.
func TestUserTxIsARealTransaction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.account(t)
	ctx, st := f.handler(t)
	tx, err := postgres.Tx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if err := tx.QueryRow(ctx, f.in("UPDATE @.account SET n = n + $1 WHERE id = 'a' RETURNING n"), 10).Scan(&n); err != nil || n != 11 {
		t.Fatalf("QueryRow = %d, %v", n, err)
	}
	if tag, err := tx.Exec(ctx, f.in("INSERT INTO @.account VALUES ('c', 3); INSERT INTO @.account VALUES ('d', 4)")); err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("Exec of two statements = %v, %v", tag, err)
	}
	if tag, err := tx.Exec(ctx, "UPDATE "+f.schema+".account SET n = 0 WHERE id = @id", pgx.NamedArgs{"id": "b"}); err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("Exec with named arguments = %v, %v", tag, err)
	}
	if err := st.Rollback(ctx); err != nil {
		t.Fatal(err)
	}

	ctx, st = f.handler(t)
	tx, err = postgres.Tx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b := new(pgx.Batch)
	b.Queue(f.in("UPDATE @.account SET n = 5 WHERE id = $1"), "a")
	b.Queue(f.in("SELECT n FROM @.account WHERE id = $1"), "a").QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	if err := tx.SendBatch(ctx, b).Close(); err != nil || n != 5 {
		t.Fatalf("SendBatch: %d, %v", n, err)
	}
	copied, err := tx.CopyFrom(ctx, pgx.Identifier{f.schema, "account"}, []string{"id", "n"}, pgx.CopyFromRows([][]any{{"x", int64(1)}, {"y", int64(2)}}))
	if err != nil || copied != 2 {
		t.Fatalf("CopyFrom = %d, %v", copied, err)
	}
	rows, err := tx.Query(ctx, f.in("SELECT id FROM @.account WHERE n < $1 ORDER BY id"), 3)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(ids) != 3 {
		t.Fatalf("CollectRows = %v, %v, want b, x and y", ids, err)
	}
	if _, err := tx.Conn().Exec(ctx, f.in("DELETE FROM @.account WHERE id = 'y'")); err != nil {
		t.Fatal(err)
	}
	if n := f.number(t, f.in("SELECT n FROM @.account WHERE id = 'a'")); n != 1 {
		t.Errorf("others see n = %d before the commit", n)
	}
	m := message()
	if _, err := st.Commit(ctx, storage.Unit{Accepts: []crustertype.Message{m}}); err != nil {
		t.Fatal(err)
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.account")); n != 3 {
		t.Errorf("%d accounts after the commit, want a, b and x", n)
	}
	if _, err := f.Message(ctx, m.ID); err != nil {
		t.Errorf("the unit was not committed: %v", err)
	}
}

func TestUserCannotEndTheTransaction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.account(t)
	for name, end := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"Commit":           func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) },
		"Rollback":         func(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) },
		"COMMIT":           func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "COMMIT"); return err },
		"COMMIT AND CHAIN": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "COMMIT AND CHAIN"); return err },
		"ROLLBACK":         func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "ROLLBACK"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, st := f.handler(t)
			tx, err := postgres.Tx(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(ctx, f.in("SELECT n FROM @.account")); err != nil {
				t.Fatal(err)
			}
			if err := end(ctx, tx); !errors.Is(err, storage.ErrTxDone) {
				t.Errorf("%s = %v, want ErrTxDone", name, err)
			}
			_, err = st.Commit(ctx, storage.Unit{Accepts: []crustertype.Message{message()}})
			byMethod := name == "Commit" || name == "Rollback"
			if byMethod && err != nil {
				t.Errorf("the engine's commit = %v: a refused call must do no harm", err)
			}
			if !byMethod && !errors.Is(err, storage.ErrTxDone) {
				t.Errorf("the engine's commit = %v, want ErrTxDone: the unit would not belong to what was written", err)
			}
		})
	}
}

func TestSavepoints(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.account(t)
	ctx, st := f.handler(t)
	tx, err := postgres.Tx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := tx.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kept.Exec(ctx, f.in("INSERT INTO @.account VALUES ('kept', 1)")); err != nil {
		t.Fatal(err)
	}
	if err := kept.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	failed, err := tx.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var pg *pgconn.PgError
	if _, err := failed.Exec(ctx, f.in("INSERT INTO @.account VALUES ('a', $1)"), 1); !errors.As(err, &pg) || pg.Code != "23505" {
		t.Fatalf("Exec = %v, want a *pgconn.PgError with 23505", err)
	}
	if err := failed.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := failed.Rollback(ctx); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("second Rollback = %v, want ErrTxClosed", err)
	}
	if _, err := st.Commit(ctx, storage.Unit{}); err != nil {
		t.Errorf("Commit = %v: the failed statement was rolled back", err)
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.account WHERE id = 'kept'")); n != 1 {
		t.Error("the released savepoint is gone")
	}
}

// TestFailedStatementCannotCommit covers a handler that swallows an error:
// COMMIT would then roll back and say so in its tag only.
func TestFailedStatementCannotCommit(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.account(t)
	for name, sql := range map[string]string{
		"first statement, refused by the parser": "SELEC $1::text",
		"first statement, refused at run time":   "SELECT 1 / length($1)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, st := f.handler(t)
			var n int
			if err := st.QueryRow(ctx, sql, "").Scan(&n); err == nil || storage.IsTransient(err) {
				t.Fatalf("QueryRow = %v, want the user's error", err)
			}
			m := message()
			_, err := st.Commit(ctx, storage.Unit{Accepts: []crustertype.Message{m}})
			var unit *storage.UnitError
			var pg *pgconn.PgError
			if !errors.As(err, &unit) || !errors.As(err, &pg) {
				t.Errorf("Commit = %v, want a *UnitError with the statement's own error", err)
			}
			if _, err := f.Message(ctx, m.ID); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Message = %v: the unit was committed", err)
			}
		})
	}
}

// TestDeferredConstraintFailsBeforeTheFence covers constraints that PostgreSQL
// would check inside COMMIT.
func TestDeferredConstraintFailsBeforeTheFence(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.account(t)
	f.exec(t, f.in("CREATE TABLE @.entry (account text REFERENCES @.account DEFERRABLE INITIALLY DEFERRED)"))
	ctx, st := f.handler(t)
	if _, err := st.Exec(ctx, f.in("INSERT INTO @.entry VALUES ($1)"), "nobody"); err != nil {
		t.Fatal(err)
	}
	var unit *storage.UnitError
	var pg *pgconn.PgError
	if _, err := st.Commit(ctx, storage.Unit{}); !errors.As(err, &unit) || !errors.As(err, &pg) || pg.Code != "23503" {
		t.Errorf("Commit = %v, want a *UnitError with 23503", err)
	}
}

func TestConflictsOfUsersAreTransient(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.account(t)
	ctx, first := f.handler(t)
	_, second := f.handler(t)
	if _, err := first.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := first.QueryRow(ctx, f.in("SELECT n FROM @.account WHERE id = $1"), "a").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Exec(ctx, f.in("UPDATE @.account SET n = 9 WHERE id = $1"), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Commit(ctx, storage.Unit{}); err != nil {
		t.Fatal(err)
	}
	_, err := first.Exec(ctx, f.in("UPDATE @.account SET n = 8 WHERE id = $1"), "a")
	var pg *pgconn.PgError
	var tr *storage.TransientError
	if !errors.As(err, &tr) || tr.Unknown || !errors.As(err, &pg) || pg.Code != "40001" {
		t.Errorf("Exec = %v, want a *TransientError with 40001 that certainly did not happen", err)
	}
	if _, err := first.Commit(ctx, storage.Unit{}); !storage.IsTransient(err) {
		t.Errorf("Commit after it = %v, want the same transient error: the handler may have swallowed it", err)
	}
}

// TestStricterIsolationIsFenced takes a shard over after the snapshot of a
// serializable transaction was taken.
func TestStricterIsolationIsFenced(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			lease := f.own(t, 0)
			f.account(t)
			ctx, st := f.handler(t)
			if _, err := st.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL "+level); err != nil {
				t.Fatal(err)
			}
			if _, err := st.Exec(ctx, f.in("UPDATE @.account SET n = 77 WHERE id = $1"), "a"); err != nil {
				t.Fatal(err)
			}
			if got, err := f.TakeOver(ctx, storage.TakeOver{By: 99, From: lease.Owner, Shards: []crustertype.Shard{lease.Shard}}); err != nil || len(got) != 1 {
				t.Fatalf("TakeOver = %v, %v", got, err)
			}
			if _, err := st.Commit(ctx, storage.Unit{Leases: []crustertype.Lease{lease}}); !errors.Is(err, storage.ErrFenced) && !storage.IsTransient(err) {
				t.Errorf("Commit = %v, want ErrFenced, or 40001 as a transient error", err)
			}
			if n := f.number(t, f.in("SELECT n FROM @.account WHERE id = 'a'")); n != 1 {
				t.Errorf("n = %d: the old owner has committed", n)
			}
		})
	}
}

// TestSessionDefaultsDoNotWeakenTheFence runs under defaults that a role, a
// database or a pooler may set.
func TestSessionDefaultsDoNotWeakenTheFence(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *pgxpool.Config, _ *postgres.Options) {
		c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "repeatable read"
		c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "off"
	})
	lease := f.own(t, 0)
	ctx, st := f.handler(t)
	var level string
	if err := st.QueryRow(ctx, "SELECT current_setting($1)", "transaction_isolation").Scan(&level); err != nil || level != "read committed" {
		t.Errorf("isolation = %q, %v, want read committed: the contract says so", level, err)
	}
	if _, err := f.TakeOver(ctx, storage.TakeOver{By: 99, From: lease.Owner, Shards: []crustertype.Shard{lease.Shard}}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(ctx, storage.Unit{Leases: []crustertype.Lease{lease}}); !errors.Is(err, storage.ErrFenced) {
		t.Errorf("Commit = %v, want ErrFenced", err)
	}
}

func TestTxNeedsAHandler(t *testing.T) {
	t.Parallel()
	if _, err := postgres.Tx(t.Context()); crustertype.CodeOf(err) != crustertype.CodeInvalid {
		t.Errorf("Tx outside of a handler = %v, want an error that explains", err)
	}
	ctx := context.WithValue(t.Context(), storage.TxKey{}, func() (storage.Tx, error) { return struct{ storage.Tx }{}, nil })
	if _, err := postgres.Tx(ctx); crustertype.CodeOf(err) != crustertype.CodeInvalid {
		t.Errorf("Tx of another storage = %v, want an error that explains", err)
	}
}
