package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

// exec mode sends the text of each statement, which the proxy can look for.
func execMode(c *pgxpool.Config, _ *postgres.Options) {
	c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
}

// TestCommitCutAtItsEnd loses the connection before COMMIT arrives, and after
// the server has answered it. Sending again tells which it was, without doing
// anything twice.
func TestCommitCutAtItsEnd(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before": false, "answer lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fixture{schema: testdb.Schema(t)}
			var p *proxy
			p, f.dsn = newProxy(t, testdb.URL(t))
			f.Store, f.pool = f.open(t, execMode)
			lease := f.own(t, 0)
			m, e := message(), execution("o-1")
			units := []storage.Unit{{
				Leases: []crustertype.Lease{lease}, Accepts: []crustertype.Message{m}, Starts: []crustertype.Execution{e},
				Steps: []storage.StepWrite{{ExecutionRef: e.ExecutionRef, Step: crustertype.Step{Run: 1, Kind: crustertype.StepActivity, Name: "Charge", Seq: 1}}},
			}}
			done := p.order("commit", after)
			_, err := f.Commit(t.Context(), units)
			var tr *storage.TransientError
			if !errors.As(err, &tr) || !tr.Unknown {
				t.Fatalf("Commit = %v, want a *TransientError with Unknown", err)
			}
			<-done
			_, err = f.Message(t.Context(), m.ID)
			if stored := err == nil; stored != after {
				t.Errorf("the message is stored: %v, want %v", stored, after)
			}
			res, err := f.Commit(t.Context(), units)
			if err != nil {
				t.Fatalf("sent again: %v", err)
			}
			if met := res[0].Accepts != nil && res[0].Starts != nil; met != after {
				t.Errorf("sent again, the inserts met existing rows: %v, want %v", met, after)
			}
			if n := f.number(t, f.in("SELECT count(*) FROM @.step")); n != 1 {
				t.Errorf("%d steps, want 1", n)
			}
		})
	}
}

// TestTxCutAtItsCommit does the same to a transaction of user code: its effects
// and its journal row share their fate.
func TestTxCutAtItsCommit(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before": false, "answer lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fixture{schema: testdb.Schema(t)}
			var p *proxy
			p, f.dsn = newProxy(t, testdb.URL(t))
			f.Store, f.pool = f.open(t, execMode)
			f.account(t)
			e := execution("o-1")
			if _, err := f.Commit(t.Context(), []storage.Unit{{Starts: []crustertype.Execution{e}}}); err != nil {
				t.Fatal(err)
			}
			ctx, st := f.handler(t)
			if _, err := st.Exec(ctx, f.in("UPDATE @.account SET n = n + $1::bigint WHERE id = 'a'"), int64(1)); err != nil {
				t.Fatal(err)
			}
			done := p.order("commit", after)
			_, err := st.Commit(ctx, storage.Unit{Steps: []storage.StepWrite{{
				ExecutionRef: e.ExecutionRef, Step: crustertype.Step{Run: 1, Kind: crustertype.StepActivity, Name: "Charge", Seq: 1},
			}}})
			var tr *storage.TransientError
			if !errors.As(err, &tr) || !tr.Unknown {
				t.Fatalf("Commit = %v, want a *TransientError with Unknown", err)
			}
			<-done
			steps, err := f.Steps(ctx, e.ExecutionRef, 1)
			if err != nil {
				t.Fatal(err)
			}
			if n := f.number(t, f.in("SELECT n FROM @.account WHERE id = 'a'")) - 1; int(n) != len(steps) || (n == 1) != after {
				t.Errorf("effects applied %d times, %d journal rows: they must share their fate", n, len(steps))
			}
		})
	}
}

// TestBackendTerminatedMidTransaction is what a take-over, a failover or a DBA
// does.
func TestBackendTerminatedMidTransaction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.account(t)
	ctx, st := f.handler(t)
	var pid int32
	if err := st.QueryRow(ctx, "SELECT pg_backend_pid() + $1::integer", 0).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	f.exec(t, "SELECT pg_terminate_backend($1)", pid)
	f.eventually(t, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)", pid)
	if _, err := st.Exec(ctx, f.in("UPDATE @.account SET n = $1"), 5); !storage.IsTransient(err) {
		t.Errorf("Exec = %v, want a transient error", err)
	}
	if _, err := st.Commit(ctx, storage.Unit{}); !storage.IsTransient(err) {
		t.Errorf("Commit = %v, want a transient error", err)
	}
	if n := f.number(t, f.in("SELECT n FROM @.account WHERE id = 'a'")); n != 1 {
		t.Errorf("n = %d, want 1", n)
	}
}

