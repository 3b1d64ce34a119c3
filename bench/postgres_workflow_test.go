package bench

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// workflows run a workflow of so many steps from its start to its outcome.
func workflows(steps int64) []system {
	return []system{
		{"dbos", func(b testing.TB, callers int) work {
			d, _ := openDBOSOn(b, callers)
			return work{steps: int(steps), do: func(int, int) error { return runDBOS(d, dbosSteps, steps) }}
		}},
		{"cruster", func(b testing.TB, _ int) work {
			var wf cruster.WorkflowClient[StepsRequest, int64]
			store := startOn(b, 4, func(s *cruster.Service, _ *pgxpool.Pool) { wf = must(cruster.RegisterWorkflow(s, &Steps{})) })
			return work{stats: store.Stats, steps: int(steps), do: func(int, int) error {
				return expect(steps)(wf.Execute(b.Context(), StepsRequest{steps}))
			}}
		}},
	}
}

// BenchmarkPostgresWorkflow is an execution of a workflow, from its start to its
// outcome.
func BenchmarkPostgresWorkflow(b *testing.B) {
	for _, steps := range []int64{1, 3, 10} {
		b.Run("steps="+strconv.FormatInt(steps, 10), func(b *testing.B) { compare(b, []int{1, 64}, workflows(steps)) })
	}
}

func runDBOS(d dbos.Context, f dbos.Workflow[int64, int64], steps int64) error {
	h, err := dbos.RunWorkflow(d, f, steps)
	if err != nil {
		return err
	}
	return expect(steps)(h.GetResult())
}

// openDBOSOn launches DBOS on a new database. Its data source is its own pool,
// so that a transaction of a workflow also has the journal.
func openDBOSOn(b testing.TB, callers int) (dbos.Context, func(dbos.Context, int64) (int64, error)) {
	b.Helper()
	pool := openPool(b, database(b), connections(callers))
	d := must(dbos.NewContext(context.WithoutCancel(b.Context()), dbos.Config{
		AppName: "bench", SystemDBPool: pool, Logger: quiet, ApplicationVersion: "1", ExecutorID: "bench",
	}))
	must(pool.Exec(b.Context(), accounts))
	source := must(dbos.NewDataSource(d, pool))
	transfers := func(ctx dbos.Context, steps int64) (int64, error) {
		id := must(dbos.GetWorkflowID(ctx))
		for i := range steps {
			_, err := dbos.RunAsTransaction(ctx, source, func(ctx context.Context, tx dbos.Tx) (int64, error) {
				for _, sql := range transfer {
					if _, err := tx.Exec(ctx, sql, account(id, i), int64(1)); err != nil {
						return 0, err
					}
				}
				return 0, nil
			})
			if err != nil {
				return 0, err
			}
		}
		return steps, nil
	}
	dbos.RegisterWorkflow(d, dbosSteps)
	dbos.RegisterWorkflow(d, transfers, dbos.WithWorkflowName("transfers"))
	if err := dbos.Launch(d); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := dbos.Shutdown(d, time.Minute); err != nil {
			b.Error(err)
		}
	})
	return d, transfers
}

// accounts is the table of the user's statements, and transfer what they are.
const accounts = `CREATE TABLE account (id text PRIMARY KEY, n bigint NOT NULL);
	CREATE TABLE entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account text NOT NULL, n bigint NOT NULL)`

var transfer = []string{
	`INSERT INTO public.account (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = account.n + excluded.n`,
	`INSERT INTO public.entry (account, n) VALUES ($1, $2)`,
	`UPDATE public.account SET n = n + $2 WHERE id = $1`,
}

// account names one of the accounts of a workflow.
func account(id string, i int64) string { return id + "/" + strconv.FormatInt(i%2, 10) }

// txSteps is how many transactions a workflow runs, one after the other.
const txSteps = 10

// Transfers is a workflow of activities with a transaction.
type Transfers struct {
	_ cruster.Workflow `cruster:"transfers"`
}

// TransferRequest is the request of an activity.
type TransferRequest struct {
	ID string
	I  int64
}

// Execute runs them.
func (w *Transfers) Execute(wf *cruster.WorkflowContext, req StepsRequest) (int64, error) {
	for i := range req.Steps {
		if _, err := cruster.Do(wf, (*Transfers).Transfer, TransferRequest{wf.ExecutionID(), i}); err != nil {
			return 0, err
		}
	}
	return req.Steps, nil
}

// Transfer runs three statements in the activity's transaction.
func (w *Transfers) Transfer(ctx context.Context, r TransferRequest) (int64, error) {
	tx := cruster.Tx(ctx)
	for _, sql := range transfer {
		if _, err := tx.Exec(ctx, sql, account(r.ID, r.I), int64(1)); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// transactions run a workflow of ten activities, each of which is a transaction
// of three statements. The floor is the ten transactions alone.
var transactions = []system{
	{"floor", func(b testing.TB, callers int) work {
		pool := openPool(b, database(b), connections(callers))
		must(pool.Exec(b.Context(), accounts))
		return work{steps: txSteps, do: func(caller, i int) error {
			id := strconv.Itoa(caller) + "-" + strconv.Itoa(i)
			for step := range int64(txSteps) {
				err := pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) error {
					for _, sql := range transfer {
						if _, err := tx.Exec(b.Context(), sql, account(id, step), int64(1)); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		}}
	}},
	{"dbos", func(b testing.TB, callers int) work {
		d, transfers := openDBOSOn(b, callers)
		return work{steps: txSteps, do: func(int, int) error { return runDBOS(d, transfers, txSteps) }}
	}},
	{"cruster", func(b testing.TB, callers int) work {
		var wf cruster.WorkflowClient[StepsRequest, int64]
		store := startOn(b, connections(callers), func(s *cruster.Service, pool *pgxpool.Pool) {
			must(pool.Exec(b.Context(), accounts))
			wf = must(cruster.RegisterWorkflow(s, &Transfers{}))
		})
		return work{stats: store.Stats, steps: txSteps, do: func(int, int) error {
			return expect(txSteps)(wf.Execute(b.Context(), StepsRequest{txSteps}))
		}}
	}},
}

// BenchmarkPostgresTx is a workflow of activities that use a transaction.
func BenchmarkPostgresTx(b *testing.B) { compare(b, []int{1, 64}, transactions) }
