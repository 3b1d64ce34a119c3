package commit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/commit"
	"github.com/cruster-go/cruster/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// writer is a store whose answers a test scripts. It logs the keys of the
// cancels that it applies.
type writer struct {
	storage.Writer
	mu      sync.Mutex
	commits [][]string
	answer  func(call int, units []storage.Unit) error
	calls   int
}

func (w *writer) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if w.answer != nil {
		if err := w.answer(w.calls, units); err != nil {
			return nil, err
		}
	}
	var ids []string
	for _, u := range units {
		ids = append(ids, u.Cancels[0].ID)
	}
	w.commits = append(w.commits, ids)
	return make([]storage.Result, len(units)), nil
}

func unit(id string, shard int) storage.Unit {
	return storage.Unit{
		Leases:  []crustertype.Lease{{Shard: crustertype.Shard{Group: "g", Index: shard}}},
		Cancels: []storage.Cancel{{ExecutionRef: crustertype.ExecutionRef{Type: "t", ID: id}}},
	}
}

type harness struct {
	c      *commit.Committer
	mu     sync.Mutex
	done   []string
	failed map[string]error
}

func start(t *testing.T, w *writer, o commit.Options) *harness {
	t.Helper()
	h := &harness{c: commit.New(w, o), failed: map[string]error{}}
	ctx, cancel := context.WithCancel(t.Context())
	finished := make(chan struct{})
	t.Cleanup(func() { cancel(); <-finished })
	go func() {
		defer close(finished)
		_ = h.c.Run(ctx)
	}()
	return h
}

func (h *harness) submit(id string, shard int) {
	h.c.Submit(unit(id, shard), func(_ storage.Result, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if err != nil {
			h.failed[id] = err
			return
		}
		h.done = append(h.done, id)
	})
}

func TestWaitingUnitsShareACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &writer{answer: func(int, []storage.Unit) error { time.Sleep(time.Millisecond); return nil }}
		h := start(t, w, commit.Options{})
		h.submit("0", 0)
		synctest.Wait() // the lane is at work on the first
		for i := 1; i <= 64; i++ {
			h.submit(fmt.Sprint(i), 0)
		}
		if err := h.c.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(w.commits) != 2 || len(w.commits[1]) != 64 {
			t.Errorf("65 units took %d commits, want 2: what waits is committed together", len(w.commits))
		}
		for i, id := range h.done {
			if id != fmt.Sprint(i) {
				t.Fatalf("completion order %v: units complete in order", h.done)
			}
		}
	})
}

func TestRefusedUnitFailsAlone(t *testing.T) {
	t.Parallel()
	for name, index := range map[string]func(i int) int{
		"store knows which": func(i int) int { return i },
		"store cannot tell": func(int) int { return -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &writer{answer: func(_ int, units []storage.Unit) error {
					time.Sleep(time.Millisecond)
					for i, u := range units {
						if u.Cancels[0].ID == "bad" {
							return &storage.UnitError{Index: index(i), Err: storage.ErrConflict}
						}
					}
					return nil
				}}
				h := start(t, w, commit.Options{})
				h.submit("first", 0)
				synctest.Wait()
				for _, id := range []string{"a", "b", "bad", "c", "d"} {
					h.submit(id, 0)
				}
				if err := h.c.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
				if want := []string{"first", "a", "b", "c", "d"}; !slices.Equal(h.done, want) {
					t.Errorf("committed %v, want %v", h.done, want)
				}
				if !errors.Is(h.failed["bad"], storage.ErrConflict) || len(h.failed) != 1 {
					t.Errorf("failed %v, want only bad with ErrConflict", h.failed)
				}
			})
		})
	}
}

func TestLostShardFailsItsUnitsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := crustertype.Shard{Group: "g", Index: 7}
		w := &writer{answer: func(_ int, units []storage.Unit) error {
			time.Sleep(time.Millisecond)
			for _, u := range units {
				if u.Leases[0].Shard == lost {
					return &storage.FencedError{Shards: []crustertype.Shard{lost}}
				}
			}
			return nil
		}}
		h := start(t, w, commit.Options{})
		h.submit("first", 0)
		synctest.Wait()
		for i, id := range []string{"a", "x", "b", "y"} {
			h.submit(id, []int{1, 7}[i%2])
		}
		if err := h.c.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []string{"first", "a", "b"}; !slices.Equal(h.done, want) {
			t.Errorf("committed %v, want %v", h.done, want)
		}
		for _, id := range []string{"x", "y"} {
			if !errors.Is(h.failed[id], storage.ErrFenced) {
				t.Errorf("unit %s of the lost shard got %v, want ErrFenced", id, h.failed[id])
			}
		}
		if w.calls != 3 {
			t.Errorf("%d commits were tried, want 3: the rest goes again at once, not row by row", w.calls)
		}
	})
}

func TestTransientErrorIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &writer{answer: func(call int, _ []storage.Unit) error {
			if call <= 5 {
				return &storage.TransientError{Err: errors.New("connection lost"), Unknown: true}
			}
			return nil
		}}
		h := start(t, w, commit.Options{MinRetry: time.Second, MaxRetry: 4 * time.Second})
		h.submit("a", 0)
		time.Sleep(time.Second)
		if h.c.StalledSince().IsZero() {
			t.Error("StalledSince is zero while the store does not answer")
		}
		if err := h.c.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(h.done) != 1 || w.calls != 6 {
			t.Errorf("done %v after %d calls, want [a] after 6", h.done, w.calls)
		}
		if !h.c.StalledSince().IsZero() {
			t.Error("StalledSince is set although the store answers again")
		}
	})
}

func TestEndOfRunFailsWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &writer{answer: func(int, []storage.Unit) error { return &storage.TransientError{Err: errors.New("down")} }}
		c := commit.New(w, commit.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		finished := make(chan struct{})
		go func() { defer close(finished); _ = c.Run(ctx) }()
		errs := make(chan error, 2)
		c.Submit(unit("a", 0), func(_ storage.Result, err error) { errs <- err })
		synctest.Wait()
		cancel()
		<-finished
		c.Submit(unit("b", 0), func(_ storage.Result, err error) { errs <- err })
		for range 2 {
			if err := <-errs; !errors.Is(err, crustertype.ErrUnavailable) {
				t.Errorf("after the end a unit got %v, want ErrUnavailable", err)
			}
		}
		if err := c.Drain(t.Context()); err != nil {
			t.Errorf("Drain after the end = %v", err)
		}
	})
}
