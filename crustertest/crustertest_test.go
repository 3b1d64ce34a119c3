package crustertest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Ledger counts what it was told, in the test's memory.
type Ledger struct {
	_ cruster.Entity `cruster:"ledger"`
	_ cruster.RPC    `cruster:"Note,persisted"`

	mu   sync.Mutex
	seen map[string]int
}

type Entry struct{ Text string }

func (l *Ledger) Note(_ context.Context, e Entry) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[e.Text]++
	return l.seen[e.Text], nil
}

func TestKillKeepsWhatWasAccepted(t *testing.T) {
	t.Parallel()
	ledger := &Ledger{seen: map[string]int{}}
	var ledgers cruster.Client[*Ledger]
	crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) (err error) {
		ledgers, err = cruster.Register(svc, ledger)
		return err
	}}, func(t *testing.T, c *crustertest.Cluster) {
		for i := range 10 {
			err := cruster.Notify(t.Context(), ledgers.Entity("a"), (*Ledger).Note, Entry{fmt.Sprint(i)}, cruster.After(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
		}
		c.Restart()
		c.Advance(2 * time.Hour)
		for i := range 10 {
			if n := ledger.seen[fmt.Sprint(i)]; n != 1 {
				t.Errorf("notification %d ran %d times after the restart, want once", i, n)
			}
		}
	})
}

func TestCrashEverywhereWithKeyedCalls(t *testing.T) {
	t.Parallel()
	ledger := &Ledger{seen: map[string]int{}}
	var ledgers cruster.Client[*Ledger]
	crashes := crustertest.CrashEverywhere(t, crustertest.Scenario{
		Options: crustertest.Options{Setup: func(svc *cruster.Service) (err error) {
			ledgers, err = cruster.Register(svc, ledger)
			return err
		}},
		Run: func(ctx context.Context) error {
			for i := range 3 {
				k := fmt.Sprint(i)
				if _, err := cruster.Call(ctx, ledgers.Entity("a"), (*Ledger).Note, Entry{k}, cruster.Key(k)); err != nil {
					return err
				}
			}
			return nil
		},
		Check: func(t *testing.T, _ *crustertest.Cluster) {
			for i := range 3 {
				if n := ledger.seen[fmt.Sprint(i)]; n < 1 || n > 2 {
					t.Errorf("call %d ran %d times, want once, or twice when the crash hid the first", i, n)
				}
			}
			clear(ledger.seen)
		},
	})
	if crashes < 2*6 {
		t.Errorf("%d crashes were made, want at least 12: three calls make six commits", crashes)
	}
}

// A test kit must fail where the code under test is wrong.
func TestCommitsAreCounted(t *testing.T) {
	t.Parallel()
	ledger := &Ledger{seen: map[string]int{}}
	var ledgers cruster.Client[*Ledger]
	crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) (err error) {
		ledgers, err = cruster.Register(svc, ledger)
		return err
	}}, func(t *testing.T, c *crustertest.Cluster) {
		before := c.Commits()
		if _, err := cruster.Call(t.Context(), ledgers.Entity("a"), (*Ledger).Note, Entry{"x"}); err != nil {
			t.Fatal(err)
		}
		if n := c.Commits() - before; n != 2 {
			t.Errorf("a persisted call made %d commits, want 2: accept and outcome", n)
		}
		c.Kill()
		_, err := cruster.Call(t.Context(), ledgers.Entity("a"), (*Ledger).Note, Entry{"x"})
		if err == nil || errors.Is(err, cruster.ErrNotStarted) {
			t.Errorf("call of a killed process = %v, want an error", err)
		}
		c.Start()
	})
}
