package replay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/replay"
)

// stuck is an activity that waits until its context ends.
func stuck(name string) replay.Call {
	return act(name, nil, func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	})
}

func failing(name string, n int, calls *counter) replay.Call {
	c := act(name, nil, func(context.Context) (string, error) {
		if k := calls.add(name); k <= n {
			return "", fmt.Errorf("failure %d", k)
		}
		return "ok", nil
	})
	return c
}

func TestCancelAtEachKindOfWait(t *testing.T) {
	t.Parallel()
	waits := map[string]code{
		"short sleep": func(r *replay.Run) (string, error) { return "", r.Sleep(30 * time.Second) },
		"long sleep":  func(r *replay.Run) (string, error) { return "", r.Sleep(30 * time.Hour) },
		"activity":    func(r *replay.Run) (string, error) { return do(r, stuck("A")) },
		"future": func(r *replay.Run) (string, error) {
			_, _, err := r.Await(true, r.Go(stuck("A")))
			if err == nil {
				return "", errors.New("activity ended")
			}
			return "", err
		},
		"backoff": func(r *replay.Run) (string, error) {
			c := failing("A", 100, &counter{})
			c.Retries, c.Backoff.Initial, c.Backoff.Max = 50, time.Hour, time.Hour
			return do(r, c)
		},
		"timer": func(r *replay.Run) (string, error) {
			outs, _, err := r.Await(true, r.Timer(20*time.Hour))
			if err != nil {
				return "", err
			}
			return text(outs[0])
		},
	}
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				undone := 0
				n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
					r.OnFailure(func(r *replay.Run) error {
						if err := r.Sleep(5 * time.Hour); err != nil { // a cancel does not concern it
							return err
						}
						_, err := do(r, act("Undo", nil, func(ctx context.Context) (string, error) { undone++; return "", ctx.Err() }))
						return err
					})
					out, err := wait(r)
					if err == nil {
						t.Errorf("the wait ended with %q", out)
					}
					wantIs(t, r.Sleep(time.Second), crustertype.ErrCancelled)
					return "", err
				}})
				ref := n.begin("w", "1")
				time.Sleep(10 * time.Second)
				began := time.Now()
				if err := n.Cancel(t.Context(), ref, "enough"); err != nil {
					t.Fatal(err)
				}
				_, err := n.result(ref)
				if x := w.execution(ref); x.Status != crustertype.StatusCancelled {
					t.Errorf("status is %v (%v), want cancelled", x.Status, err)
				}
				if undone != 1 {
					t.Errorf("the compensation ran %d times", undone)
				}
				if d := time.Since(began); d > 6*time.Hour {
					t.Errorf("the cancel took %v", d)
				}
			})
		})
	}
}

func TestCancelIsNoticedAtTheSamePlaceOnReplay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var trace []string
		body := func(r *replay.Run) (string, error) {
			trace = nil
			r.OnFailure(func(r *replay.Run) error { return r.Sleep(10 * time.Hour) })
			a, b := r.Go(act("A", nil, func(context.Context) (string, error) { return "a", nil })), r.Go(act("B", nil, func(ctx context.Context) (string, error) {
				<-ctx.Done()
				return "b", nil
			}))
			for _, f := range []*replay.Future{a, b, a} {
				outs, _, err := r.Await(true, f)
				if err != nil {
					trace = append(trace, "cancelled")
					return "", err
				}
				s, _ := text(outs[0])
				trace = append(trace, s)
			}
			return "", nil
		}
		n := w.start(map[string]code{"w": body})
		ref := n.begin("w", "1")
		time.Sleep(time.Second)
		if err := n.Cancel(t.Context(), ref, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := fmt.Sprint(trace)
		n.kill()
		n = w.start(map[string]code{"w": body})
		_, err := n.result(ref)
		wantIs(t, err, crustertype.ErrCancelled)
		if after := fmt.Sprint(trace); before != "[a b cancelled]" || after != before {
			t.Errorf("the code saw %s, and %s when it was replayed", before, after)
		}
	})
}

func TestExecuteThatIgnoresACancelCompletes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			_ = r.Sleep(time.Hour)
			return "anyway", nil
		}})
		ref := n.begin("w", "1")
		time.Sleep(time.Second)
		if err := n.Cancel(t.Context(), ref, ""); err != nil {
			t.Fatal(err)
		}
		n.wants(ref, "anyway")
	})
}

func TestCompensationErrorsAreJoined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			r.OnFailure(func(*replay.Run) error { return errors.New("first") })
			r.OnFailure(func(*replay.Run) error { return errors.New("second") })
			return "", errors.New("broken")
		}})
		_, err := n.result(n.begin("w", "1"))
		if want := "broken; compensation: second; compensation: first"; err == nil || err.Error() != want {
			t.Errorf("outcome is %v, want %q", err, want)
		}
	})
}

func TestDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		undone := false
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			r.OnFailure(func(*replay.Run) error { undone = true; return nil })
			return "", r.Sleep(100 * time.Hour)
		}})
		ref := crustertype.ExecutionRef{Type: "w", ID: "1"}
		if _, err := n.Start(t.Context(), replay.StartParams{ExecutionRef: ref, Codec: "msgpack", Timeout: time.Hour}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := n.result(ref)
		wantIs(t, err, crustertype.ErrTimeout)
		if d := time.Since(began); d > time.Hour+time.Second || !undone {
			t.Errorf("it took %v; compensated: %t", d, undone)
		}
		if x := w.execution(ref); x.Status != crustertype.StatusFailed {
			t.Errorf("status is %v, want failed", x.Status)
		}
	})
}

func TestTerminate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			r.OnFailure(func(*replay.Run) error { t.Error("a compensation runs"); return nil })
			return do(r, stuck("A"))
		}})
		ref := n.begin("w", "1")
		got := make(chan error)
		go func() {
			_, err := n.result(ref)
			got <- err
		}()
		synctest.Wait()
		if err := n.Terminate(t.Context(), ref, "told to"); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			var err error
			if i == 0 {
				err = <-got
			} else {
				_, err = n.result(ref)
			}
			wantIs(t, err, crustertype.ErrTerminated)
			if err == nil || !strings.Contains(err.Error(), "told to") {
				t.Errorf("the reason is missing: %v", err)
			}
		}
		if err := n.Retry(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if x := w.execution(ref); x.Run != 2 || x.Status != crustertype.StatusRunning {
			t.Errorf("after a retry it is run %d and %v, want run 2 and running", x.Run, x.Status)
		}
	})
}
