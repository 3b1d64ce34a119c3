package runner

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/storage/storagetest"
)

func openTx(ctx context.Context) error {
	_, err := invoke.From(ctx).Tx()
	return err
}

// When nobody knows whether the transaction of a handler has committed, storage
// is asked before the handler runs again: its effects may be there.
func TestUnknownOutcomeOfATransaction(t *testing.T) {
	t.Parallel()
	for fault, want := range map[storagetest.Fault]int64{storagetest.FailAfter: 1, storagetest.ConnectionLost: 2, storagetest.FailBefore: 2} {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := storagetest.Faulty(memory.New(), storagetest.Script{})
				var runs, sent atomic.Int64
				var r *Runner
				r = begin(t, store,
					echo("e", one(4), func(ctx context.Context, s string) (string, error) {
						if runs.Add(1) == 1 {
							store.Inject(fault)
						}
						if err := openTx(ctx); err != nil {
							return "", err
						}
						invoke.From(ctx).Collect(invoke.Sends{Accepts: []crustertype.Message{r.message("other", "b", s)}})
						return "done " + s, nil
					}),
					echo("other", one(4), func(context.Context, string) (string, error) {
						sent.Add(1)
						return "", nil
					}))
				out, err := r.Call(t.Context(), r.message("e", "a", "x"))
				if err != nil || string(out.Payload) != `"done x"` {
					t.Errorf("Call() = %s, %v", out.Payload, err)
				}
				synctest.Wait()
				if runs.Load() != want || sent.Load() != 1 {
					t.Errorf("the handler ran %d times, want %d; what it sent ran %d times, want 1", runs.Load(), want, sent.Load())
				}
				halt(t, r)
			})
		})
	}
}

// A handler that goes on although its transaction could not begin has an
// outcome like any other: the caller hears of it when it is durable.
func TestTransactionThatCannotBegin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := storagetest.Faulty(memory.New(), storagetest.Script{Before: func(_ int, op string) error {
			if op == storagetest.OpBegin {
				return errors.New("no transactions today")
			}
			return nil
		}})
		r := begin(t, store, echo("e", one(4), func(ctx context.Context, s string) (string, error) {
			if openTx(ctx) == nil {
				t.Error("the transaction began")
			}
			return s, nil
		}))
		m := r.message("e", "a", "x")
		if _, err := r.Call(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if got := state(t, store, m.ID); got.State != crustertype.MessageDone {
			t.Errorf("the caller has an answer, and the request is %v", got.State)
		}
		halt(t, r)
	})
}

// Awaiting with an open transaction waits for a commit that may wait for the
// transaction; awaiting what waits for one's own turn never ends.
func TestAwaitInsideAHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var r *Runner
		var behind crustertype.Message
		r = begin(t, store,
			echo("e", one(4), func(ctx context.Context, s string) (string, error) {
				if s == "behind" {
					return s, nil
				}
				if s == "tx" {
					if err := openTx(ctx); err != nil {
						return "", err
					}
				}
				behind = r.message("e", "a", "behind")
				r.Send(storage.Unit{Accepts: []crustertype.Message{behind}}, func(storage.Result, error) {})
				synctest.Wait()
				_, err := r.Await(ctx, behind.ID)
				return "", err
			}))
		for text, want := range map[string]error{"tx": crustertype.ErrTxOpen, "own turn": crustertype.ErrReentrant} {
			out, err := r.Call(t.Context(), r.message("e", "a", text))
			if err != nil || out.Failure == nil {
				t.Fatalf("Call(%q) = %+v, %v", text, out, err)
			}
			if err := r.cfg.Decode(out.Failure); !errors.Is(err, want) {
				t.Errorf("Await(%s) = %v, want %v", text, err, want)
			}
		}
		if _, err := r.Await(t.Context(), behind.ID); err != nil {
			t.Errorf("Await() outside = %v", err)
		}
		if _, err := r.Await(t.Context(), crustertype.NewRequestID()); !errors.Is(err, crustertype.ErrNotFound) {
			t.Errorf("Await(unknown) = %v, want ErrNotFound", err)
		}
		halt(t, r)
	})
}
