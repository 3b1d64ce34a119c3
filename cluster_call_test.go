package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
	"github.com/cruster-go/cruster/transport"
)

func TestErrorsCrossRunners(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		ctx := o.t.Context()
		there := o.on(2, "x")
		back := o.on(0, "y")
		_, err := cruster.Call(ctx, o.desks[0].Entity(there), (*desk).Fail, "shut")
		var e *cruster.Error
		if !errors.Is(err, errNoStamps) || !errors.As(err, &e) || e.Message == "" || cruster.Retryable(err) {
			o.t.Errorf("a handler's typed error arrives as %v", err)
		}
		for _, m := range []string{"best effort", "stored"} {
			l := letter{Text: m, To: []string{back, there}} // there -> back -> there
			if m == "stored" {
				_, err = cruster.Call(ctx, o.desks[0].Entity(there), (*desk).Circle, l)
			} else {
				_, err = cruster.Call(ctx, o.desks[0].Entity(there), (*desk).Round, l)
			}
			if !errors.Is(err, cruster.ErrReentrant) {
				o.t.Errorf("%s: a call that comes back to its caller = %v, want ErrReentrant", m, err)
			}
			l.To = []string{back, o.on(1, "z")}
			if m == "stored" {
				_, err = cruster.Call(ctx, o.desks[0].Entity(there), (*desk).Circle, l)
			} else {
				_, err = cruster.Call(ctx, o.desks[0].Entity(there), (*desk).Round, l)
			}
			if err != nil || o.books.times(m) != 1 {
				o.t.Errorf("%s: a round through three runners = %v, ran %d times", m, err, o.books.times(m))
			}
		}
		_, err = cruster.Call(ctx, o.desks[0].Entity(there), (*desk).Secret, letter{})
		if !errors.Is(err, cruster.ErrForbidden) {
			o.t.Errorf("a protected stored method from outside = %v, want ErrForbidden", err)
		}
		_, err = cruster.Call(ctx, o.desks[0].Entity(there), (*desk).Whisper, letter{})
		if !errors.Is(err, cruster.ErrForbidden) {
			o.t.Errorf("a protected method from outside = %v, want ErrForbidden", err)
		}
		if _, err = o.Runner(0).Service().Raw().Call(ctx, "desk", there, "Whisper", nil); !errors.Is(err, cruster.ErrForbidden) {
			o.t.Errorf("a protected method by its name = %v, want ErrForbidden", err)
		}
		n, err := cruster.Call(ctx, o.desks[1].Entity(back), (*desk).Confide, letter{To: []string{there}})
		if err != nil || n != 3 {
			o.t.Errorf("protected methods from a handler of another runner = %d, %v", n, err)
		}
	})
}

func TestFullMailboxOfAnotherRunner(t *testing.T) {
	t.Parallel()
	inOffice(t, 2, nil, func(o *office) {
		there := o.on(1, "x")
		var wg sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		begin := time.Now()
		for i := range 10 { // one runs, four wait
			wg.Go(func() {
				_, err := cruster.Call(o.t.Context(), o.desks[0].Entity(there), (*desk).Wait, letter{Text: fmt.Sprint("w", i), Wait: time.Second})
				if err == nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				refused++
				if !errors.Is(err, cruster.ErrMailboxFull) || cruster.MaybeExecuted(err) || !cruster.Retryable(err) {
					o.t.Errorf("a full mailbox on another runner = %v", err)
				}
				if late := time.Since(begin); late > 100*time.Millisecond {
					o.t.Errorf("it was refused after %v: it was tried again", late)
				}
			})
		}
		wg.Wait()
		if refused != 5 {
			o.t.Errorf("%d calls were refused, want 5", refused)
		}
	})
}

