package replay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/storage"
)

func TestSleepUntil(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			at := r.Now().Add(90 * time.Minute)
			for _, at := range []time.Time{at, at.Add(-time.Hour)} { // the second has passed by then
				if err := r.SleepUntil(at); err != nil {
					return "", err
				}
			}
			return time.Since(at).Round(time.Second).String(), nil
		}})
		n.wants(n.begin("w", "1"), "0s")
	})
}

func TestIDsAreStableAndUnique(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var seen [][2]crustertype.RequestID
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			seen = append(seen, [2]crustertype.RequestID{r.NewID(), r.NewID()})
			return "", r.Sleep(time.Hour)
		}})
		n.wants(n.begin("w", "1"), "")
		if len(seen) != 2 || seen[0] != seen[1] || seen[0][0] == seen[0][1] {
			t.Errorf("two lives made the IDs %v", seen)
		}
	})
}

func TestTooLargeIsRefusedWhereItIsMade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.MaxPayload = 1000
		big := strings.Repeat("x", 2000)
		n := w.start(map[string]code{
			"arguments": func(r *replay.Run) (string, error) {
				return do(r, act("A", big, func(context.Context) (string, error) { return "", nil }))
			},
			"step": func(r *replay.Run) (string, error) {
				c := act("A", nil, func(context.Context) (string, error) { return big, nil })
				c.Retries = 100
				return do(r, c)
			},
			"result": func(*replay.Run) (string, error) { return big, nil },
		})
		for _, name := range []string{"arguments", "step", "result"} {
			_, err := n.result(n.begin(name, "1"))
			wantIs(t, err, crustertype.ErrTooLarge)
		}
		_, err := n.Start(t.Context(), replay.StartParams{ExecutionRef: crustertype.ExecutionRef{Type: "result", ID: "2"}, Input: []byte(big)})
		wantIs(t, err, crustertype.ErrTooLarge)
	})
}

func TestUnreadableInputAndJournalWaitForAPerson(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(*replay.Run) (string, error) {
			return "", errors.Join(replay.ErrBadInput, errors.New("field Amount is text"))
		}})
		_, err := n.result(n.begin("w", "input"))
		wantIs(t, err, crustertype.ErrDeadLettered)

		ref, at := crustertype.ExecutionRef{Type: "w", ID: "journal"}, time.Now()
		_, err = w.store.Commit(t.Context(), []storage.Unit{{
			Starts: []crustertype.Execution{{ExecutionRef: ref, Shard: theShard, Run: 1, Codec: "msgpack", Status: crustertype.StatusRunning, CreatedAt: at, UpdatedAt: at}},
			Steps:  []storage.StepWrite{{ExecutionRef: ref, Step: crustertype.Step{Run: 1, Kind: 77, Seq: 1, At: at}}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.result(ref)
		wantIs(t, err, crustertype.ErrDeadLettered)
		if msg := w.execution(ref).Outcome.Failure.Message; !strings.Contains(msg, "unknown kind 77") {
			t.Errorf("the cause is missing: %q", msg)
		}
	})
}

func TestReleaseEndsRunsCleanly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			if _, err := do(r, act("Quick", nil, func(context.Context) (string, error) { return "", nil })); err != nil {
				return "", err
			}
			return do(r, stuck("Slow"))
		}})
		ref := n.begin("w", "1")
		got := make(chan error, 1)
		go func() {
			_, err := n.Wait(context.WithoutCancel(t.Context()), ref)
			got <- err
		}()
		synctest.Wait()
		n.mu.Lock()
		n.lost = true // the lease is on its way to somebody else
		n.mu.Unlock()
		if err := n.Release(t.Context(), []crustertype.Shard{theShard}); err != nil {
			t.Fatal(err)
		}
		wantIs(t, <-got, crustertype.ErrNotOwner)
		if rows := w.steps(ref); n.Resident() != 0 || len(rows) != 1 || !rows[0].Done() {
			t.Errorf("%d runs are left, and the rows %+v", n.Resident(), rows)
		}
	})
}

// Between Release and the end of the lease nothing begins, and whoever begins to
// wait is answered when the lease is gone.
func TestWaitWhileItsShardIsGivenAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		runs := 0
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			runs++
			return do(r, stuck("Slow"))
		}})
		ref := n.begin("w", "1")
		synctest.Wait()
		if err := n.Release(t.Context(), []crustertype.Shard{theShard}); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			_, err := n.Wait(context.WithoutCancel(t.Context()), ref)
			got <- err
		}()
		n.Wake(ref)
		time.Sleep(time.Minute)
		n.mu.Lock()
		n.lost = true
		n.mu.Unlock()
		n.Drop([]crustertype.Shard{theShard})
		wantIs(t, <-got, crustertype.ErrNotOwner)
		if runs != 1 || n.Resident() != 0 {
			t.Errorf("the execution was run %d times, want once; %d runs are left", runs, n.Resident())
		}
		n.mu.Lock()
		n.lost = false // and back
		n.mu.Unlock()
		if err := n.Recover(t.Context(), []crustertype.Shard{theShard}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if runs != 2 || n.Resident() != 1 {
			t.Errorf("after the shard came back the execution was run %d times, want twice; %d runs are there", runs, n.Resident())
		}
	})
}

func TestUnavailableTargetIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Bool
		var tries atomic.Int64
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			out, err := r.Do(replay.Call{Kind: crustertype.StepCall, Name: "e.M", In: 1, Fn: func(*invoke.Context, []byte) (crustertype.Outcome, error) {
				if tries.Add(1); !up.Load() {
					return crustertype.Outcome{}, fmt.Errorf("call: %w", crustertype.ErrMailboxFull)
				}
				b, err := codec.Msgpack().Marshal("answer")
				return crustertype.Outcome{Codec: "msgpack", Payload: b}, err
			}})
			if err != nil {
				return "", err
			}
			return text(out)
		}})
		ref := n.begin("w", "1")
		time.Sleep(5 * time.Hour)
		if rows := w.steps(ref); len(rows) != 1 || rows[0].Outcome.Failure == nil {
			t.Errorf("people do not see what it waits for: %+v", rows)
		}
		if tries.Load() > 500 {
			t.Errorf("it tried %d times in 5 hours", tries.Load())
		}
		up.Store(true)
		n.wants(ref, "answer")
	})
}

func TestCommitThatTheDatabaseRefusesIsTheUsersError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := ledgerWorld(t)
		tx, err := w.store.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{`CREATE TABLE parent (id INTEGER PRIMARY KEY)`, `CREATE TABLE child (p INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)`} {
			if _, err := tx.Exec(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tx.Commit(t.Context(), storage.Unit{}); err != nil {
			t.Fatal(err)
		}
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			_, err := do(r, act("Orphan", nil, func(ctx context.Context) (string, error) {
				_, err := invoke.From(ctx).SQL().Exec(ctx, `INSERT INTO child VALUES (1)`)
				return "", err
			}))
			if err == nil {
				return "committed", nil
			}
			return "refused", nil
		}})
		n.wants(n.begin("w", "1"), "refused")
	})
}
