package replay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/storage"
)

func TestRetriesSurviveACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := newWorld(t), &counter{}
		var attempts []int
		body := func(r *replay.Run) (string, error) {
			c := act("A", nil, func(ctx context.Context) (string, error) {
				calls.add("A")
				attempts = append(attempts, invoke.From(ctx).Info().Attempt)
				return "", errors.New("down")
			})
			c.Retries, c.Backoff.Initial, c.Backoff.Max = 3, 10*time.Minute, 10*time.Minute
			return do(r, c)
		}
		n := w.start(map[string]code{"w": body})
		ref := n.begin("w", "1")
		for range 3 {
			time.Sleep(10*time.Minute - time.Second)
			n.kill()
			n = w.start(map[string]code{"w": body})
		}
		_, err := n.result(ref)
		if err == nil || err.Error() != "down" || calls.get("A") != 4 {
			t.Errorf("outcome %v after %d attempts (%v), want the error after 4: 3 retries", err, calls.get("A"), attempts)
		}
		if fmt.Sprint(attempts) != "[1 2 3 4]" {
			t.Errorf("attempts were numbered %v", attempts)
		}
	})
}

func TestPermanentErrorIsNotRetried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := newWorld(t), &counter{}
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			c := act("A", nil, func(context.Context) (string, error) {
				calls.add("A")
				return "", &crustertype.Error{Code: crustertype.CodeUser, Message: "no", Permanent: true}
			})
			c.Retries = 5
			return do(r, c)
		}})
		if _, err := n.result(n.begin("w", "1")); err == nil || calls.get("A") != 1 {
			t.Errorf("outcome %v after %d attempts, want 1", err, calls.get("A"))
		}
	})
}

func TestInfrastructureErrorIsNeverTheOutcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := newWorld(t), &counter{}
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			return do(r, act("A", nil, func(context.Context) (string, error) {
				switch calls.add("A") {
				case 1:
					return "", &storage.TransientError{Err: errors.New("connection lost")}
				case 2:
					panic("odd")
				case 3:
					return "", fmt.Errorf("call: %w", crustertype.ErrUnavailable)
				}
				return "fine", nil
			}))
		}})
		n.wants(n.begin("w", "1"), "fine")
	})
}

func TestPanicsEndInADeadExecutionThatCanBeRetried(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(r *replay.Run) (string, error){
		"workflow": func(*replay.Run) (string, error) { panic("boom") },
		"activity": func(r *replay.Run) (string, error) {
			return do(r, act("A", nil, func(context.Context) (string, error) { panic("boom") }))
		},
		"future": func(r *replay.Run) (string, error) {
			_, _, err := r.Await(true, r.Go(act("A", nil, func(context.Context) (string, error) { panic("boom") })))
			return "", err
		},
		"goexit": func(r *replay.Run) (string, error) {
			return do(r, act("A", nil, func(context.Context) (string, error) {
				runtime.Goexit()
				return "", nil
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, fixed, runs := newWorld(t), false, 0
				n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
					if runs++; fixed {
						return do(r, act("A", nil, func(context.Context) (string, error) { return "mended", nil }))
					}
					return broken(r)
				}})
				ref := n.begin("w", "1")
				_, err := n.result(ref)
				wantIs(t, err, crustertype.ErrDeadLettered)
				x := w.execution(ref)
				if msg := x.Outcome.Failure.Message; !strings.Contains(msg, "boom") && !strings.Contains(msg, "Goexit") {
					t.Errorf("the cause is missing:\n%s", msg)
				}
				if (name == "workflow" || name == "goexit") && runs != 10 {
					t.Errorf("it was run %d times, want 10", runs)
				}
				fixed = true
				if err := n.Retry(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
				n.wants(ref, "mended")
			})
		})
	}
}

func TestCrashLoopIsCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := newWorld(t), &counter{}
		defs := map[string]code{"w": func(r *replay.Run) (string, error) {
			return do(r, act("Poison", nil, func(ctx context.Context) (string, error) {
				calls.add("Poison")
				<-ctx.Done()
				return "", ctx.Err()
			}))
		}}
		n := w.start(defs)
		ref := n.begin("w", "1")
		for i := 0; i < 20 && w.execution(ref).Status == crustertype.StatusRunning; i++ {
			synctest.Wait()
			n.kill()
			n = w.start(defs)
			synctest.Wait()
		}
		if x := w.execution(ref); x.Status != crustertype.StatusDead || calls.get("Poison") != 11 {
			t.Errorf("after %d runs it is %v, want dead after 11", calls.get("Poison"), x.Status)
		}
	})
}

func TestCleanRestartsAreNotCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		defs := map[string]code{"w": func(r *replay.Run) (string, error) { return do(r, stuck("Slow")) }}
		n := w.start(defs)
		ref := n.begin("w", "1")
		for range 15 {
			synctest.Wait()
			if err := n.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			n.kill()
			n = w.start(defs)
		}
		synctest.Wait()
		if x := w.execution(ref); x.Status != crustertype.StatusRunning || x.Attempts > 1 {
			t.Errorf("after 15 clean restarts it is %v with %d attempts", x.Status, x.Attempts)
		}
		if rows := w.steps(ref); len(rows) != 0 {
			t.Errorf("interruptions left rows: %+v", rows)
		}
	})
}

func TestChangedBothWays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		sleep := func(r *replay.Run) error { return r.Sleep(time.Hour) }
		old := func(r *replay.Run) (string, error) {
			if _, err := do(r, act("Old", nil, func(context.Context) (string, error) { return "", nil })); err != nil {
				return "", err
			}
			return "old", sleep(r)
		}
		changed := func(r *replay.Run) (string, error) {
			if !r.Changed("new") {
				return old(r)
			}
			if !r.Changed("new") {
				t.Error("the answer changed within a run")
			}
			if _, err := do(r, act("New", nil, func(context.Context) (string, error) { return "", nil })); err != nil {
				return "", err
			}
			return "new", sleep(r)
		}
		n := w.start(map[string]code{"w": old})
		first := n.begin("w", "1")
		synctest.Wait()
		n.kill()
		n = w.start(map[string]code{"w": changed})
		second := n.begin("w", "2")
		synctest.Wait()
		n.kill()
		n = w.start(map[string]code{"w": changed})
		n.wants(first, "old")
		n.wants(second, "new")
	})
}

func TestAnyIsTheSameOnReplay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				delays := make([]time.Duration, 6)
				for i := range delays {
					delays[i] = time.Duration(1+rnd.IntN(4)) * time.Second // several end at once
				}
				w, seen := newWorld(t), map[int][]string{}
				var mu sync.Mutex
				body := func(r *replay.Run) (string, error) {
					var fs []*replay.Future
					for i, d := range delays {
						fs = append(fs, r.Go(act(fmt.Sprint("A", i), i, func(ctx context.Context) (string, error) {
							if i%2 == 0 {
								if _, err := storage.TxFrom(ctx); err != nil {
									return "", err
								}
							}
							select {
							case <-time.After(d):
								return fmt.Sprint(i), nil
							case <-ctx.Done():
								return "", ctx.Err()
							}
						})))
					}
					order := ""
					for round := 0; len(fs) > 0; round++ {
						outs, i, err := r.Await(false, fs...)
						if err != nil {
							return "", err
						}
						s, err := text(outs[0])
						if err != nil {
							return "", err
						}
						order += s
						fs = append(fs[:i:i], fs[i+1:]...)
						// The order becomes an argument: another one is noticed.
						if _, err := do(r, act("Note", order, func(context.Context) (string, error) { return "", nil })); err != nil {
							return "", err
						}
						mu.Lock()
						seen[round] = append(seen[round], order)
						mu.Unlock()
					}
					return order, nil
				}
				n := w.start(map[string]code{"w": body})
				ref := n.begin("w", "1")
				time.Sleep(time.Duration(rnd.IntN(4500)) * time.Millisecond)
				n.kill()
				n = w.start(map[string]code{"w": body})
				if got, err := n.result(ref); err != nil || len(got) != len(delays) {
					t.Errorf("it ended with %q, %v", got, err)
				}
				for round, orders := range seen {
					for _, o := range orders {
						if o != orders[0] {
							t.Errorf("round %d saw %v", round, orders)
						}
					}
				}
			})
		})
	}
}

func TestWakeWhileSuspending(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			for range 50 {
				if err := r.Sleep(2 * time.Minute); err != nil {
					return "", err
				}
			}
			return "done", nil
		}})
		ref := n.begin("w", "1")
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(7+i) * time.Second):
						n.Wake(ref)
					}
				}
			})
		}
		n.wants(ref, "done")
		close(stop)
		wg.Wait()
	})
}

func TestCancelWhileSuspending(t *testing.T) {
	t.Parallel()
	for i := range 30 {
		bubbleRun(t, i, func(t *testing.T) {
			w := newWorld(t)
			n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) { return "", r.Sleep(1000 * time.Hour) }})
			ref := n.begin("w", "1")
			for range i {
				runtime.Gosched()
			}
			if err := n.Cancel(t.Context(), ref, ""); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err := n.result(ref)
			wantIs(t, err, crustertype.ErrCancelled)
			if d := time.Since(began); d > time.Minute {
				t.Errorf("the cancel was noticed after %v: it was lost", d)
			}
		})
	}
}

func bubbleRun(t *testing.T, i int, f func(t *testing.T)) {
	t.Run(fmt.Sprint(i), func(t *testing.T) { bubble(t, f) })
}