func TestBrokenConnectionRunsBestEffortAtMostOnce(t *testing.T) {
	t.Parallel()
	inOffice(t, 2, nil, func(o *office) {
		there := o.on(1, "x")
		call := func(text string, wait time.Duration) error {
			_, err := cruster.Call(o.t.Context(), o.desks[0].Entity(there), (*desk).Wait, letter{Text: text, Wait: wait})
			return err
		}
		result := make(chan error, 1)
		go func() { result <- call("cut", 5*time.Second) }()
		o.Advance(time.Second)
		o.Network().Break("runner-0", "runner-1")
		err := <-result
		if err == nil || !cruster.MaybeExecuted(err) {
			o.t.Errorf("call whose connection broke while the handler ran = %v, want one that may have been executed", err)
		}
		o.Network().SetFaults(transport.Faults{Loss: 0.05, Delay: time.Millisecond, Jitter: 3 * time.Millisecond})
		failed := 0
		for i := range 300 {
			text := fmt.Sprint("loss ", i)
			ctx, cancel := context.WithTimeout(o.t.Context(), 10*time.Second)
			_, err := cruster.Call(ctx, o.desks[0].Entity(there), (*desk).Wait, letter{Text: text})
			cancel()
			n := o.books.times(text)
			switch {
			case err == nil && n != 1:
				o.t.Errorf("call %d succeeded and ran %d times", i, n)
			case err != nil && n > 1:
				o.t.Errorf("call %d ran %d times", i, n)
			case err != nil && n == 1 && !cruster.MaybeExecuted(err):
				o.t.Errorf("call %d ran, and its error denies it: %v", i, err)
			}
			if err != nil {
				failed++
			}
		}
		if failed == 0 || failed > 100 {
			o.t.Errorf("%d of 300 calls failed: the network's faults are not there, or calls that did not run are not repeated", failed)
		}
		o.Network().SetFaults(transport.Faults{})
		if n := o.books.times("cut"); n != 1 {
			o.t.Errorf("the call that was cut ran %d times", n)
		}
	})
}

func TestLostRepliesOfStoredCalls(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, func(c *crustertest.Options) { c.Seed = 7 }, func(o *office) {
		o.Network().SetFaults(transport.Faults{Loss: 0.05, Late: 0.2, Duplicate: 0.2, Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
		for i := range 100 {
			text := fmt.Sprint("stamp ", i)
			_, err := cruster.Call(o.t.Context(), o.desks[i%3].Entity(fmt.Sprint(i)), (*desk).Stamp, letter{Text: text})
			if n := o.books.times(text); err != nil || n != 1 {
				o.t.Errorf("stored call %d over a bad network: ran %d times, %v", i, n, err)
			}
		}
		o.Network().SetFaults(transport.Faults{})
	})
}

func TestSendsFromAnyRunner(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		ctx := o.t.Context()
		begin := time.Now()
		for i := range 3 {
			for j := range 3 {
				to := o.desks[i].Entity(o.on(j, "s"))
				name := fmt.Sprintf("%d-%d", i, j)
				for what, opts := range map[string][]cruster.CallOption{
					"now ": nil, "at ": {cruster.At(begin.Add(time.Hour))}, "after ": {cruster.After(time.Hour)}, "key ": {cruster.Key(name)},
				} {
					for range 2 { // what has a key is sent twice, to no effect
						if err := cruster.Notify(ctx, to, (*desk).Stamp, letter{Text: what + name}, opts...); err != nil {
							o.t.Fatalf("notify %s%s: %v", what, name, err)
						}
					}
				}
				if err := cruster.Notify(ctx, to, (*desk).Wait, letter{Text: "best " + name}); err != nil {
					o.t.Fatalf("notify best effort %s: %v", name, err)
				}
				if err := cruster.Notify(ctx, to, (*desk).Wait, letter{Text: "best after " + name}, cruster.After(time.Minute)); err != nil {
					o.t.Fatalf("notify best effort %s: %v", name, err)
				}
				_, err := cruster.Call(ctx, to, (*desk).Stamp, letter{Text: "other body"}, cruster.Key(name))
				if !errors.Is(err, cruster.ErrKeyConflict) {
					o.t.Errorf("key %s with another body = %v, want ErrKeyConflict", name, err)
				}
				if n, err := cruster.Call(ctx, to, (*desk).Stamp, letter{Text: "key " + name}, cruster.Key(name)); err != nil || n != 1 {
					o.t.Errorf("call of key %s = %d, %v", name, n, err)
				}
			}
		}
		o.Advance(30 * time.Minute)
		check := func(what string, want int) {
			o.t.Helper()
			for i := range 3 {
				for j := range 3 {
					name := fmt.Sprintf("%s %d-%d", what, i, j)
					if n := o.books.times(name); n != want {
						o.t.Errorf("%s after %v: ran %d times, want %d", name, time.Since(begin), n, want)
					}
				}
			}
		}
		check("now", 2)
		check("key", 1)
		check("best", 1)
		check("best after", 1)
		check("at", 0)
		o.Advance(31 * time.Minute)
		check("at", 2)
		check("after", 2)
	})
}

