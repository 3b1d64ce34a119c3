package replay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/replay"
)

// saga books three rows with sleeps and parallel steps between, may fail, and
// takes back what it booked.
func saga(calls *counter) code {
	return func(r *replay.Run) (string, error) {
		id := r.Execution().ID
		run := fmt.Sprint("/", r.Execution().Run)
		entry := func(what string) replay.Call {
			c := act(what, nil, func(ctx context.Context) (string, error) {
				if calls.add(id+what)%3 == 1 { // every first attempt fails, in one way or the other
					switch len(id+what) % 3 {
					case 0:
						return "", errors.New("flaky")
					case 1:
						panic("flaky")
					}
				}
				select {
				case <-time.After(700 * time.Millisecond):
				case <-ctx.Done():
					return "", ctx.Err()
				}
				return what, book(ctx, id+run+what)
			})
			c.Retries = 3
			return c
		}
		undo := func(what string) {
			r.OnFailure(func(r *replay.Run) error {
				_, err := do(r, entry("undo-"+what))
				return err
			})
		}
		if _, err := do(r, entry("a")); err != nil {
			return "", err
		}
		undo("a")
		if err := r.Sleep(3 * time.Second); err != nil {
			return "", err
		}
		b, c := r.Go(entry("b")), r.Go(entry("c"))
		if err := r.Sleep(2 * time.Minute); err != nil {
			return "", err
		}
		outs, first, err := r.Await(false, b, c)
		if err != nil {
			return "", err
		}
		if _, err := text(outs[0]); err != nil {
			return "", err
		}
		undo([]string{"b", "c"}[first])
		if _, _, err := r.Await(true, b, c, r.Timer(time.Second)); err != nil {
			return "", err
		}
		if id[len(id)-1] == '3' {
			return "", errors.New("sold out")
		}
		return fmt.Sprint(id, first), nil
	}
}

// TestChaos kills, drains, cancels, terminates, retries and wakes at random.
// Afterwards everything ends, no outcome has changed, and nothing was booked
// twice.
func TestChaos(t *testing.T) {
	t.Parallel()
	seeds := uint64(6)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 42))
				w, calls := ledgerWorld(t), &counter{}
				defs := map[string]code{"w": saga(calls)}
				n := w.start(defs)
				var refs []crustertype.ExecutionRef
				for i := range 8 {
					refs = append(refs, n.begin("w", fmt.Sprint("x", i)))
				}
				seen := map[string]string{} // outcome by execution and run
				check := func() {
					for _, ref := range refs {
						x := w.execution(ref)
						if !x.Status.Final() {
							continue
						}
						key, out := fmt.Sprint(ref, x.Run), fmt.Sprintf("%v %q %+v", x.Status, x.Outcome.Payload, x.Outcome.Failure)
						if before, ok := seen[key]; ok && before != out {
							t.Errorf("the outcome of %s changed from %s to %s", key, before, out)
						}
						seen[key] = out
					}
				}
				for range 40 {
					time.Sleep(time.Duration(rnd.IntN(6000)) * time.Millisecond)
					ref := refs[rnd.IntN(len(refs))]
					switch rnd.IntN(12) {
					case 0, 1:
						n.kill()
						n = w.start(defs)
					case 2:
						if err := n.Drain(t.Context()); err != nil {
							t.Fatal(err)
						}
						n.kill()
						n = w.start(defs)
					case 3:
						_ = n.Cancel(t.Context(), ref, "chaos")
					case 4:
						_ = n.Terminate(t.Context(), ref, "chaos")
					case 5, 6:
						_ = n.Retry(t.Context(), ref)
					case 7:
						n.Wake(ref)
					case 8:
						n.begin("w", ref.ID)
					}
					check()
				}
				for _, ref := range refs {
					_, err := n.Wait(t.Context(), ref)
					for errors.Is(err, crustertype.ErrDeadLettered) {
						if err = n.Retry(t.Context(), ref); err == nil {
							_, err = n.Wait(t.Context(), ref)
						}
					}
					if err != nil {
						t.Errorf("%v does not end: %v", ref, err)
					}
				}
				check()
				booked := map[string]int{}
				for _, name := range w.bookings() {
					if booked[name]++; booked[name] > 1 {
						t.Errorf("%q was booked twice", name)
					}
				}
			})
		})
	}
}
