package postgres_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage/postgres"
)

// Desk is an entity whose behaviour each test supplies.
type Desk struct {
	_ cruster.Entity `cruster:"desk"`
	_ cruster.RPC    `cruster:"Write,persisted"`

	do func(ctx context.Context, text string) (string, error)
}

func (d *Desk) Write(ctx context.Context, text string) (string, error) { return d.do(ctx, text) }

// Job is a workflow whose code each test supplies.
type Job struct {
	_ cruster.Workflow `cruster:"job,hash=false"`
	_ cruster.Activity `cruster:"Act,retries=0"`
	_ cruster.Activity `cruster:"Flaky,retries=3,backoff=constant,initial=5ms"`

	run func(wf *cruster.WorkflowContext, in string) (string, error)
	act func(ctx context.Context, in string) (string, error)
}

func (j *Job) Execute(wf *cruster.WorkflowContext, in string) (string, error) { return j.run(wf, in) }
func (j *Job) Act(ctx context.Context, in string) (string, error)             { return j.act(ctx, in) }
func (j *Job) Flaky(ctx context.Context, in string) (string, error)           { return j.act(ctx, in) }

// program is a service on a fixture's store.
type program struct {
	*fixture
	svc   *cruster.Service
	desks cruster.Client[*Desk]
	jobs  cruster.WorkflowClient[string, string]
}

// serve starts a service. Its storage is never polled: what is not announced
// does not arrive.
func serve(t *testing.T, f *fixture, d *Desk, j *Job, tune ...func(*cruster.Config)) *program {
	t.Helper()
	if d == nil {
		d = &Desk{}
	}
	if j == nil {
		j = &Job{}
	}
	cfg := cruster.Config{Storage: f.Store, Logger: logger(t), ShardsPerGroup: 8, PollInterval: -1, LeaseTTL: time.Minute}
	for _, f := range tune {
		f(&cfg)
	}
	if err := f.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Without a key, so that a doubled effect is seen.
	f.exec(t, f.in("CREATE TABLE IF NOT EXISTS @.effect (what text NOT NULL)"))
	p := &program{fixture: f}
	var err error
	if p.svc, err = cruster.New(cfg); err != nil {
		t.Fatal(err)
	}
	if p.desks, err = cruster.Register(p.svc, d); err != nil {
		t.Fatal(err)
	}
	if p.jobs, err = cruster.RegisterWorkflow(p.svc, j); err != nil {
		t.Fatal(err)
	}
	if err := p.svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	return p
}

// stop ends the service. It is idempotent.
func (p *program) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := p.svc.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}

// effect writes a row through the transaction of a handler or an activity.
func (f *fixture) effect(ctx context.Context, what string) error {
	_, err := cruster.Tx(ctx).Exec(ctx, f.in("INSERT INTO @.effect (what) VALUES ($1)"), what)
	return err
}

// effects counts the rows with that text.
func (f *fixture) effects(t *testing.T, what string) int64 {
	t.Helper()
	return f.number(t, f.in("SELECT count(*) FROM @.effect WHERE what = $1"), what)
}

// long is a time after which what has not happened will not.
const long = 30 * time.Second

// receive waits for a value.
func receive[T any](t *testing.T, ch <-chan T, what string) (v T) {
	t.Helper()
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case v = <-ch:
	case <-timer.C:
		t.Fatalf("%s: nothing for %v", what, long)
	}
	return v
}

// soon asks again until a query gives at least one row.
func (f *fixture) soon(t *testing.T, sql string, args ...any) {
	t.Helper()
	for begin := time.Now(); f.number(t, "SELECT count(*) FROM ("+sql+") AS q", args...) == 0; {
		if time.Since(begin) > long {
			t.Fatalf("not within %v: %s", long, sql)
		}
	}
}

func TestEnginePersistedCall(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := serve(t, f, &Desk{do: func(ctx context.Context, s string) (string, error) { return "got " + s, f.effect(ctx, s) }}, nil)
	for n := range int64(2) {
		got, err := cruster.Call(t.Context(), p.desks.Entity("a"), (*Desk).Write, "x")
		if err != nil || got != "got x" {
			t.Errorf("Write() = %q, %v", got, err)
		}
		if have := f.effects(t, "x"); have != n+1 {
			t.Errorf("%d effects after %d calls: an effect is there when the call returns, once", have, n+1)
		}
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.message WHERE state = 2")); n != 2 {
		t.Errorf("%d requests are recorded as done, want 2", n)
	}
}

