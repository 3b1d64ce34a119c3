package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage/postgres"
)

// attempts gives all attempts of one activity to a workflow, and counts them.
func attempts(act func(ctx context.Context, attempt int64, in string) error) (*Job, *atomic.Int64) {
	var n atomic.Int64
	return &Job{
		act: func(ctx context.Context, in string) (string, error) { return in, act(ctx, n.Add(1), in) },
		run: func(wf *cruster.WorkflowContext, in string) (string, error) { return cruster.Do(wf, (*Job).Act, in) },
	}, &n
}

// ask runs a query in the transaction of a handler or an activity.
func ask[T any](ctx context.Context, sql string, args ...any) (v T, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, sql, args...).Scan(&v)
	return v, err
}

// TestEngineRepeatsAConflict makes the first attempt of an activity meet a
// serialization failure. The activity has no retries: the conflict is not its
// fault.
func TestEngineRepeatsAConflict(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.account(t)
	var seen sync.Map // transaction IDs
	job, runs := attempts(func(ctx context.Context, attempt int64, in string) error {
		if _, err := cruster.Tx(ctx).Exec(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
			return err
		}
		n, err := ask[int64](ctx, f.in("SELECT n FROM @.account WHERE id = 'a'"))
		if err != nil {
			return err
		}
		if err := f.effect(ctx, in); err != nil {
			return err
		}
		xid, err := ask[string](ctx, "SELECT pg_current_xact_id()::text")
		if err != nil {
			return err
		}
		if _, again := seen.LoadOrStore(xid, true); again {
			return cruster.Permanent(fmt.Errorf("attempt %d is in the transaction of an earlier one", attempt))
		}
		if attempt == 1 {
			if _, err := f.pool.Exec(ctx, f.in("UPDATE @.account SET n = n + 10 WHERE id = 'a'")); err != nil {
				return err
			}
		}
		_, err = cruster.Tx(ctx).Exec(ctx, f.in("UPDATE @.account SET n = $1 WHERE id = 'a'"), n+1)
		return err
	})
	p := serve(t, f, nil, job)
	if _, err := p.jobs.Execute(t.Context(), "x"); err != nil {
		t.Fatalf("Execute() = %v", err)
	}
	if n := f.number(t, f.in("SELECT n FROM @.account WHERE id = 'a'")); n != 12 || runs.Load() != 2 || f.effects(t, "x") != 1 {
		t.Errorf("n is %d after %d attempts with %d effects, want 12 after 2 with 1", n, runs.Load(), f.effects(t, "x"))
	}
}

// TestEngineRepeatsADeadlock lets two activities wait for each other's rows.
func TestEngineRepeatsADeadlock(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *pgxpool.Config, _ *postgres.Options) {
		c.ConnConfig.RuntimeParams["deadlock_timeout"] = "20ms"
	})
	f.account(t)
	var both sync.WaitGroup // each holds its first row
	both.Add(2)
	var runs atomic.Int64
	job := &Job{act: func(ctx context.Context, in string) (string, error) {
		attempt := runs.Add(1)
		for i := range in {
			if _, err := cruster.Tx(ctx).Exec(ctx, f.in("UPDATE @.account SET n = n + 10 WHERE id = $1"), in[i:i+1]); err != nil {
				return "", err
			}
			if i == 0 && attempt <= 2 {
				both.Done()
				both.Wait()
			}
		}
		return in, nil
	}}
	job.run = func(wf *cruster.WorkflowContext, _ string) (string, error) {
		_, err := cruster.All(wf, cruster.Go(wf, (*Job).Act, "ab"), cruster.Go(wf, (*Job).Act, "ba"))
		return "", err
	}
	p := serve(t, f, nil, job)
	if _, err := p.jobs.Execute(t.Context(), ""); err != nil {
		t.Fatalf("Execute() = %v", err)
	}
	if n := f.number(t, f.in("SELECT sum(n) FROM @.account")); n != 43 || runs.Load() < 3 {
		t.Errorf("the sum is %d after %d attempts, want 43 after at least 3: each activity counts once", n, runs.Load())
	}
}