func TestHandlerSendsToOtherRunners(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		to := []string{o.on(0, "a"), o.on(1, "b"), o.on(2, "c")}
		for i := range 3 {
			text := fmt.Sprint("round ", i)
			n, err := cruster.Call(o.t.Context(), o.desks[i].Entity(o.on((i+1)%3, "f")), (*desk).Forward, letter{Text: text, To: to})
			if err != nil || n != 3 {
				o.t.Fatalf("forward: %d, %v", n, err)
			}
			o.Advance(50 * time.Millisecond)
			for _, id := range to {
				if n := o.books.times(text + " to " + id); n != 1 {
					o.t.Errorf("%s to %s ran %d times within 50 ms", text, id, n)
				}
			}
		}
	})
}

func TestStreamsFromAnyRunner(t *testing.T) {
	t.Parallel()
	inOffice(t, 2, nil, func(o *office) {
		there := o.on(1, "x")
		sum := 0
		for n, err := range cruster.Stream(o.t.Context(), o.desks[0].Entity(there), (*desk).Count, letter{To: make([]string, 50), Wait: time.Second}) {
			if err != nil {
				o.t.Fatal(err)
			}
			sum += n
		}
		if sum != 49*50/2 {
			o.t.Errorf("the stream's items add up to %d, want %d", sum, 49*50/2)
		}
		got, failed := 0, error(nil)
		for _, err := range cruster.Stream(o.t.Context(), o.desks[0].Entity(there), (*desk).Count, letter{To: make([]string, 50), Wait: time.Second}) {
			if err != nil {
				failed = err
				break
			}
			if got++; got == 3 {
				o.Network().Break("runner-0", "runner-1")
			}
		}
		if failed == nil || !cruster.MaybeExecuted(failed) || got != 3 {
			o.t.Errorf("a stream whose connection broke ended after %d items with %v: it must not begin again", got, failed)
		}
	})
}

// guest is a type that one runner alone hosts.
type guest struct {
	_ cruster.Entity `cruster:"guest"`
	_ cruster.RPC    `cruster:"Keep,persisted"`
}

func (g *guest) Hello(_ context.Context, name string) (string, error) { return "hello " + name, nil }
func (g *guest) Keep(_ context.Context, name string) (string, error)  { return "kept " + name, nil }