func TestEngineKeys(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var runs atomic.Int64
	p := serve(t, f, &Desk{do: func(ctx context.Context, s string) (string, error) {
		runs.Add(1)
		if s == "bad" {
			return "", errors.New("no stock")
		}
		return s, f.effect(ctx, s)
	}}, nil)
	call := func(text, key string) (string, error) {
		return cruster.Call(t.Context(), p.desks.Entity("a"), (*Desk).Write, text, cruster.Key(key))
	}
	answers := make(chan error, 10)
	for range cap(answers) {
		go func() {
			got, err := call("x", "k")
			if err == nil && got != "x" {
				err = errors.New("answer " + got)
			}
			answers <- err
		}()
	}
	for range cap(answers) {
		if err := receive(t, answers, "calls with one key"); err != nil {
			t.Errorf("call with the key = %v", err)
		}
	}
	if n := f.effects(t, "x"); n != 1 || runs.Load() != 1 {
		t.Errorf("%d effects, %d runs for one key, want one", n, runs.Load())
	}
	if _, err := call("y", "k"); !errors.Is(err, cruster.ErrKeyConflict) {
		t.Errorf("the key with another body = %v, want ErrKeyConflict", err)
	}
	for range 2 {
		if _, err := call("bad", "f"); err == nil || err.Error() != "no stock" {
			t.Errorf("failed call = %v, want the handler's error each time", err)
		}
	}
	if runs.Load() != 2 {
		t.Errorf("%d runs, want 2: a failure is an outcome", runs.Load())
	}
	p.stop(t)
	f.Store, f.pool = f.open(t)
	p = serve(t, f, &Desk{do: func(context.Context, string) (string, error) { return "", errors.New("ran again") }}, nil)
	if got, err := call("x", "k"); err != nil || got != "x" {
		t.Errorf("the key after a restart = %q, %v, want the first outcome", got, err)
	}
}

func TestEngineHandlerErrorRollsBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var runs atomic.Int64
	got := make(chan string, 10)
	var p *program
	p = serve(t, f, &Desk{do: func(ctx context.Context, s string) (string, error) {
		if cruster.EntityID(ctx) == "b" {
			got <- s
			return "", nil
		}
		runs.Add(1)
		if err := f.effect(ctx, s); err != nil {
			return "", err
		}
		if err := cruster.Notify(ctx, p.desks.Entity("b"), (*Desk).Write, "from a"); err != nil {
			return "", err
		}
		return "", errors.New("too expensive")
	}}, nil)
	_, err := cruster.Call(t.Context(), p.desks.Entity("a"), (*Desk).Write, "x")
	if err == nil || err.Error() != "too expensive" {
		t.Errorf("Write() = %v, want the handler's error", err)
	}
	if n := f.effects(t, "x"); n != 0 || runs.Load() != 1 {
		t.Errorf("%d effects after %d runs, want none after one", n, runs.Load())
	}
	// The next request to b comes behind whatever a has sent.
	if _, err := cruster.Call(t.Context(), p.desks.Entity("b"), (*Desk).Write, "from outside"); err != nil {
		t.Fatal(err)
	}
	if s := receive(t, got, "the request from outside"); s != "from outside" {
		t.Errorf("b got %q: a message of a handler that failed", s)
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.message")); n != 2 {
		t.Errorf("%d messages are stored, want the two calls", n)
	}
}