// TestEngineSurvivesALostBackend ends the session of an activity amid its work.
func TestEngineSurvivesALostBackend(t *testing.T) {
	t.Parallel()
	f := setup(t)
	job, runs := attempts(func(ctx context.Context, attempt int64, in string) error {
		if err := f.effect(ctx, in); err != nil || attempt > 1 {
			return err
		}
		pid, err := ask[int32](ctx, "SELECT pg_backend_pid()")
		if err != nil {
			return err
		}
		_, err = f.pool.Exec(ctx, "SELECT pg_terminate_backend($1, 10000)", pid)
		return err // nil: what is lost is noticed at the commit
	})
	p := serve(t, f, nil, job)
	if _, err := p.jobs.Execute(t.Context(), "x"); err != nil {
		t.Fatalf("Execute() = %v", err)
	}
	if n := f.effects(t, "x"); n != 1 || runs.Load() != 2 {
		t.Errorf("%d effects after %d attempts, want 1 after 2", n, runs.Load())
	}
}

// TestEngineSurvivesLostBackends ends random sessions, the user's and the
// engine's, while workflows and requests run.
func TestEngineSurvivesLostBackends(t *testing.T) {
	t.Parallel()
	const orders, kills = 40, 25
	f := &fixture{dsn: testdb.Database(t), schema: "cruster"} // a database of its own: all of its sessions are ours
	f.Store, f.pool = f.open(t)
	job := &Job{act: func(ctx context.Context, s string) (string, error) { return s, f.effect(ctx, s) }}
	var p *program
	job.run = func(wf *cruster.WorkflowContext, in string) (string, error) {
		for _, step := range []string{"reserve ", "charge "} {
			if _, err := cruster.Do(wf, (*Job).Act, step+in); err != nil {
				return "", err
			}
		}
		return cruster.Call(wf, p.desks.Entity("desk"), (*Desk).Write, "pack "+in)
	}
	p = serve(t, f, &Desk{do: job.act}, job, func(c *cruster.Config) { c.MaxDeliveries = 100 })

	done := make(chan error, orders)
	var open atomic.Int64
	open.Store(orders)
	for i := range orders {
		go func() {
			_, err := p.jobs.WithRawKey(fmt.Sprint(i)).Execute(t.Context(), fmt.Sprint(i))
			open.Add(-1)
			done <- err
		}()
	}
	killer, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer killer.Close(context.WithoutCancel(t.Context()))
	killed, midway := 0, 0
	for pause := time.NewTicker(10 * time.Millisecond); killed < kills && open.Load() > 0; <-pause.C {
		var state string
		var ended bool
		err := killer.QueryRow(t.Context(), `SELECT state, pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state IS NOT NULL
			ORDER BY state = 'idle', random() LIMIT 1`).Scan(&state, &ended)
		if err != nil || !ended {
			continue // nobody there, or gone already
		}
		killed++
		if state != "idle" {
			midway++
		}
	}
	t.Logf("%d sessions were ended, %d of them amid a transaction", killed, midway)
	if killed < kills/2 || midway == 0 {
		t.Errorf("%d sessions were ended, %d of them amid a transaction: too few for a test", killed, midway)
	}
	for range orders {
		if err := receive(t, done, "orders"); err != nil {
			t.Errorf("Execute() = %v", err)
		}
	}
	n := f.number(t, f.in("SELECT count(*) FROM (SELECT what FROM @.effect GROUP BY what HAVING count(*) = 1) AS once"))
	if all := f.number(t, f.in("SELECT count(*) FROM @.effect")); n != 3*orders || all != n {
		t.Errorf("%d effects, %d of them once; want %d, each once", all, n, 3*orders)
	}
}

