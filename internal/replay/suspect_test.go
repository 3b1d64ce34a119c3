package replay_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/scheduler"
)

// crashes is a process that dies when the poison of one workflow runs, and is
// started again.
type crashes struct {
	w      *world
	die    chan struct{}
	deaths int
}

// poison kills the process when it is run, after a time.
func (c *crashes) poison(after time.Duration) code {
	return func(r *replay.Run) (string, error) {
		return do(r, act("Poison", nil, func(ctx context.Context) (string, error) {
			select {
			case <-time.After(after):
				select {
				case c.die <- struct{}{}:
				default:
				}
				<-ctx.Done()
			case <-ctx.Done():
			}
			return "", ctx.Err()
		}))
	}
}

// untilDead starts the process again and again until the execution is dead, and
// returns the process that then runs.
func (c *crashes) untilDead(defs map[string]code, n *runner, ref crustertype.ExecutionRef) *runner {
	c.w.t.Helper()
	for c.w.execution(ref).Status != crustertype.StatusDead {
		select {
		case <-c.die:
		case <-time.After(time.Hour):
			c.w.t.Fatalf("%v is %v after %d deaths, and no process dies any more", ref, c.w.execution(ref).Status, c.deaths)
		}
		if c.deaths++; c.deaths > 200 {
			c.w.t.Fatalf("%v still kills its process after %d deaths", ref, c.deaths)
		}
		n.kill()
		n = c.w.start(defs)
		synctest.Wait()
	}
	return n
}

// A poisonous execution is buried, and nobody else: neither those that wait nor
// those that get on with their steps when they are left alone.
func TestInnocentsSurviveACrashLoop(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, time.Second, 15 * time.Second, time.Minute} {
		t.Run(after.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				c := &crashes{w: w, die: make(chan struct{}, 1)}
				never := crustertype.ExecutionRef{Type: "never", ID: "0"}
				defs := map[string]code{
					"poison": c.poison(after),
					"never":  func(r *replay.Run) (string, error) { return "at last", r.Sleep(24 * time.Hour) },
					"waits":  func(r *replay.Run) (string, error) { return do(r, r.JoinCall("it", never)) },
					"retries": func(r *replay.Run) (string, error) {
						call := act("Fails", nil, func(context.Context) (string, error) { return "", errors.New("not yet") })
						call.Retries, call.Backoff = 1e6, scheduler.Policy{Initial: 30 * time.Second, Max: 30 * time.Second}
						_, _, err := r.Await(true, r.Go(call), r.Go(r.JoinCall("it", never)))
						return "", err
					},
					"works": func(r *replay.Run) (string, error) {
						for i := range 1000 {
							if _, err := do(r, act("Work", i, func(context.Context) (string, error) { return "", nil })); err != nil {
								return "", err
							}
							if err := r.Sleep(time.Second); err != nil {
								return "", err
							}
						}
						return "done", nil
					},
				}
				n := w.start(defs)
				n.begin("never", "0")
				var innocent []crustertype.ExecutionRef
				for i := range 10 {
					innocent = append(innocent, n.begin("waits", fmt.Sprint(i)), n.begin("retries", fmt.Sprint(i)), n.begin("works", fmt.Sprint(i)))
				}
				bad := n.begin("poison", "1")
				n = c.untilDead(defs, n, bad)
				if c.deaths > 30 {
					t.Errorf("the process died %d times", c.deaths)
				}
				for _, ref := range innocent {
					if x := w.execution(ref); x.Status != crustertype.StatusRunning || x.Attempts > 5 { // a mark may not have been taken back yet
						t.Errorf("%v is %v with %d attempts after %d deaths", ref, x.Status, x.Attempts, c.deaths)
					}
				}
				for _, ref := range innocent {
					if want := map[string]string{"waits": "at last", "works": "done"}[ref.Type]; want != "" {
						n.wants(ref, want)
					}
				}
			})
		})
	}
}

// A wait is no crash: whoever restarts the process as often as he likes buries
// nothing that waits.
func TestWaitingSurvivesAnyNumberOfCrashes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		defs := map[string]code{
			"parent": func(r *replay.Run) (string, error) {
				return do(r, r.JoinCall("it", crustertype.ExecutionRef{Type: "child", ID: "1"}))
			},
			"child": func(r *replay.Run) (string, error) { return "done", r.Sleep(50 * time.Second) },
		}
		n := w.start(defs)
		child, parent := n.begin("child", "1"), n.begin("parent", "1")
		for range 25 {
			synctest.Wait()
			n.kill()
			n = w.start(defs)
		}
		synctest.Wait()
		for _, ref := range []crustertype.ExecutionRef{child, parent} {
			if x := w.execution(ref); x.Status != crustertype.StatusRunning || x.Attempts > 3 {
				t.Errorf("%v is %v with %d attempts after 25 crashes", ref, x.Status, x.Attempts)
			}
		}
		n.wants(parent, "done")
	})
}

// Suspects run one at a time: several that kill their process are all found, and
// one that is merely slow does not keep the others out.
func TestSuspectsRunOneAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		c := &crashes{w: w, die: make(chan struct{}, 1)}
		defs := map[string]code{"poison": c.poison(time.Second), "slow": func(r *replay.Run) (string, error) {
			return do(r, act("Slow", nil, func(ctx context.Context) (string, error) {
				select {
				case <-time.After(40 * time.Second):
					return "done", nil
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}))
		}}
		n := w.start(defs)
		var slow, bad []crustertype.ExecutionRef
		for i := range 4 {
			slow = append(slow, n.begin("slow", fmt.Sprint(i)))
			bad = append(bad, n.begin("poison", fmt.Sprint(i)))
		}
		for _, ref := range bad {
			n = c.untilDead(defs, n, ref)
		}
		t.Logf("%d deaths", c.deaths)
		begin := time.Now()
		for _, ref := range slow {
			n.wants(ref, "done")
		}
		if d := time.Since(begin); d > 90*time.Second {
			t.Errorf("it took %v to go on after the last death", d)
		}
	})
}

// A suspect that has got on is none any more.
func TestProgressClearsASuspect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		wait := make(chan struct{})
		defs := map[string]code{"w": func(r *replay.Run) (string, error) {
			if _, err := do(r, act("A", nil, func(ctx context.Context) (string, error) {
				select {
				case <-wait:
					return "", nil
				case <-ctx.Done():
					return "", ctx.Err()
				}
			})); err != nil {
				return "", err
			}
			return do(r, stuck("B"))
		}}
		n := w.start(defs)
		ref := n.begin("w", "1")
		for range 6 {
			synctest.Wait()
			n.kill()
			n = w.start(defs)
		}
		synctest.Wait()
		if x := w.execution(ref); x.Attempts != 6 {
			t.Errorf("%d attempts after 6 crashes within a step, want 6", x.Attempts)
		}
		close(wait)
		synctest.Wait()
		if x := w.execution(ref); x.Attempts != 0 {
			t.Errorf("%d attempts after a step was done, want 0", x.Attempts)
		}
	})
}
