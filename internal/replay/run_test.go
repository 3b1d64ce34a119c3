package replay_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/storage"
)

// plain is a workflow of n activities.
func plain(n int, calls *counter) code {
	return func(r *replay.Run) (string, error) {
		out := ""
		for i := range n {
			s, err := do(r, act("Add", i, func(context.Context) (string, error) {
				calls.add("Add")
				return fmt.Sprint(i), nil
			}))
			if err != nil {
				return "", err
			}
			out += s
		}
		return out, nil
	}
}

func TestStepsAreCommittedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := newWorld(t), &counter{}
		n := w.start(map[string]code{"w": plain(3, calls)})
		before := n.commit.Flushes()
		ref := n.begin("w", "1")
		n.wants(ref, "012")
		if got := n.commit.Flushes() - before; got > 5 {
			t.Errorf("3 plain steps cost %d commits, want at most 5: start, steps, end", got)
		}
		if got := calls.get("Add"); got != 3 {
			t.Errorf("activities ran %d times, want 3", got)
		}
		if x := w.execution(ref); x.Status != crustertype.StatusCompleted || x.FinishedAt.IsZero() {
			t.Errorf("execution is %v, finished %v", x.Status, x.FinishedAt)
		}
		n.wants(ref, "012") // also for those who come later
	})
}

func TestEqualActivityCallsAreSeparateSteps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := newWorld(t), &counter{}
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			out := ""
			for range 2 {
				s, err := do(r, act("Inc", 5, func(context.Context) (string, error) { return fmt.Sprint(calls.add("Inc")), nil }))
				if err != nil {
					return "", err
				}
				out += s
			}
			return out, nil
		}})
		n.wants(n.begin("w", "1"), "12")
	})
}

func TestErrorIsTheOutcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			return do(r, act("A", nil, func(context.Context) (string, error) { return "", errors.New("no stock") }))
		}})
		ref := n.begin("w", "1")
		for range 2 {
			if _, err := n.result(ref); err == nil || err.Error() != "no stock" {
				t.Errorf("outcome is %v, want the activity's error", err)
			}
		}
		if x := w.execution(ref); x.Status != crustertype.StatusFailed {
			t.Errorf("status is %v, want failed", x.Status)
		}
	})
}

func TestSecondSleepSleeps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			begin := r.Now()
			for range 2 {
				if err := r.Sleep(10 * time.Second); err != nil {
					return "", err
				}
			}
			return r.Now().Sub(begin).String(), nil
		}})
		n.wants(n.begin("w", "1"), "20s")
	})
}

func TestLongSleepFreesTheRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		defers := 0
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			defer func() {
				defers++
				if defers == 1 {
					wantIs(t, r.Sleep(time.Second), crustertype.ErrSuspended)
				}
			}()
			begin := r.Now()
			if err := r.Sleep(30 * 24 * time.Hour); err != nil {
				return "", err
			}
			return r.Now().Sub(begin).String(), nil
		}})
		synctest.Wait()
		before := runtime.NumGoroutine()
		ref := n.begin("w", "1")
		synctest.Wait()
		if n.Resident() != 0 || runtime.NumGoroutine() > before+20 {
			t.Errorf("%d runs are in memory while it sleeps", n.Resident())
		}
		x := w.execution(ref)
		if x.Status != crustertype.StatusSuspended || x.WaitingFor != "sleep" || time.Until(x.WakeAt) < 29*24*time.Hour {
			t.Errorf("execution is %v until %v for %q", x.Status, x.WakeAt, x.WaitingFor)
		}
		n.wants(ref, "720h0m0s")
		if defers != 2 {
			t.Errorf("the code's defers ran %d times, want 2: at the suspension and at the end", defers)
		}
	})
}

func TestTimerDueWhileEverythingWasDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		defs := map[string]code{"w": func(r *replay.Run) (string, error) { return "woke", r.Sleep(time.Hour) }}
		n := w.start(defs)
		ref := n.begin("w", "1")
		synctest.Wait()
		n.kill()
		time.Sleep(3 * time.Hour)
		w.start(defs).wants(ref, "woke")
	})
}

