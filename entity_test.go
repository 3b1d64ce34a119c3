package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Bench is an entity whose behaviour each test supplies.
type Bench struct {
	_ cruster.Entity `cruster:"bench,mailbox=4"`
	_ cruster.RPC    `cruster:"Write,persisted"`
	_ cruster.RPC    `cruster:"Flaky,persisted,retries=2"`
	_ cruster.RPC    `cruster:"Hidden,protected"`
	_ cruster.RPC    `cruster:"Secret,private"`

	do func(ctx context.Context, text string) (string, error)
}

type Text struct{ S string }

func (b *Bench) Write(ctx context.Context, t Text) (Text, error) { return b.run(ctx, t) }
func (b *Bench) Flaky(ctx context.Context, t Text) (Text, error) { return b.run(ctx, t) }
func (b *Bench) Read(ctx context.Context, t Text) (Text, error)  { return b.run(ctx, t) }
func (b *Bench) Hidden(ctx context.Context, t Text) (Text, error) {
	return b.run(ctx, t)
}
func (b *Bench) Secret(ctx context.Context, t Text) (Text, error) { return b.run(ctx, t) }
func (b *Bench) Check(ctx context.Context, t Text) error          { _, err := b.run(ctx, t); return err }
func (b *Bench) List(ctx context.Context, t Text) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range 1000 {
			if i == 5 {
				if _, err := b.run(ctx, t); err != nil {
					yield(0, err)
					return
				}
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

func (b *Bench) run(ctx context.Context, t Text) (Text, error) {
	s, err := b.do(ctx, t.S)
	return Text{s}, err
}

// start runs a service with one Bench in the test's bubble.
func start(t *testing.T, cfg cruster.Config, do func(ctx context.Context, text string) (string, error)) (*cruster.Service, cruster.Client[*Bench]) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	svc, err := cruster.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	benches, err := cruster.Register(svc, &Bench{do: do})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, svc) })
	return svc, benches
}

func stop(t *testing.T, svc *cruster.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := svc.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}

func TestEqualCallsAreSeparateCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		_, b := start(t, cruster.Config{}, func(context.Context, string) (string, error) { return fmt.Sprint(runs.Add(1)), nil })
		for want := range 3 {
			got, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Write, Text{"same"})
			if err != nil || got.S != fmt.Sprint(want+1) {
				t.Fatalf("call %d = %q, %v: two equal calls are two calls", want+1, got.S, err)
			}
		}
	})
}

func TestKeyMakesCallsOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		_, b := start(t, cruster.Config{}, func(_ context.Context, s string) (string, error) {
			if runs.Add(1); s == "fail" {
				return "", errors.New("no stock")
			}
			time.Sleep(time.Second)
			return "done " + s, nil
		})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				got, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Write, Text{"x"}, cruster.Key("k"))
				if err != nil || got.S != "done x" {
					t.Errorf("keyed call = %q, %v: many waiters get one reply", got.S, err)
				}
			})
		}
		wg.Wait()
		if n := runs.Load(); n != 1 {
			t.Errorf("the handler ran %d times for one key, want once", n)
		}
		_, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Write, Text{"y"}, cruster.Key("k"))
		if !errors.Is(err, cruster.ErrKeyConflict) {
			t.Errorf("same key, other body = %v, want ErrKeyConflict", err)
		}
		for range 2 {
			_, err = cruster.Call(t.Context(), b.Entity("a"), (*Bench).Write, Text{"fail"}, cruster.Key("f"))
			if err == nil || err.Error() != "no stock" {
				t.Errorf("failed keyed call = %v, want the handler's error", err)
			}
		}
		if n := runs.Load(); n != 2 {
			t.Errorf("the handler ran %d times, want 2: a failure is an outcome too", n)
		}
	})
}

func TestReadsOfOneEntityDoNotOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		_, b := start(t, cruster.Config{}, func(context.Context, string) (string, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return "", nil
		})
		begin := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Read, Text{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 1 || time.Since(begin) != 4*time.Second {
			t.Errorf("%d ran at a time, in %v: want one after the other in 4s", most.Load(), time.Since(begin))
		}
	})
}

func TestFullMailbox(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Int64
		_, b := start(t, cruster.Config{}, func(context.Context, string) (string, error) {
			time.Sleep(time.Second)
			done.Add(1)
			return "", nil
		})
		for range 50 {
			if err := cruster.Notify(t.Context(), b.Entity("a"), (*Bench).Write, Text{}); err != nil {
				t.Fatalf("persisted notification to a full mailbox = %v: it waits in storage", err)
			}
		}
		full := 0
		for range 10 {
			if err := cruster.Notify(t.Context(), b.Entity("a"), (*Bench).Read, Text{}); errors.Is(err, cruster.ErrMailboxFull) {
				full++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if full != 6 {
			t.Errorf("%d of 10 best-effort notifications were refused, want 6: the mailbox holds 4", full)
		}
		time.Sleep(time.Minute)
		if n := done.Load(); n != 54 {
			t.Errorf("%d handlers ran, want 54: 50 persisted and 4 best effort", n)
		}
	})
}

func TestPersistedOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []string
		_, b := start(t, cruster.Config{}, func(_ context.Context, s string) (string, error) {
			got = append(got, s)
			return "", nil
		})
		for i := range 200 {
			if err := cruster.Notify(t.Context(), b.Entity("a"), (*Bench).Write, Text{fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for i, s := range got {
			if s != fmt.Sprint(i) {
				t.Fatalf("request %s ran as number %d: one sender's requests run in order", s, i)
			}
		}
		if len(got) != 200 {
			t.Errorf("%d ran, want 200", len(got))
		}
	})
}

func TestLongHandlerIsNotDeadLettered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		_, b := start(t, cruster.Config{}, func(context.Context, string) (string, error) {
			runs.Add(1)
			time.Sleep(3 * time.Hour)
			return "late", nil
		})
		got, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Write, Text{})
		if err != nil || got.S != "late" || runs.Load() != 1 {
			t.Errorf("3-hour handler = %q, %v after %d runs, want late after one", got.S, err, runs.Load())
		}
	})
}

func TestPanicIsRetriedThenDeadLettered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var runs atomic.Int64
		_, b := start(t, cruster.Config{Storage: store, MaxDeliveries: 3}, func(_ context.Context, s string) (string, error) {
			if s == "ok" {
				return "ok", nil
			}
			runs.Add(1)
			panic("poison")
		})
		_, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Write, Text{"bad"})
		if !errors.Is(err, cruster.ErrDeadLettered) || !strings.Contains(err.Error(), "poison") {
			t.Errorf("poisonous request = %v, want ErrDeadLettered naming the panic", err)
		}
		if runs.Load() != 3 {
			t.Errorf("it was delivered %d times, want MaxDeliveries = 3", runs.Load())
		}
		if got, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Write, Text{"ok"}); err != nil || got.S != "ok" {
			t.Errorf("the request behind it = %q, %v: the entity goes on", got.S, err)
		}
		dead, _, err := store.Messages(t.Context(), storage.MessageFilter{States: []crustertype.MessageState{crustertype.MessageDead}})
		if err != nil || len(dead) != 1 {
			t.Errorf("%d dead letters are listed, want 1 (%v)", len(dead), err)
		}
	})
}

func TestUserErrorIsTheOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		_, b := start(t, cruster.Config{}, func(_ context.Context, s string) (string, error) {
			runs.Add(1)
			if s == "permanent" {
				return "", cruster.Permanent(errors.New("never"))
			}
			return "", errors.New("no")
		})
		a := b.Entity("a")
		for _, c := range []struct {
			call func() error
			runs int64
			name string
		}{
			{func() error { _, err := cruster.Call(t.Context(), a, (*Bench).Write, Text{}); return err }, 1, "persisted without retries"},
			{func() error { _, err := cruster.Call(t.Context(), a, (*Bench).Flaky, Text{}); return err }, 3, "retries=2"},
			{func() error { _, err := cruster.Call(t.Context(), a, (*Bench).Flaky, Text{"permanent"}); return err }, 1, "permanent"},
			{func() error { _, err := cruster.Call(t.Context(), a, (*Bench).Read, Text{}); return err }, 1, "best effort"},
		} {
			runs.Store(0)
			if err := c.call(); err == nil {
				t.Errorf("%s: no error", c.name)
			}
			if runs.Load() != c.runs {
				t.Errorf("%s: the handler ran %d times, want %d", c.name, runs.Load(), c.runs)
			}
		}
	})
}

func TestVisibility(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b cruster.Client[*Bench]
		_, b = start(t, cruster.Config{}, func(ctx context.Context, s string) (string, error) {
			if s == "inside" {
				got, err := cruster.Call(ctx, b.Entity("other"), (*Bench).Hidden, Text{"hidden"})
				return got.S, err
			}
			return s, nil
		})
		if _, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Hidden, Text{}); !errors.Is(err, cruster.ErrForbidden) {
			t.Errorf("protected method from outside = %v, want ErrForbidden", err)
		}
		if got, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Read, Text{"inside"}); err != nil || got.S != "hidden" {
			t.Errorf("protected method from a handler = %q, %v", got.S, err)
		}
		if _, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Secret, Text{}); err == nil || !strings.Contains(err.Error(), "private") {
			t.Errorf("private method = %v, want an error that says so", err)
		}
	})
}

func TestCycleOfAwaitedCallsIsRefused(t *testing.T) {
	t.Parallel()
	for name, method := range map[string]func(*Bench, context.Context, Text) (Text, error){"best effort": (*Bench).Read, "persisted": (*Bench).Write} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var b cruster.Client[*Bench]
				_, b = start(t, cruster.Config{}, func(ctx context.Context, s string) (string, error) {
					next := map[string]string{"a": "b", "b": "c", "c": "a"}[cruster.EntityID(ctx)]
					_, err := cruster.Call(ctx, b.Entity(next), method, Text{})
					return "", err
				})
				_, err := cruster.Call(t.Context(), b.Entity("a"), method, Text{})
				if !errors.Is(err, cruster.ErrReentrant) || !strings.Contains(err.Error(), "bench/a -> bench/b -> bench/c -> bench/a") {
					t.Errorf("cycle = %v, want ErrReentrant that names the chain", err)
				}
			})
		})
	}
}

