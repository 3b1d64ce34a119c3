package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// effects is where handlers and activities write in these tests: a table
// without a key, so that a doubled effect is seen.
const effects = `CREATE TABLE effects (what TEXT NOT NULL)`

func effectStore() (storage.Store, error) {
	s, err := sqlite.OpenMemory()
	if err != nil {
		return nil, err
	}
	err = sqlite.InTx(context.Background(), s, func(ctx context.Context, tx *sqlite.Transaction) error {
		_, err := tx.ExecContext(ctx, effects)
		return err
	})
	return s, err
}

func effect(ctx context.Context, what string) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO effects (what) VALUES ($1)`, what)
	return err
}

// counted returns how often each effect is in the table.
func counted(t *testing.T, s storage.Store) map[string]int {
	t.Helper()
	rows, err := s.(*sqlite.Store).DB().QueryContext(t.Context(), `SELECT what, count(*) FROM effects GROUP BY what`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got := map[string]int{}
	for rows.Next() {
		var what string
		var n int
		if err := rows.Scan(&what, &n); err != nil {
			t.Fatal(err)
		}
		got[what] = n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return got
}

// Till is an entity that writes through its transaction and tells another one.
type Till struct {
	_ cruster.Entity `cruster:"till"`
	_ cruster.RPC    `cruster:"Pay,persisted"`
	_ cruster.RPC    `cruster:"Heard,persisted"`

	self *cruster.Client[*Till]
}

func (c *Till) Pay(ctx context.Context, t Text) (Text, error) {
	if err := effect(ctx, "paid "+t.S); err != nil {
		return Text{}, err
	}
	if err := cruster.Notify(ctx, c.self.Entity("other"), (*Till).Heard, t); err != nil {
		return Text{}, err
	}
	return Text{"receipt " + t.S}, nil
}

func (c *Till) Heard(ctx context.Context, t Text) (Text, error) {
	return Text{}, effect(ctx, "heard "+t.S)
}

// Everything is a workflow with every kind of step.
type Everything struct {
	_ cruster.Workflow `cruster:"everything"`
	_ cruster.Activity `cruster:"Flaky,retries=3,initial=1s"`

	till *cruster.Client[*Till]
}

func (w *Everything) Execute(wf *cruster.WorkflowContext, t Text) (Text, error) {
	plain, err := cruster.Do(wf, (*Everything).Plain, t)
	if err != nil {
		return Text{}, err
	}
	for range 2 { // equal calls are separate steps
		if _, err := cruster.Do(wf, (*Everything).Write, Text{"step"}); err != nil {
			return Text{}, err
		}
	}
	a := cruster.Go(wf, (*Everything).Write, Text{"left"})
	b := cruster.Go(wf, (*Everything).Write, Text{"right"})
	if _, err := cruster.All(wf, a, b); err != nil {
		return Text{}, err
	}
	if err := cruster.Sleep(wf, 30*time.Second); err != nil {
		return Text{}, err
	}
	flaky, err := cruster.Do(wf, (*Everything).Flaky, Text{"flaky"})
	if err != nil {
		return Text{}, err
	}
	receipt, err := cruster.Call(wf, w.till.Entity("main"), (*Till).Pay, t)
	if err != nil {
		return Text{}, err
	}
	if err := cruster.Sleep(wf, 48*time.Hour); err != nil { // suspends
		return Text{}, err
	}
	if _, err := cruster.Do(wf, (*Everything).Write, Text{"last"}); err != nil {
		return Text{}, err
	}
	return Text{plain.S + ", " + flaky.S + ", " + receipt.S}, nil
}

func (w *Everything) Plain(_ context.Context, t Text) (Text, error) { return Text{"plain " + t.S}, nil }

func (w *Everything) Write(ctx context.Context, t Text) (Text, error) { return t, effect(ctx, t.S) }

func (w *Everything) Flaky(ctx context.Context, t Text) (Text, error) {
	if err := effect(ctx, t.S); err != nil {
		return Text{}, err
	}
	if cruster.Attempt(ctx) < 2 {
		return Text{}, errors.New("not yet") // rolls the effect back
	}
	return t, nil
}

func TestCrashEverywhere(t *testing.T) {
	t.Parallel()
	var tills cruster.Client[*Till]
	var client cruster.WorkflowClient[Text, Text]
	crashes := crustertest.CrashEverywhere(t, crustertest.Scenario{
		Options: crustertest.Options{
			Storage: effectStore,
			Setup: func(svc *cruster.Service) (err error) {
				if tills, err = cruster.Register(svc, &Till{self: &tills}); err != nil {
					return err
				}
				client, err = cruster.RegisterWorkflow(svc, &Everything{till: &tills})
				return err
			},
		},
		Run: func(ctx context.Context) error {
			got, err := client.WithKey("k").Execute(ctx, Text{"x"})
			if err == nil && got.S != "plain x, flaky, receipt x" {
				return fmt.Errorf("the workflow returned %q", got.S)
			}
			return err
		},
		Check: func(t *testing.T, c *crustertest.Cluster) {
			c.Advance(time.Minute) // what was sent arrives
			got := counted(t, c.Storage())
			for what, want := range map[string]int{"step": 2, "left": 1, "right": 1, "flaky": 1, "paid x": 1, "heard x": 1, "last": 1} {
				if got[what] != want {
					t.Errorf("effect %q happened %d times, want %d", what, got[what], want)
				}
			}
		},
	})
	t.Logf("%d crashes", crashes)
	if crashes < 30 {
		t.Errorf("%d crashes were made, want at least 30", crashes)
	}
}

func TestTxIsExactlyOnceOrNotAtAll(t *testing.T) {
	t.Parallel()
	var benches cruster.Client[*Bench]
	opts := crustertest.Options{Storage: effectStore, Setup: func(svc *cruster.Service) (err error) {
		benches, err = cruster.Register(svc, &Bench{do: func(ctx context.Context, s string) (string, error) {
			if err := effect(ctx, s); err != nil {
				return "", err
			}
			switch s {
			case "error":
				return "", errors.New("no")
			case "panic":
				if cruster.Attempt(ctx) == 1 {
					panic("once")
				}
			case "await":
				_, err := cruster.Call(ctx, benches.Entity("b"), (*Bench).Write, Text{"inner"})
				return "", err
			case "send":
				return "", cruster.Notify(ctx, benches.Entity("b"), (*Bench).Write, Text{"sent"})
			case "send, then error":
				if err := cruster.Notify(ctx, benches.Entity("b"), (*Bench).Write, Text{"never"}); err != nil {
					return "", err
				}
				if err := cruster.Notify(ctx, benches.Entity("b"), (*Bench).Write, Text{"at once"}, cruster.After(0), cruster.Key("now")); err != nil {
					return "", err
				}
				return "", errors.New("no")
			}
			return "", nil
		}})
		return err
	}}
	crustertest.Run(t, opts, func(t *testing.T, c *crustertest.Cluster) {
		call := func(s string) error {
			_, err := cruster.Call(t.Context(), benches.Entity("a"), (*Bench).Write, Text{s})
			return err
		}
		for _, s := range []string{"plain", "plain", "panic", "send"} {
			if err := call(s); err != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
		for _, s := range []string{"error", "send, then error"} {
			if err := call(s); err == nil {
				t.Errorf("%s: no error", s)
			}
		}
		if err := call("await"); !errors.Is(err, cruster.ErrTxOpen) {
			t.Errorf("awaiting call while the transaction is open = %v, want ErrTxOpen", err)
		}
		c.Advance(time.Minute)
		got := counted(t, c.Storage())
		want := map[string]int{"plain": 2, "panic": 1, "send": 1, "sent": 1}
		for what, n := range got {
			if n != want[what] {
				t.Errorf("effect %q happened %d times, want %d", what, n, want[what])
			}
		}
		for what, n := range want {
			if got[what] != n {
				t.Errorf("effect %q happened %d times, want %d", what, got[what], n)
			}
		}
	})
}

func TestOutboxOfTheUsersTransaction(t *testing.T) {
	t.Parallel()
	var tills cruster.Client[*Till]
	crustertest.Run(t, crustertest.Options{Storage: effectStore, Setup: func(svc *cruster.Service) (err error) {
		tills, err = cruster.Register(svc, &Till{self: &tills})
		return err
	}}, func(t *testing.T, c *crustertest.Cluster) {
		store := c.Storage().(*sqlite.Store)
		refused := errors.New("refused")
		for _, end := range []error{nil, refused} {
			err := sqlite.InTx(t.Context(), store, func(ctx context.Context, tx *sqlite.Transaction) error {
				if _, err := tx.ExecContext(ctx, `INSERT INTO effects (what) VALUES ('mine')`); err != nil {
					return err
				}
				if err := cruster.Notify(ctx, tills.Entity("a"), (*Till).Heard, Text{"from outside"}); err != nil {
					return err
				}
				return end
			})
			if !errors.Is(err, end) {
				t.Fatalf("InTx = %v, want %v", err, end)
			}
		}
		c.Advance(time.Second) // no poll: the poll comes after five seconds
		got := counted(t, store)
		if got["mine"] != 1 || got["heard from outside"] != 1 {
			t.Errorf("effects %v, want each of the committed transaction once and none of the other", got)
		}
	})
}

func TestNoSQLNamesTheRemedy(t *testing.T) {
	t.Parallel()
	var benches cruster.Client[*Bench]
	crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) (err error) {
		benches, err = cruster.Register(svc, &Bench{do: func(ctx context.Context, s string) (string, error) { return "", effect(ctx, s) }})
		return err
	}}, func(t *testing.T, _ *crustertest.Cluster) {
		_, err := cruster.Call(t.Context(), benches.Entity("a"), (*Bench).Write, Text{"x"})
		if !errors.Is(err, cruster.ErrNoSQL) {
			t.Errorf("SQL on memory storage = %v, want ErrNoSQL", err)
		}
		_, err = cruster.Call(t.Context(), benches.Entity("a"), (*Bench).Read, Text{"x"})
		if err == nil {
			t.Error("a best-effort method has no transaction, but its statement succeeded")
		}
	})
}