func TestCrashAtEveryCommit(t *testing.T) {
	t.Parallel()
	for _, at := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, calls := newWorld(t), &counter{}
				fault := &faulty{Store: w.store, after: at}
				w.store = fault
				defs := map[string]code{"w": func(r *replay.Run) (string, error) {
					a, err := do(r, act("A", 1, func(context.Context) (string, error) { calls.add("A"); return "a", nil }))
					if err != nil {
						return "", err
					}
					b := r.Go(act("B", 2, func(ctx context.Context) (string, error) {
						_, err := storage.TxFrom(ctx)
						return "b", err
					}))
					c := r.Go(act("C", 2, func(context.Context) (string, error) { return "c", nil }))
					if err := r.Sleep(10 * time.Second); err != nil {
						return "", err
					}
					outs, _, err := r.Await(true, b, c)
					if err != nil {
						return "", err
					}
					for _, o := range outs {
						s, err := text(o)
						if err != nil {
							return "", err
						}
						a += s
					}
					if r.Changed("later") {
						a += "!"
					}
					return a, nil
				}}
				n := w.start(defs)
				ref := crustertype.ExecutionRef{Type: "w", ID: "1"}
				fault.onFault(func() { n.kill() })
				fault.arm()
				if _, err := n.Start(t.Context(), replay.StartParams{ExecutionRef: ref, Codec: "msgpack"}); err == nil {
					time.Sleep(time.Minute)
				}
				synctest.Wait()
				fault.disarm()
				n.kill()
				n = w.start(defs)
				n.begin("w", "1")
				n.wants(ref, "abc!")
				if got := calls.get("A"); got > 2 {
					t.Errorf("A ran %d times, want at most twice: one crash", got)
				}
			})
		})
	}
}

func TestNondeterminismParksWithoutWriting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		type in struct {
			Amount int
			At     time.Time
		}
		amount := 900
		body := func(r *replay.Run) (string, error) {
			if _, err := do(r, act("Charge", in{Amount: amount}, func(context.Context) (string, error) { return "ok", nil })); err != nil {
				return "", err
			}
			return "done", r.Sleep(time.Hour)
		}
		n := w.start(map[string]code{"w": body})
		ref := n.begin("w", "1")
		synctest.Wait()
		n.kill()
		before := w.steps(ref)
		amount = 1000
		n = w.start(map[string]code{"w": body})
		time.Sleep(2 * time.Hour)
		_, err := n.result(ref)
		wantIs(t, err, crustertype.ErrParked)
		x := w.execution(ref)
		if x.Status != crustertype.StatusParked {
			t.Fatalf("status is %v, want parked", x.Status)
		}
		for _, want := range []string{"step 0", "recorded:  activity Charge", "requested: activity Charge at harness_test.go:", "Amount: 900 -> 1000"} {
			if !strings.Contains(x.Outcome.Failure.Message, want) {
				t.Errorf("report lacks %q:\n%s", want, x.Outcome.Failure.Message)
			}
		}
		if after := w.steps(ref); len(after) != len(before) {
			t.Errorf("%d rows became %d: nothing may be written", len(before), len(after))
		}
		n.kill()
		amount = 900
		n = w.start(map[string]code{"w": body})
		if err := n.Retry(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		n.wants(ref, "done")
	})
}

func TestTimeArgumentIsHintedAt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		body := func(r *replay.Run) (string, error) {
			if _, err := do(r, act("Log", struct{ At time.Time }{time.Now()}, func(context.Context) (string, error) { return "", nil })); err != nil {
				return "", err
			}
			return "", r.Sleep(time.Hour)
		}
		n := w.start(map[string]code{"w": body})
		ref := n.begin("w", "1")
		_, err := n.result(ref)
		wantIs(t, err, crustertype.ErrParked)
		if msg := w.execution(ref).Outcome.Failure.Message; !strings.Contains(msg, "a time differs: use wf.Now()") {
			t.Errorf("report does not hint at the clock:\n%s", msg)
		}
	})
}