func TestScheduled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ran := make(chan time.Time, 10)
		_, b := start(t, cruster.Config{PollInterval: -1}, func(context.Context, string) (string, error) {
			ran <- time.Now()
			return "", nil
		})
		begin := time.Now()
		for _, o := range []cruster.CallOption{cruster.After(30 * 24 * time.Hour), cruster.At(begin.Add(time.Minute)), cruster.After(-time.Hour)} {
			if err := cruster.Notify(t.Context(), b.Entity("a"), (*Bench).Write, Text{}, o); err != nil {
				t.Fatal(err)
			}
		}
		if err := cruster.Notify(t.Context(), b.Entity("a"), (*Bench).Read, Text{}, cruster.After(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []time.Duration{0, time.Minute, time.Hour, 30 * 24 * time.Hour} {
			got := (<-ran).Sub(begin)
			if got < want || got > want+20*time.Millisecond {
				t.Errorf("scheduled for %v, ran at %v: never early, at most 20ms late", want, got)
			}
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cancelled, finished := make(chan struct{}), make(chan struct{})
		_, b := start(t, cruster.Config{}, func(ctx context.Context, s string) (string, error) {
			if s == "persisted" {
				time.Sleep(time.Minute)
				close(finished)
				return "", ctx.Err()
			}
			<-ctx.Done()
			close(cancelled)
			return "", ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := cruster.Call(ctx, b.Entity("a"), (*Bench).Read, Text{})
		if !errors.Is(err, cruster.ErrTimeout) {
			t.Errorf("call past its deadline = %v, want ErrTimeout", err)
		}
		<-cancelled
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = cruster.Call(ctx, b.Entity("b"), (*Bench).Write, Text{"persisted"})
		if !errors.Is(err, cruster.ErrTimeout) || !cruster.MaybeExecuted(err) {
			t.Errorf("persisted call past its deadline = %v, want ErrTimeout that may have executed", err)
		}
		<-finished // a persisted handler runs on
	})
}

func TestStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, b := start(t, cruster.Config{}, func(_ context.Context, s string) (string, error) {
			switch s {
			case "fail":
				return "", errors.New("broken")
			case "panic":
				panic("broken")
			}
			return "", nil
		})
		n := 0
		for i, err := range cruster.Stream(t.Context(), b.Entity("a"), (*Bench).List, Text{}) {
			if err != nil || i != n {
				t.Fatalf("item %d = %d, %v", n, i, err)
			}
			if n++; n == 10 {
				break
			}
		}
		for _, how := range []string{"fail", "panic"} {
			n, last := 0, error(nil)
			for _, err := range cruster.Stream(t.Context(), b.Entity("a"), (*Bench).List, Text{how}) {
				if err != nil {
					last = err
				} else {
					n++
				}
			}
			if n != 5 || last == nil || !strings.Contains(last.Error(), "broken") {
				t.Errorf("%s: %d items, then %v; want 5, then the error", how, n, last)
			}
		}
	})
}

func TestRestartFinishesWhatWasAccepted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var first sync.Once
		began := make(chan struct{})
		svc, b := start(t, cruster.Config{Storage: store}, func(ctx context.Context, s string) (string, error) {
			first.Do(func() { close(began) })
			<-ctx.Done() // interrupted by the shutdown
			return "", ctx.Err()
		})
		for i := range 20 {
			if err := cruster.Notify(t.Context(), b.Entity(fmt.Sprint(i%3)), (*Bench).Write, Text{fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		<-began
		stop(t, svc)
		var mu sync.Mutex
		got := map[string]int{}
		start(t, cruster.Config{Storage: store}, func(_ context.Context, s string) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			got[s]++
			return "", nil
		})
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		for i := range 20 {
			if got[fmt.Sprint(i)] != 1 {
				t.Errorf("request %d ran %d times after the restart, want once", i, got[fmt.Sprint(i)])
			}
		}
	})
}

func TestShutdownIsIdempotentAndRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc, b := start(t, cruster.Config{}, func(context.Context, string) (string, error) { return "", nil })
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { stop(t, svc) })
		}
		wg.Wait()
		<-svc.Stopped()
		for name, call := range map[string]func() error{
			"best effort": func() error {
				_, err := cruster.Call(t.Context(), b.Entity("a"), (*Bench).Read, Text{})
				return err
			},
			"persisted": func() error { return cruster.Notify(t.Context(), b.Entity("a"), (*Bench).Write, Text{}) },
		} {
			if err := call(); !errors.Is(err, cruster.ErrShuttingDown) {
				t.Errorf("%s call after Shutdown = %v, want ErrShuttingDown", name, err)
			}
		}
	})
}

func TestCallBeforeStart(t *testing.T) {
	t.Parallel()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := cruster.Register(svc, &Bench{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = cruster.Call(t.Context(), b.Entity("a"), (*Bench).Read, Text{})
	if !errors.Is(err, cruster.ErrNotStarted) || !strings.Contains(err.Error(), "call bench.Read: bench/a: ") {
		t.Errorf("call before Start = %v, want ErrNotStarted naming the call", err)
	}
	if err := svc.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown before Start = %v", err)
	}
}