// TestEngineNeedsNoConnectionOfTheUser takes the whole pool away.
func TestEngineNeedsNoConnectionOfTheUser(t *testing.T) {
	t.Parallel()
	f := setup(t, maxConns(2))
	p := serve(t, f, &Desk{do: func(ctx context.Context, s string) (string, error) {
		if s == "tx" {
			return s, f.effect(ctx, s)
		}
		return s, nil
	}}, &Job{act: func(context.Context, string) (string, error) { return "ok", nil }, run: func(wf *cruster.WorkflowContext, in string) (string, error) {
		return cruster.Do(wf, (*Job).Act, in)
	}})
	var taken []*pgxpool.Conn
	for range 2 {
		c, err := f.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		taken = append(taken, c)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := cruster.Call(t.Context(), p.desks.Entity("a"), (*Desk).Write, "tx")
		waiting <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if _, err := cruster.Call(ctx, p.desks.Entity("b"), (*Desk).Write, "no tx"); err != nil {
		t.Errorf("a call without a transaction = %v: it needs no connection of the user's pool", err)
	}
	if _, err := p.jobs.Execute(ctx, "x"); err != nil {
		t.Errorf("a workflow without a transaction = %v", err)
	}
	if len(waiting) != 0 {
		t.Error("a transaction did without a connection")
	}
	for _, c := range taken {
		c.Release()
	}
	if err := receive(t, waiting, "the call with a transaction"); err != nil {
		t.Errorf("the call with a transaction = %v", err)
	}
	if n := f.effects(t, "tx"); n != 1 {
		t.Errorf("%d effects, want 1", n)
	}
}

// TestEngineWithOneConnection lets many transactions share one connection of
// the user's and two of the engine's.
func TestEngineWithOneConnection(t *testing.T) {
	t.Parallel()
	const many = 30
	f := setup(t, maxConns(1), func(_ *pgxpool.Config, o *postgres.Options) { o.EngineConns = 2 })
	act := func(ctx context.Context, s string) (string, error) { return s, f.effect(ctx, s) }
	p := serve(t, f, &Desk{do: act}, &Job{act: act, run: func(wf *cruster.WorkflowContext, in string) (string, error) {
		_, err := cruster.All(wf, cruster.Go(wf, (*Job).Act, "left "+in), cruster.Go(wf, (*Job).Act, "right "+in))
		return "", err
	}})
	done := make(chan error, 2*many)
	for i := range many {
		go func() {
			_, err := p.jobs.Execute(t.Context(), fmt.Sprint(i))
			done <- err
		}()
		go func() {
			_, err := cruster.Call(t.Context(), p.desks.Entity(fmt.Sprint(i)), (*Desk).Write, "desk")
			done <- err
		}()
	}
	for range 2 * many {
		if err := receive(t, done, "workflows and calls"); err != nil {
			t.Error(err)
		}
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.effect")); n != 3*many {
		t.Errorf("%d effects, want %d", n, 3*many)
	}
}

// TestEngineOutlivesTheServer stops PostgreSQL under a service.
func TestEngineOutlivesTheServer(t *testing.T) {
	t.Parallel()
	server := testdb.StartServer(t, testdb.Config{Fsync: true})
	f := &fixture{dsn: server.URL(), schema: "cruster"}
	f.Store, f.pool = f.open(t)
	reached, gone := make(chan struct{}), make(chan struct{})
	job, _ := attempts(func(ctx context.Context, attempt int64, in string) error {
		if err := f.effect(ctx, in); err != nil || attempt > 1 {
			return err
		}
		close(reached)
		<-gone
		return nil
	})
	p := serve(t, f, &Desk{do: func(ctx context.Context, s string) (string, error) { return s, f.effect(ctx, s) }}, job)
	if _, err := p.jobs.WithRawKey("j").Start(t.Context(), "amid"); err != nil {
		t.Fatal(err)
	}
	receive(t, reached, "the activity")
	server.Stop(t)
	close(gone)
	called := make(chan error, 1)
	go func() {
		_, err := cruster.Call(t.Context(), p.desks.Entity("a"), (*Desk).Write, "away", cruster.Key("k"))
		called <- err
	}()
	server.Start(t)
	if err := receive(t, called, "the call"); err != nil {
		t.Errorf("a call while the database was away = %v, want it to wait", err)
	}
	if _, err := p.jobs.Join(t.Context(), "j"); err != nil {
		t.Errorf("Join() = %v", err)
	}
	for _, s := range []string{"amid", "away"} {
		if n := f.effects(t, s); n != 1 {
			t.Errorf("%d effects %q, want 1", n, s)
		}
	}
}
