package replay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/replay"
)

func TestKeyConflict(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": plain(1, &counter{})})
		p := replay.StartParams{ExecutionRef: crustertype.ExecutionRef{Type: "w", ID: "k"}, Key: "k", Digest: [16]byte{1}, Codec: "msgpack"}
		for i := range 3 {
			existed, err := n.Start(t.Context(), p)
			if err != nil || existed != (i > 0) {
				t.Errorf("start %d: existed %t, %v", i, existed, err)
			}
		}
		n.wants(p.ExecutionRef, "0")
		p.Digest[0]++
		_, err := n.Start(t.Context(), p)
		wantIs(t, err, crustertype.ErrKeyConflict)
	})
}

func TestManyWaitersGetOneOutcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) { return "x", r.Sleep(3 * time.Minute) }})
		ref := n.begin("w", "1")
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 4 * time.Second) // before, while and after it sleeps
				n.wants(ref, "x")
			})
		}
		wg.Wait()
	})
}

func TestWaitersOfADroppedShardAskAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) { return do(r, stuck("A")) }})
		ref := n.begin("w", "1")
		go func() {
			time.Sleep(time.Second)
			n.mu.Lock()
			n.lost = true
			n.mu.Unlock()
			n.Drop([]crustertype.Shard{theShard})
		}()
		_, err := n.Wait(t.Context(), ref)
		wantIs(t, err, crustertype.ErrNotOwner)
		synctest.Wait()
		if n.Resident() != 0 {
			t.Errorf("%d runs are left", n.Resident())
		}
	})
}

func TestWaitForWhatDoesNotExist(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		_, err := n.Wait(t.Context(), crustertype.ExecutionRef{Type: "w", ID: "?"})
		wantIs(t, err, crustertype.ErrNotFound)
	})
}

func TestHistoryLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.MaxSteps = 20
		n := w.start(map[string]code{
			"honest": plain(21, &counter{}),
			"stubborn": func(r *replay.Run) (string, error) {
				for {
					_, _ = do(r, act("A", nil, func(context.Context) (string, error) { return "", nil }))
				}
			},
		})
		_, err := n.result(n.begin("honest", "1"))
		wantIs(t, err, crustertype.ErrHistoryTooLong)
		_, err = n.result(n.begin("stubborn", "1"))
		wantIs(t, err, crustertype.ErrDeadLettered)
	})
}

func TestResidentRunsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.MaxResident = 3
		var mu sync.Mutex
		most := 0
		var n *runner
		n = w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			mu.Lock()
			most = max(most, n.Resident())
			mu.Unlock()
			return "ok", r.Sleep(10 * time.Second)
		}})
		var refs []crustertype.ExecutionRef
		for i := range 20 {
			refs = append(refs, n.begin("w", fmt.Sprint(i)))
		}
		for _, ref := range refs {
			n.wants(ref, "ok")
		}
		if most > 3 {
			t.Errorf("%d runs were in memory at a time, want at most 3", most)
		}
	})
}

func TestParentsDoNotStarveTheirChildren(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.MaxResident = 4
		n := w.start(map[string]code{
			"parent": func(r *replay.Run) (string, error) {
				out, err := r.Do(r.ExecuteCall(replay.Child{Call: replay.Call{Name: "child"}, Params: func(id crustertype.RequestID) (replay.StartParams, error) {
					return replay.StartParams{ExecutionRef: crustertype.ExecutionRef{Type: "child", ID: id.String()}, Codec: "msgpack"}, nil
				}}))
				if err != nil {
					return "", err
				}
				return text(out)
			},
			"child": func(r *replay.Run) (string, error) { return "grown", r.Sleep(time.Second) },
		})
		var refs []crustertype.ExecutionRef
		for i := range 12 {
			refs = append(refs, n.begin("parent", fmt.Sprint(i)))
		}
		for _, ref := range refs {
			n.wants(ref, "grown")
		}
	})
}

func TestCancelReachesTheChild(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		child := crustertype.ExecutionRef{Type: "child", ID: "c"}
		n := w.start(map[string]code{
			"parent": func(r *replay.Run) (string, error) {
				_, err := r.Do(r.ExecuteCall(replay.Child{Call: replay.Call{Name: "child"}, Params: func(crustertype.RequestID) (replay.StartParams, error) {
					return replay.StartParams{ExecutionRef: child, Codec: "msgpack"}, nil
				}}))
				if err == nil {
					err = errors.New("the child ended")
				}
				return "", err
			},
			"child": func(r *replay.Run) (string, error) { return "", r.Sleep(100 * time.Hour) },
		})
		ref := n.begin("parent", "1")
		time.Sleep(time.Minute)
		if err := n.Cancel(t.Context(), ref, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, ref := range []crustertype.ExecutionRef{ref, child} {
			if x := w.execution(ref); x.Status == crustertype.StatusRunning || x.Status == crustertype.StatusSuspended {
				t.Errorf("%v is %v", ref, x.Status)
			}
		}
	})
}

func TestUnknownWorkflowStaysPending(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		ref := n.begin("w", "1")
		for range 12 {
			time.Sleep(time.Second)
			n.kill()
			n = w.start(nil)
		}
		n.kill()
		if x := w.execution(ref); x.Status != crustertype.StatusRunning || x.Attempts != 0 {
			t.Fatalf("it is %v after %d attempts, want running and not counted", x.Status, x.Attempts)
		}
		w.start(map[string]code{"w": plain(1, &counter{})}).wants(ref, "0")
	})
}

func TestVerbsElsewhereAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			done := make(chan error)
			go func() { done <- r.Sleep(time.Second) }()
			wantIs(t, <-done, crustertype.ErrInvalid)
			outs, _, err := r.Await(true, r.Go(act("A", nil, func(context.Context) (string, error) {
				wantIs(t, r.Sleep(time.Second), crustertype.ErrInvalid)
				return "", nil
			})))
			if err != nil {
				return "", err
			}
			_, err = do(r, act("B", nil, func(context.Context) (string, error) {
				wantIs(t, r.Sleep(time.Second), crustertype.ErrInvalid)
				return "", nil
			}))
			if err != nil {
				return "", err
			}
			deep(200, func() { err = r.Sleep(time.Second) })
			if err != nil {
				return "", err
			}
			return text(outs[0])
		}})
		n.wants(n.begin("w", "1"), "")
	})
}

func deep(n int, f func()) {
	if n == 0 {
		f()
		return
	}
	deep(n-1, f)
}

func TestAbandonedStepsAreCancelled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			r.Go(stuck("A"))
			r.Timer(100 * time.Hour)
			return "out", nil
		}})
		began := time.Now()
		n.wants(n.begin("w", "1"), "out")
		if d := time.Since(began); d > time.Minute {
			t.Errorf("it took %v", d)
		}
	})
}

func TestStartsRaceForOneRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, calls := newWorld(t), &counter{}
		n := w.start(map[string]code{"w": plain(2, calls)})
		ref := crustertype.ExecutionRef{Type: "w", ID: "1"}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := n.Start(t.Context(), replay.StartParams{ExecutionRef: ref, Codec: "msgpack"}); err != nil {
					t.Error(err)
				}
				n.Wake(ref)
				n.wants(ref, "01")
			})
		}
		wg.Wait()
		if got := calls.get("Add"); got != 2 {
			t.Errorf("activities ran %d times, want 2: one run", got)
		}
	})
}
