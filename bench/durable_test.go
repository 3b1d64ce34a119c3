package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite" // DBOS asks for it

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// openFile opens a new SQLite file with the pragmas that storage/sqlite uses.
func openFile(b testing.TB, connections int) *sql.DB {
	b.Helper()
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)", "foreign_keys(ON)", "temp_store(MEMORY)",
	}}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "bench.db")+"?"+q.Encode())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

// openStore opens a new file as cruster's storage.
func openStore(b testing.TB) *sqlite.Store {
	b.Helper()
	store, err := sqlite.Open(filepath.Join(b.TempDir(), "bench.db"), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	return store
}

// perOp reports how often the store committed, and was sent a statement, for
// each operation.
func perOp(b *testing.B, store *sqlite.Store, f func()) {
	b.Helper()
	before := store.Stats()
	f()
	after := store.Stats()
	b.ReportMetric(float64(after.Commits-before.Commits)/float64(b.N), "commits/op")
	b.ReportMetric(float64(after.Statements-before.Statements)/float64(b.N), "statements/op")
}

// perSecond reports the rate, which compares more easily than a time when many
// callers share it.
func perSecond(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s") }

const bareTable = `CREATE TABLE bare (id INTEGER PRIMARY KEY, body BLOB NOT NULL)`

// BenchmarkPersistedFloor is what the database can do: rows that are committed
// one by one, or together with all others that wait meanwhile.
func BenchmarkPersistedFloor(b *testing.B) {
	body := make([]byte, 100)
	b.Run("commit-each", func(b *testing.B) {
		eachCallers(b, func(b *testing.B, callers int) {
			db := openFile(b, 1)
			if _, err := db.Exec(bareTable); err != nil {
				b.Fatal(err)
			}
			insert := must(db.Prepare(`INSERT INTO bare (body) VALUES (?)`))
			loop(b, callers, func(int, int) error {
				_, err := insert.Exec(body)
				return err
			})
			perSecond(b)
		})
	})
	b.Run("commit-shared", func(b *testing.B) {
		eachCallers(b, func(b *testing.B, callers int) {
			commit := groupCommit(b)
			loop(b, callers, func(int, int) error { return commit(body) })
			perSecond(b)
		})
	})
}

// groupCommit returns a function that inserts a row and returns when it is
// committed, with all rows that waited when the commit before had ended.
func groupCommit(b testing.TB) func(body []byte) error {
	type row struct {
		body []byte
		done chan error
	}
	db := openFile(b, 1)
	if _, err := db.Exec(bareTable); err != nil {
		b.Fatal(err)
	}
	insert := must(db.Prepare(`INSERT INTO bare (body) VALUES (?)`))
	rows := make(chan row, 1024)
	var running sync.WaitGroup
	b.Cleanup(func() { close(rows); running.Wait() })
	write := func(batch []row) error {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		stmt := tx.Stmt(insert)
		for _, r := range batch {
			if _, err := stmt.Exec(r.body); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}
	running.Go(func() {
		for first := range rows {
			batch := []row{first}
			for waiting := len(rows); waiting > 0; waiting-- {
				batch = append(batch, <-rows)
			}
			err := write(batch)
			for _, r := range batch {
				r.done <- err
			}
		}
	})
	return func(body []byte) error {
		r := row{body, make(chan error, 1)}
		rows <- r
		return <-r.done
	}
}

// Counter has a persisted method that touches nothing, and one that counts in
// the database.
type Counter struct {
	_ cruster.Entity `cruster:"counter,mailbox=1000"`
	_ cruster.RPC    `cruster:"Put,persisted"`
	_ cruster.RPC    `cruster:"Count,persisted"`
}

// Put answers.
func (c *Counter) Put(_ context.Context, a Add) (int64, error) { return a.N + 1, nil }

// Count adds to the entity's row.
func (c *Counter) Count(ctx context.Context, a Add) (v int64, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, `INSERT INTO counters (id, value) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET value = counters.value + excluded.value RETURNING value`,
		cruster.EntityID(ctx), a.N).Scan(&v)
	return v, err
}

// BenchmarkPersistedCall is a call that is stored, handled and answered, with
// the answer stored: one caller has one entity, 64 callers have 64.
func BenchmarkPersistedCall(b *testing.B) {
	ids := entityIDs(1024)
	run := func(name string, m func(*Counter, context.Context, Add) (int64, error)) {
		b.Run(name, func(b *testing.B) {
			eachCallers(b, func(b *testing.B, callers int) {
				store := openStore(b)
				err := sqlite.InTx(b.Context(), store, func(ctx context.Context, tx *sqlite.Transaction) error {
					_, err := tx.ExecContext(ctx, `CREATE TABLE counters (id TEXT PRIMARY KEY, value INTEGER NOT NULL)`)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
				var counters cruster.Client[*Counter]
				start(b, cruster.Config{Storage: store}, func(s *cruster.Service) { counters = must(cruster.Register(s, &Counter{})) })
				ctx := b.Context()
				perOp(b, store, func() {
					loop(b, callers, func(caller, _ int) error {
						_, err := cruster.Call(ctx, counters.Entity(ids[caller]), m, Add{1})
						return err
					})
				})
				perSecond(b)
			})
		})
	}
	run("cruster", (*Counter).Put)
	run("cruster-tx", (*Counter).Count)
	b.Run("dbos", func(b *testing.B) { // its nearest: a workflow without steps
		eachCallers(b, func(b *testing.B, callers int) { benchmarkDBOS(b, callers, 0) })
	})
}

// Steps is a workflow that takes so many steps.
type Steps struct {
	_ cruster.Workflow `cruster:"steps"`
}

// StepsRequest is its request.
type StepsRequest struct{ Steps int64 }

// Execute runs the steps, one after the other.
func (w *Steps) Execute(wf *cruster.WorkflowContext, req StepsRequest) (int64, error) {
	var n int64
	for range req.Steps {
		v, err := cruster.Do(wf, (*Steps).Add, Add{n})
		if err != nil {
			return 0, err
		}
		n = v
	}
	return n, nil
}

// Add is a step that does next to nothing.
func (w *Steps) Add(_ context.Context, a Add) (int64, error) { return a.N + 1, nil }

// BenchmarkWorkflow is an execution of a workflow, from its start to its
// outcome.
func BenchmarkWorkflow(b *testing.B) {
	for _, steps := range []int64{1, 3, 10} {
		b.Run("steps="+strconv.FormatInt(steps, 10), func(b *testing.B) {
			eachCallers(b, func(b *testing.B, callers int) {
				b.Run("cruster", func(b *testing.B) { benchmarkSteps(b, callers, steps) })
				b.Run("dbos", func(b *testing.B) { benchmarkDBOS(b, callers, steps) })
			})
		})
	}
}

func benchmarkSteps(b *testing.B, callers int, steps int64) {
	store := openStore(b)
	var wf cruster.WorkflowClient[StepsRequest, int64]
	start(b, cruster.Config{Storage: store}, func(s *cruster.Service) { wf = must(cruster.RegisterWorkflow(s, &Steps{})) })
	ctx := b.Context()
	perOp(b, store, func() {
		loop(b, callers, func(int, int) error { return expect(steps)(wf.Execute(ctx, StepsRequest{steps})) })
	})
	perSecond(b)
}

// expect returns a function that makes an error of a wrong answer.
func expect(want int64) func(int64, error) error {
	return func(got int64, err error) error {
		if err == nil && got != want {
			err = fmt.Errorf("the workflow returned %d, want %d", got, want)
		}
		return err
	}
}

func dbosSteps(ctx dbos.Context, steps int64) (int64, error) {
	var n int64
	for range steps {
		v, err := dbos.RunAsStep(ctx, func(context.Context) (int64, error) { return n + 1, nil }, dbos.WithStepName("Add"))
		if err != nil {
			return 0, err
		}
		n = v
	}
	return n, nil
}

// openDBOS launches DBOS on a new file, with the pragmas that storage/sqlite
// uses and the number of connections that DBOS itself takes. (Its own default
// is synchronous=NORMAL, which does not wait for the disk.)
func openDBOS(b testing.TB) dbos.Context {
	b.Helper()
	d, err := dbos.NewContext(context.WithoutCancel(b.Context()), dbos.Config{
		AppName: "bench", SQLiteSystemDB: openFile(b, 8), Logger: quiet, ApplicationVersion: "1", ExecutorID: "bench",
	})
	if err != nil {
		b.Fatal(err)
	}
	dbos.RegisterWorkflow(d, dbosSteps)
	if err := dbos.Launch(d); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := dbos.Shutdown(d, time.Minute); err != nil {
			b.Error(err)
		}
	})
	return d
}

func benchmarkDBOS(b *testing.B, callers int, steps int64) {
	d := openDBOS(b)
	loop(b, callers, func(int, int) error {
		h, err := dbos.RunWorkflow(d, dbosSteps, steps)
		if err != nil {
			return err
		}
		return expect(steps)(h.GetResult())
	})
	perSecond(b)
}

// TestDurable checks that both systems run the workflow, so that neither is fast
// because it does nothing.
func TestDurable(t *testing.T) {
	store := openStore(t)
	var wf cruster.WorkflowClient[StepsRequest, int64]
	svc := must(cruster.New(cruster.Config{Storage: store, Logger: quiet}))
	wf = must(cruster.RegisterWorkflow(svc, &Steps{}))
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := svc.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if err := expect(3)(wf.Execute(t.Context(), StepsRequest{3})); err != nil {
		t.Errorf("cruster: %v", err)
	}
	h, err := dbos.RunWorkflow(openDBOS(t), dbosSteps, 3)
	if err != nil {
		t.Fatalf("dbos: %v", err)
	}
	if err := expect(3)(h.GetResult()); err != nil {
		t.Errorf("dbos: %v", err)
	}
}
