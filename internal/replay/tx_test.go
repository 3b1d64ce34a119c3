package replay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// ledgerWorld is a SQLite database with a table of the user's.
func ledgerWorld(t *testing.T) *world {
	t.Helper()
	store, err := sqlite.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	tx, err := store.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `CREATE TABLE ledger (name TEXT)`); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(t.Context(), storage.Unit{}); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, store: store, log: slog.New(slog.DiscardHandler)}
}

// book writes a row in the activity's transaction.
func book(ctx context.Context, name string) error {
	_, err := invoke.From(ctx).SQL().Exec(ctx, `INSERT INTO ledger VALUES ($1)`, name)
	return err
}

func (w *world) ledger() string { return strings.Join(w.bookings(), " ") }

func (w *world) bookings() []string {
	w.t.Helper()
	tx, err := w.store.Begin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(w.t.Context()) }()
	rows, err := tx.Query(w.t.Context(), `SELECT name FROM ledger ORDER BY name`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// bookkeeping is a workflow with three transactional steps, two of them at the
// same time, between plain ones.
func bookkeeping(r *replay.Run) (string, error) {
	if _, err := do(r, act("Plain", 1, func(context.Context) (string, error) { return "", nil })); err != nil {
		return "", err
	}
	entry := func(name string) replay.Call {
		return act(name, nil, func(ctx context.Context) (string, error) { return name, book(ctx, name) })
	}
	if _, err := do(r, entry("a")); err != nil {
		return "", err
	}
	if _, _, err := r.Await(true, r.Go(entry("b")), r.Go(entry("c")), r.Go(act("Plain", 2, func(context.Context) (string, error) { return "", nil }))); err != nil {
		return "", err
	}
	return "booked", nil
}

func TestTransactionalStepsHappenOnceAcrossCrashes(t *testing.T) {
	t.Parallel()
	for at := range 12 {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/applied=%t", at, applied), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := ledgerWorld(t)
					fault := &faulty{Store: w.store, after: at + 1, applied: applied}
					w.store = fault
					defs := map[string]code{"w": bookkeeping}
					n := w.start(defs)
					fault.onFault(func() { n.kill() })
					fault.arm()
					ref := crustertype.ExecutionRef{Type: "w", ID: "1"}
					_, _ = n.Start(t.Context(), replay.StartParams{ExecutionRef: ref, Codec: "msgpack"})
					time.Sleep(time.Minute)
					fault.disarm()
					n.kill()
					n = w.start(defs)
					n.begin("w", "1")
					n.wants(ref, "booked")
					if got := w.ledger(); got != "a b c" {
						t.Errorf("the ledger has %q, want a b c: each once", got)
					}
				})
			})
		}
	}
}

func TestLostAnswerOfACommit(t *testing.T) {
	t.Parallel()
	for at := range 8 {
		bubbleRun(t, at, func(t *testing.T) {
			w := ledgerWorld(t)
			fault := &faulty{Store: w.store, after: at + 1, applied: true, once: true}
			w.store = fault
			n := w.start(map[string]code{"w": bookkeeping})
			fault.onFault(func() {})
			fault.arm()
			n.wants(n.begin("w", "1"), "booked")
			if got := w.ledger(); got != "a b c" {
				t.Errorf("the ledger has %q, want a b c: each once", got)
			}
		})
	}
}

func TestFailedAttemptIsRolledBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := ledgerWorld(t), &counter{}
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			c := act("A", nil, func(ctx context.Context) (string, error) {
				if err := book(ctx, fmt.Sprint("try", calls.add("A"))); err != nil {
					return "", err
				}
				if calls.get("A") < 3 {
					return "", errors.New("not yet")
				}
				return "", nil
			})
			c.Retries = 5
			return do(r, c)
		}})
		n.wants(n.begin("w", "1"), "")
		if got := w.ledger(); got != "try3" {
			t.Errorf("the ledger has %q, want the last attempt's row alone", got)
		}
	})
}

func TestNoTransactionIsOpenDuringBackoff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := ledgerWorld(t), &counter{}
		n := w.start(map[string]code{
			"failing": func(r *replay.Run) (string, error) {
				c := act("A", nil, func(ctx context.Context) (string, error) {
					if err := book(ctx, "x"); err != nil {
						return "", err
					}
					if calls.add("A") == 1 {
						return "", errors.New("not yet")
					}
					return "", nil
				})
				c.Retries, c.Backoff.Initial = 1, 30*time.Second
				return do(r, c)
			},
			"other": bookkeeping,
		})
		ref := n.begin("failing", "1")
		synctest.Wait()
		began := time.Now()
		n.wants(n.begin("other", "1"), "booked") // SQLite has one writer
		if d := time.Since(began); d > time.Second {
			t.Errorf("another workflow waited %v for the writer", d)
		}
		n.wants(ref, "")
	})
}

func TestSendsCommitWithTheStep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := ledgerWorld(t), &counter{}
		msg := func(n byte) crustertype.Message {
			return crustertype.Message{
				ID: crustertype.RequestID{n}, Shard: theShard, Address: crustertype.Address{Type: "e", ID: "1"}, Method: "M",
				State: crustertype.MessagePending, CreatedAt: time.Now(),
			}
		}
		told := 0
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			c := act("A", nil, func(ctx context.Context) (string, error) {
				k := calls.add("A")
				invoke.From(ctx).Collect(invoke.Sends{Accepts: []crustertype.Message{msg(byte(k))}, After: []func(){func() { told++ }}})
				if k == 1 {
					return "", errors.New("not yet")
				}
				return "", book(ctx, "a")
			})
			c.Retries = 1
			if _, err := do(r, c); err != nil {
				return "", err
			}
			return do(r, act("B", nil, func(ctx context.Context) (string, error) {
				invoke.From(ctx).Collect(invoke.Sends{Accepts: []crustertype.Message{msg(9)}})
				return "", nil
			}))
		}})
		n.wants(n.begin("w", "1"), "")
		synctest.Wait()
		for k, want := range map[byte]bool{1: false, 2: true, 9: true} {
			_, err := w.store.Message(t.Context(), crustertype.RequestID{k})
			if got := err == nil; got != want {
				t.Errorf("message %d is stored: %t, want %t", k, got, want)
			}
		}
		if told != 1 {
			t.Errorf("%d callbacks ran, want that of the attempt that succeeded", told)
		}
	})
}