// TestServerRestart kills the server under a store; it works again when the
// server does, with what was acknowledged.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	server := testdb.StartServer(t, testdb.Config{Fsync: true})
	f := &fixture{dsn: server.URL(), schema: "cruster"}
	f.Store, f.pool = f.open(t)
	lease := f.own(t, 0)
	kept := message()
	unit := func(m crustertype.Message) []storage.Unit {
		return []storage.Unit{{Leases: []crustertype.Lease{lease}, Accepts: []crustertype.Message{m}}}
	}
	if _, err := f.Commit(t.Context(), unit(kept)); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	late := message()
	for range 3 {
		if _, err := f.Commit(t.Context(), unit(late)); !storage.IsTransient(err) {
			t.Errorf("Commit without a server = %v, want a transient error", err)
		}
	}
	if err := f.Renew(t.Context(), lease.Owner, false, time.Minute); !storage.IsTransient(err) {
		t.Errorf("Renew without a server = %v, want a transient error", err)
	}
	server.Start(t)
	for {
		_, err := f.Commit(t.Context(), unit(late))
		if err == nil {
			break
		}
		if !storage.IsTransient(err) {
			t.Fatalf("Commit after the restart = %v", err)
		}
	}
	for _, m := range []crustertype.Message{kept, late} {
		if _, err := f.Message(t.Context(), m.ID); err != nil {
			t.Errorf("message %s after the restart: %v", m.ID, err)
		}
	}
}

// TestExhaustedPoolDoesNotStopTheEngine takes all connections of the user's.
func TestExhaustedPoolDoesNotStopTheEngine(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *pgxpool.Config, _ *postgres.Options) { c.MaxConns = 2 })
	lease := f.own(t, 0)
	for range 2 {
		conn, err := f.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
	}
	m := message()
	if _, err := f.Commit(t.Context(), []storage.Unit{{Leases: []crustertype.Lease{lease}, Accepts: []crustertype.Message{m}}}); err != nil {
		t.Errorf("Commit = %v", err)
	}
	if err := f.Renew(t.Context(), lease.Owner, false, time.Minute); err != nil {
		t.Errorf("Renew = %v", err)
	}
	if _, err := f.Message(t.Context(), m.ID); err != nil {
		t.Errorf("Message = %v", err)
	}
	if got, err := f.TakeOver(t.Context(), storage.TakeOver{By: 99, From: lease.Owner, Shards: []crustertype.Shard{lease.Shard}}); err != nil || len(got) != 1 {
		t.Errorf("TakeOver = %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	st, err := f.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := st.Exec(ctx, "SELECT $1::integer", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Exec on an exhausted pool = %v, want the context's error", err)
	}
}

// TestTakeOverEndsAStuckHolder freezes an owner between its fence and its
// COMMIT, and another one before its fence.
func TestTakeOverEndsAStuckHolder(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lease := f.own(t, 0)
	f.account(t)
	holder, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.WithoutCancel(t.Context()))
	for _, sql := range []string{"BEGIN", f.in("SELECT pg_advisory_xact_lock_shared(lock_space, 1) FROM @.space")} {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	ctx, row := f.handler(t) // holds a row of the user's, and is never heard of again
	if _, err := row.Exec(ctx, f.in("UPDATE @.account SET n = $1 WHERE id = 'a'"), 5); err != nil {
		t.Fatal(err)
	}
	f.exec(t, f.in("UPDATE @.runner SET lease_until = now() - interval '1 second'"))

	taker, _ := f.open(t)
	begin := time.Now()
	got, err := taker.TakeOver(t.Context(), storage.TakeOver{By: 99, From: lease.Owner, Shards: []crustertype.Shard{lease.Shard}})
	if err != nil || len(got) != 1 {
		t.Fatalf("TakeOver = %v, %v", got, err)
	}
	t.Logf("take-over with a stuck holder: %v", time.Since(begin))
	if _, err := holder.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("the stuck holder could still commit")
	}
	if tag, err := f.pool.Exec(t.Context(), f.in("UPDATE @.account SET n = 6 WHERE id = 'a'")); err != nil || tag.RowsAffected() != 1 {
		t.Errorf("the row is still locked by a dead runner: %v, %v", tag, err)
	}
	if _, err := row.Commit(ctx, storage.Unit{}); !storage.IsTransient(err) {
		t.Errorf("commit of the ended transaction = %v, want a transient error", err)
	}
}

// TestTakeOverSparesTheLiving takes one shard of a runner that lives, and has a
// transaction open for another one.
func TestTakeOverSparesTheLiving(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lost := f.own(t, 0)
	kept, err := f.TakeOver(t.Context(), storage.TakeOver{By: lost.Owner, Shards: []crustertype.Shard{{Group: "default", Index: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	f.account(t)
	ctx, st := f.handler(t)
	if _, err := st.Exec(ctx, f.in("UPDATE @.account SET n = $1 WHERE id = 'a'"), 5); err != nil {
		t.Fatal(err)
	}
	taker, _ := f.open(t)
	if _, err := taker.TakeOver(ctx, storage.TakeOver{By: 99, From: lost.Owner, Shards: []crustertype.Shard{lost.Shard}}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(ctx, storage.Unit{Leases: kept}); err != nil {
		t.Errorf("Commit for the other shard = %v", err)
	}
}