func TestOwnerThatDoesNotKnowTheType(t *testing.T) {
	t.Parallel()
	var guests [2]cruster.Client[*guest]
	inOffice(t, 2, func(c *crustertest.Options) {
		setup := c.SetupRunner
		var mu sync.Mutex
		c.SetupRunner = func(i int, svc *cruster.Service) (err error) {
			mu.Lock()
			defer mu.Unlock()
			if i == 0 {
				guests[i], err = cruster.Register(svc, &guest{})
			} else {
				guests[i], err = cruster.NewClient[*guest](svc)
			}
			return errors.Join(err, setup(i, svc))
		}
	}, func(o *office) {
		ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
		defer cancel()
		here, there := o.on(0, "x"), o.on(1, "x")
		for i := range 2 {
			if got, err := cruster.Call(ctx, guests[i].Entity(here), (*guest).Hello, "a"); err != nil || got != "hello a" {
				o.t.Errorf("call from %d = %q, %v", i, got, err)
			}
			if got, err := cruster.Call(ctx, guests[i].Entity(here), (*guest).Keep, "a"); err != nil || got != "kept a" {
				o.t.Errorf("stored call from %d = %q, %v", i, got, err)
			}
			_, err := cruster.Call(ctx, guests[i].Entity(there), (*guest).Hello, "a")
			if !errors.Is(err, cruster.ErrNotRegistered) || cruster.MaybeExecuted(err) {
				o.t.Errorf("call from %d of a type that its owner does not know = %v", i, err)
			}
		}
		for i := range 2 {
			for what, err := range map[string]error{
				"notify":        cruster.Notify(ctx, guests[i].Entity(there), (*guest).Hello, "a"),
				"notify stored": cruster.Notify(ctx, guests[i].Entity(there), (*guest).Keep, "a"),
			} {
				if !errors.Is(err, cruster.ErrNotRegistered) {
					o.t.Errorf("%s from %d of a type that its owner does not know = %v", what, i, err)
				}
			}
			_, err := cruster.Call(ctx, guests[i].Entity(there), (*guest).Keep, "a")
			if !errors.Is(err, cruster.ErrNotRegistered) {
				o.t.Errorf("stored call from %d of a type that its owner does not know = %v", i, err)
			}
		}
	})
}

func TestCallerWithoutShards(t *testing.T) {
	t.Parallel()
	var caller cruster.Client[*desk]
	inOffice(t, 3, func(c *crustertest.Options) {
		setup := c.SetupRunner
		c.SetupRunner = func(i int, svc *cruster.Service) (err error) {
			if i < 2 {
				return setup(i, svc)
			}
			caller, err = cruster.NewClient[*desk](svc)
			return err
		}
		c.Configure = func(i int, cfg *cruster.Config) {
			if i == 2 {
				cfg.Weight = -1
			}
		}
	}, func(o *office) {
		seen := make(map[int]bool)
		for i := range 30 {
			id := fmt.Sprint("e", i)
			at, err := cruster.Call(o.t.Context(), caller.Entity(id), (*desk).Where, struct{}{})
			if err != nil {
				o.t.Fatalf("call of %s: %v", id, err)
			}
			seen[at] = true
			if _, err := cruster.Call(o.t.Context(), caller.Entity(id), (*desk).Stamp, letter{Text: id}); err != nil {
				o.t.Fatalf("stored call of %s: %v", id, err)
			}
			if err := cruster.Notify(o.t.Context(), caller.Entity(id), (*desk).Stamp, letter{Text: id}); err != nil {
				o.t.Fatalf("notify %s: %v", id, err)
			}
		}
		o.Advance(time.Second)
		for i := range 30 {
			if n := o.books.times(fmt.Sprint("e", i)); n != 2 {
				o.t.Errorf("e%d ran %d times, want 2", i, n)
			}
		}
		if len(seen) != 2 || seen[2] {
			o.t.Errorf("entities are on %v, want both hosts and not the caller", seen)
		}
		o.Runner(0).Kill()
		begin := time.Now()
		o.Advance(time.Millisecond) // connections are seen to be gone
		for i := range 30 {
			if _, err := cruster.Call(o.t.Context(), caller.Entity(fmt.Sprint("e", i)), (*desk).Where, struct{}{}); err != nil {
				o.t.Errorf("call after a host was killed: %v", err)
			}
		}
		if d := time.Since(begin); d > 11500*time.Millisecond {
			o.t.Errorf("the caller reached all entities %v after the kill, want at most TTL + 1.5 s", d)
		}
	})
}