func TestEngineSendIsPartOfTheCommit(t *testing.T) {
	t.Parallel()
	f := setup(t)
	got, sent, let := make(chan string, 10), make(chan struct{}), make(chan struct{})
	var p *program
	p = serve(t, f, &Desk{do: func(ctx context.Context, s string) (string, error) {
		if cruster.EntityID(ctx) == "b" {
			got <- s
			return "", nil
		}
		if err := cruster.Notify(ctx, p.desks.Entity("b"), (*Desk).Write, "from a"); err != nil {
			return "", err
		}
		err := f.effect(ctx, s)
		close(sent)
		<-let
		return "", err
	}}, nil)
	done := make(chan error, 1)
	go func() {
		_, err := cruster.Call(t.Context(), p.desks.Entity("a"), (*Desk).Write, "x")
		done <- err
	}()
	receive(t, sent, "the handler")
	if n := f.number(t, f.in("SELECT count(*) FROM @.message WHERE entity_id = 'b'")); n != 0 || len(got) != 0 {
		t.Error("the message is there before its sender's commit")
	}
	close(let)
	if s := receive(t, got, "the message"); s != "from a" {
		t.Errorf("b got %q", s)
	}
	if err := receive(t, done, "the call"); err != nil {
		t.Error(err)
	}
	if n := f.effects(t, "x"); n != 1 {
		t.Errorf("%d effects, want 1", n)
	}
}

// TestEngineSendsOfTheUsersTransaction measures how soon the owner hears of
// what a transaction of the user's has sent. Storage is never polled, so that
// only the nudge can deliver.
func TestEngineSendsOfTheUsersTransaction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	got := make(chan string, 10)
	hear := func(s string) (string, error) { got <- s; return "", nil }
	p := serve(t, f, &Desk{do: func(_ context.Context, s string) (string, error) { return hear(s) }},
		&Job{run: func(_ *cruster.WorkflowContext, s string) (string, error) { return hear(s) }})
	send := func(ctx context.Context, tx pgx.Tx, s string) error {
		if _, err := tx.Exec(ctx, f.in("INSERT INTO @.effect (what) VALUES ($1)"), s); err != nil {
			return err
		}
		if err := cruster.Notify(ctx, p.desks.Entity("a"), (*Desk).Write, s+" note"); err != nil {
			return err
		}
		_, err := p.jobs.WithKey(s).Start(ctx, s+" job")
		return err
	}
	within := func(ctx context.Context, s string, end error) (committed time.Time, err error) {
		err = postgres.InTx(ctx, f.pool, f.Store, func(ctx context.Context, tx pgx.Tx) error {
			return errors.Join(send(ctx, tx, s), end)
		})
		return time.Now(), err
	}
	joined := func(ctx context.Context, s string, end error) (committed time.Time, err error) {
		tx, err := f.pool.Begin(ctx)
		if err != nil {
			return time.Time{}, err
		}
		defer tx.Rollback(ctx)
		if err := send(postgres.Join(ctx, tx, f.Store), tx, s); err != nil || end != nil {
			return time.Time{}, errors.Join(err, end)
		}
		err = tx.Commit(ctx)
		return time.Now(), err
	}
	undo := errors.New("undo")
	for name, transact := range map[string]func(context.Context, string, error) (time.Time, error){"InTx": within, "Join": joined} {
		if _, err := transact(t.Context(), name+" undone", undo); !errors.Is(err, undo) {
			t.Fatalf("%s: %v, want the error that ended it", name, err)
		}
		committed, err := transact(t.Context(), name, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		heard := map[string]bool{}
		for range 2 {
			heard[receive(t, got, name)] = true
		}
		took := time.Since(committed)
		t.Logf("%s: note and job arrived %v after the commit", name, took)
		if !heard[name+" note"] || !heard[name+" job"] || took > time.Second {
			t.Errorf("%s: %v arrived after %v, want its note and its job at once", name, heard, took)
		}
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.effect WHERE what LIKE '%undone'")); n != 0 || len(got) != 0 {
		t.Errorf("%d effects and %d sends of transactions that were rolled back", n, len(got))
	}
	if n := f.number(t, f.in("SELECT (SELECT count(*) FROM @.message) + (SELECT count(*) FROM @.execution)")); n != 4 {
		t.Errorf("%d requests and executions are stored, want 4", n)
	}
}

// maxConns bounds the user's pool.
func maxConns(n int32) func(*pgxpool.Config, *postgres.Options) {
	return func(c *pgxpool.Config, _ *postgres.Options) { c.MaxConns = n }
}
