package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/storage/storagetest"
)

func TestAdoptionOfWhatOthersStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var got seen
		r := begin(t, store, echo("e", one(4), func(_ context.Context, s string) (string, error) {
			got.add(s)
			return "", nil
		}))
		var foreign []crustertype.Message
		for i := range 2500 { // more than a page of a type that is not hosted, and older
			m := r.message("stranger", fmt.Sprint(i), "?")
			foreign = append(foreign, m)
		}
		storeAs(t, store, foreign...)
		var known []crustertype.Message
		for i := range 30 {
			known = append(known, r.message("e", "a", fmt.Sprint(i)))
		}
		storeAs(t, store, known...)
		r.NudgeAdopt()
		synctest.Wait()
		if !slices.Equal(got.all(), numbers(30)) {
			t.Errorf("ran %v, want 30 in order: requests of unknown types must not keep others waiting", got.all())
		}
		if m := state(t, store, foreign[0].ID); m.State != crustertype.MessagePending || m.Attempts != 0 {
			t.Errorf("a request of an unknown type is %v after %d attempts, want pending", m.State, m.Attempts)
		}
		halt(t, r)

		// Somebody who knows the type runs them.
		var n atomic.Int64
		r = begin(t, store, echo("stranger", one(4), func(context.Context, string) (string, error) {
			n.Add(1)
			return "", nil
		}))
		synctest.Wait()
		if n.Load() != 2500 {
			t.Errorf("%d requests ran when their type was known, want 2500", n.Load())
		}
		halt(t, r)
	})
}

func TestRetryOfADeadLetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var runs atomic.Int64
		r := begin(t, store, echo("e", one(4), func(_ context.Context, s string) (string, error) {
			if s == "poison" && runs.Add(1) <= 3 {
				panic("poison")
			}
			return s, nil
		}))
		m := r.message("e", "a", "poison")
		_, err := r.Call(t.Context(), m)
		if !errors.Is(err, crustertype.ErrDeadLettered) {
			t.Fatalf("Call() = %v, want ErrDeadLettered", err)
		}
		if got := state(t, store, m.ID); got.State != crustertype.MessageDead || got.Attempts != 3 {
			t.Errorf("the request is %v after %d attempts, want dead after 3", got.State, got.Attempts)
		}
		if _, err := r.Await(t.Context(), m.ID); !errors.Is(err, crustertype.ErrDeadLettered) {
			t.Errorf("Await() = %v, want ErrDeadLettered", err)
		}
		if _, err := r.Call(t.Context(), r.message("e", "a", "next")); err != nil {
			t.Errorf("the entity does not go on: %v", err)
		}
		if err := store.RetryMessage(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		r.NudgeAdopt()
		if _, err := r.Await(t.Context(), m.ID); err != nil || runs.Load() != 4 {
			t.Errorf("Await() = %v after %d runs, want an outcome after 4", err, runs.Load())
		}
		halt(t, r)
	})
}

// A shutdown ends in time although storage is away.
func TestShutdownWhileStorageIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		store := storagetest.Faulty(memory.New(), storagetest.Script{Before: func(int, string) error {
			if away.Load() {
				return &storage.TransientError{Err: errors.New("away")}
			}
			return nil
		}})
		r := begin(t, store, echo("e", one(4), func(_ context.Context, s string) (string, error) { return s, nil }))
		synctest.Wait()
		away.Store(true)
		storeAs(t, store.Unwrap(), r.message("e", "a", "x"))
		r.NudgeAdopt()
		answer := make(chan error, 1)
		go func() {
			_, err := r.Call(context.Background(), r.message("e", "b", "y"))
			answer <- err
		}()
		synctest.Wait()
		begun := time.Now()
		if err := haltWithin(r, time.Minute); err == nil {
			t.Error("Shutdown() = nil: commits were lost")
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("Shutdown took %v, its context ended after a minute", took)
		}
		var e *crustertype.Error
		if err := <-answer; !errors.As(err, &e) || !e.Executed {
			t.Errorf("Call() = %#v: the request may have been stored, so it must not be sent again blindly", err)
		}
	})
}

// Whoever waits for a stored request when the runner stops must know that it
// will run.
func TestShutdownTellsWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t, memory.New(), echo("e", one(4), func(ctx context.Context, s string) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}))
		answers := make(chan error, 3)
		running, queued, later := r.message("e", "a", "x"), r.message("e", "a", "y"), r.message("e", "a", "z")
		later.DeliverAt = time.Now().Add(time.Hour)
		for _, m := range []crustertype.Message{running, queued, later} {
			go func() {
				_, err := r.Call(context.Background(), m)
				answers <- err
			}()
		}
		synctest.Wait()
		halt(t, r)
		for range 3 {
			var e *crustertype.Error
			if err := <-answers; !errors.Is(err, crustertype.ErrShuttingDown) || !errors.As(err, &e) || !e.Executed {
				t.Errorf("Call() = %#v, want ErrShuttingDown, maybe executed", err)
			}
		}
	})
}

// A read of timers that failed is repeated soon, whatever is scheduled meanwhile.
func TestAlarmAfterAFailedRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &deaf{Store: memory.New()}
		r := begin(t, store, echo("e", one(4), func(_ context.Context, s string) (string, error) { return s, nil }))
		synctest.Wait()
		soon, late := r.message("e", "a", "soon"), r.message("e", "a", "late")
		soon.DeliverAt, late.DeliverAt = time.Now().Add(time.Second), time.Now().Add(time.Hour)
		post(t, r, soon)
		store.fail.Store(true)
		time.Sleep(1100 * time.Millisecond)
		post(t, r, late)
		store.fail.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if m := state(t, store, soon.ID); m.State != crustertype.MessageDone {
			t.Errorf("a request that was due 2 s ago is %v", m.State)
		}
		halt(t, r)
	})
}

// Something scheduled for ever keeps nobody busy.
func TestAlarmInTheFarFuture(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &deaf{Store: memory.New()}
		r := begin(t, store, echo("e", one(4), func(_ context.Context, s string) (string, error) { return s, nil }))
		m := r.message("e", "a", "x")
		m.DeliverAt = time.Now().AddDate(500, 0, 0)
		post(t, r, m)
		before := store.reads.Load()
		time.Sleep(10 * time.Hour)
		if n := store.reads.Load() - before; n > 50 {
			t.Errorf("timers were read %d times in 10 hours", n)
		}
		halt(t, r)
	})
}

// deaf is a store whose timers cannot always be read.
type deaf struct {
	storage.Store
	fail  atomic.Bool
	reads atomic.Int64
}

func (d *deaf) Timers(ctx context.Context, q storage.TimerQuery) ([]storage.Timer, storage.Cursor, error) {
	if d.reads.Add(1) > 100_000 {
		panic("timers are read in a loop")
	}
	if d.fail.Load() {
		return nil, "", errors.New("not now")
	}
	return d.Store.Timers(ctx, q)
}
