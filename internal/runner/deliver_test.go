package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/mailbox"
	"github.com/cruster-go/cruster/scheduler"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

func TestConcurrency(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{1: 1, 4: 4, 0: 10} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var running, most int
				var mu sync.Mutex
				r := begin(t, memory.New(), echo("e", mailbox.Options{Capacity: 20, Concurrency: limit}, func(context.Context, string) (string, error) {
					mu.Lock()
					running++
					most = max(most, running)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					running--
					mu.Unlock()
					return "", nil
				}))
				var all sync.WaitGroup
				for range 40 {
					all.Go(func() {
						if _, err := r.Call(t.Context(), r.message("e", "a", "x")); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				if most != want {
					t.Errorf("%d requests ran at a time, want %d", most, want)
				}
				halt(t, r)
			})
		})
	}
}

// Where requests may overlap, one that is run again keeps nobody waiting, and
// waits its own pause out.
func TestPoisonAmongConcurrentRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tries seen
		begun := time.Now()
		typ := echo("e", mailbox.Options{Capacity: 20, Concurrency: 2}, func(_ context.Context, s string) (string, error) {
			if s != "fine" {
				tries.add(fmt.Sprintf("%s at %v", s, time.Since(begun)))
				if s == "slow" {
					return "", errors.New("slow")
				}
				panic(s)
			}
			return s, nil
		})
		typ.Methods["Do"].Retries = 1
		typ.Methods["Do"].Backoff = scheduler.Policy{Initial: time.Minute, Max: time.Minute}
		r := begin(t, memory.New(), typ)
		post(t, r, r.message("e", "a", "slow"))
		post(t, r, r.message("e", "a", "poison"))
		synctest.Wait()
		if _, err := r.Call(t.Context(), r.message("e", "a", "fine")); err != nil || time.Since(begun) > 0 {
			t.Errorf("a healthy request took %v: %v", time.Since(begun), err)
		}
		time.Sleep(2 * time.Minute)
		want := []string{"slow at 0s", "poison at 0s", "poison at 100ms", "poison at 300ms", "slow at 1m0s"}
		got := tries.all()
		if len(got) > 1 && got[0] == want[1] { // the two begin together
			got[0], got[1] = got[1], got[0]
		}
		if !slices.Equal(got, want) {
			t.Errorf("tries %q, want %q", got, want)
		}
		halt(t, r)
	})
}

// Panics of a user's codec methods are panics of the handler; Goexit too.
func TestPanicsAroundAHandler(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"decode", "invoke", "goexit", "encode"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				typ := echo("e", one(4), nil)
				var tries atomic.Int64
				at := func(here string) {
					if here == where && tries.Add(1) == 1 {
						panic(here)
					}
				}
				m := typ.Methods["Do"]
				decode := m.Decode
				m.Decode = func(c codec.Codec, p []byte) (any, error) { at("decode"); return decode(c, p) }
				m.Invoke = func(context.Context, any) (any, error) {
					at("invoke")
					if where == "goexit" && tries.Add(1) == 1 {
						runtime.Goexit()
					}
					return "done", nil
				}
				r := setUp(t, memory.New(), typ)
				r.cfg.Codec = touchy{r.cfg.Codec, at}
				start(t, r)
				out, err := r.Call(t.Context(), r.message("e", "a", "x"))
				switch {
				case err != nil:
					t.Errorf("Call() = %v", err)
				case where == "encode" && (out.Failure == nil || out.Failure.Code != crustertype.CodeEncoding):
					t.Errorf("Call() = %+v, want an encoding failure", out)
				case where != "encode" && out.Failure != nil:
					t.Errorf("Call() = %v, want an outcome at the second delivery", out.Failure.Message)
				}
				halt(t, r)
			})
		})
	}
}

// touchy is a codec whose values have methods that panic.
type touchy struct {
	codec.Codec
	at func(string)
}

func (c touchy) Marshal(v any) ([]byte, error) {
	c.at("encode")
	return c.Codec.Marshal(v)
}

// A method that is tried more often than others are delivered keeps its tries
// over a restart; one whose process dies each time does not go on for ever.
func TestAttemptsOverRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var runs atomic.Int64
		typ := func() *EntityType {
			typ := echo("e", one(4), func(context.Context, string) (string, error) {
				return "", fmt.Errorf("try %d", runs.Add(1))
			})
			typ.Methods["Do"].Retries = 9
			typ.Methods["Do"].Backoff = scheduler.Policy{Initial: time.Minute, Max: time.Minute}
			return typ
		}
		r := begin(t, store, typ())
		m := r.message("e", "a", "x")
		post(t, r, m)
		time.Sleep(5*time.Minute + time.Second)
		halt(t, r)
		r = begin(t, store, typ())
		out, err := r.Await(t.Context(), m.ID)
		if err != nil || out.Failure == nil || runs.Load() != 10 {
			t.Errorf("Await() = %+v, %v after %d runs, want a failure after 10", out, err, runs.Load())
		}
		halt(t, r)
	})
}

func TestCrashLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var runs atomic.Int64
		let := make(chan struct{})
		typ := func() *EntityType {
			return echo("e", one(4), func(context.Context, string) (string, error) {
				runs.Add(1)
				<-let // the process dies here
				return "", nil
			})
		}
		r := begin(t, store, typ())
		m := r.message("e", "a", "x")
		post(t, r, m)
		for life := 1; ; life++ {
			synctest.Wait()
			if got := state(t, store, m.ID); got.State == crustertype.MessageDead {
				if n := runs.Load(); n != int64(r.cfg.MaxDeliveries) {
					t.Errorf("dead after %d deliveries, want %d", n, r.cfg.MaxDeliveries)
				}
				break
			}
			if life > 10 {
				t.Fatal("a request that kills its process each time is delivered for ever")
			}
			_ = haltWithin(r, 0)
			r = begin(t, store, typ())
		}
		if _, err := r.Call(t.Context(), m); !errors.Is(err, crustertype.ErrDeadLettered) {
			t.Errorf("Call() = %v, want ErrDeadLettered", err)
		}
		halt(t, r)
		close(let)
	})
}

func TestWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t, memory.New(), echo("e", one(4), func(_ context.Context, s string) (string, error) {
			time.Sleep(time.Second)
			return s, nil
		}))
		m := r.message("e", "a", "x")
		m.Key, m.ID, m.DeliverAt = "k", crustertype.KeyedRequestID(m.Address, m.Method, "k"), time.Now().Add(time.Minute)
		m.Digest[0] = 1
		other := m
		other.Digest[0] = 2
		var all sync.WaitGroup
		for range 50 { // the same key: one request
			all.Go(func() {
				if out, err := r.Call(t.Context(), m); err != nil || string(out.Payload) != `"x"` {
					t.Errorf("Call() = %s, %v", out.Payload, err)
				}
			})
		}
		synctest.Wait()
		for range 50 {
			all.Go(func() {
				if out, err := r.Await(t.Context(), m.ID); err != nil || string(out.Payload) != `"x"` {
					t.Errorf("Await() = %s, %v", out.Payload, err)
				}
			})
		}
		if _, err := r.Call(t.Context(), other); !errors.Is(err, crustertype.ErrKeyConflict) {
			t.Errorf("Call() with another body = %v, want ErrKeyConflict", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Await(ctx, m.ID); !errors.Is(err, crustertype.ErrTimeout) {
			t.Errorf("Await() = %v, want ErrTimeout", err)
		}
		all.Wait()
		r.waiters.mu.Lock()
		if n := len(r.waiters.m); n != 0 {
			t.Errorf("%d waiters are left behind", n)
		}
		r.waiters.mu.Unlock()
		halt(t, r)
	})
}

// A handler that hangs is abandoned when the shutdown's time is over, and what
// it does afterwards is refused.
func TestShutdownAbandonsAHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		let, committed := make(chan struct{}), make(chan error, 1)
		typ := func(f do) *EntityType { return echo("e", one(4), f) }
		r := begin(t, store, typ(func(ctx context.Context, s string) (string, error) {
			if err := openTx(ctx); err != nil {
				return "", err
			}
			<-let
			_, _, err := invoke.From(ctx).Commit(context.Background(), storage.Unit{Leases: []crustertype.Lease{invoke.From(ctx).Info().Lease}})
			committed <- err
			return s, nil
		}))
		m := r.message("e", "a", "x")
		post(t, r, m)
		synctest.Wait()
		begun := time.Now()
		if err := haltWithin(r, time.Second); !errors.Is(err, crustertype.ErrTimeout) {
			t.Errorf("Shutdown() = %v, want ErrTimeout", err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		r = begin(t, store, typ(func(_ context.Context, s string) (string, error) { return "second " + s, nil }))
		out, err := r.Await(t.Context(), m.ID)
		if err != nil || string(out.Payload) != `"second x"` {
			t.Errorf("Await() = %s, %v", out.Payload, err)
		}
		close(let)
		if err := <-committed; !errors.Is(err, storage.ErrFenced) {
			t.Errorf("the abandoned handler's commit = %v, want ErrFenced", err)
		}
		halt(t, r)
	})
}

func TestUninterruptible(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		r := begin(t, store, echo("e", one(4), func(ctx context.Context, s string) (string, error) {
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-time.After(10 * time.Second):
				return s, nil
			}
		}))
		plain, firm := r.message("e", "a", "x"), r.message("e", "b", "y")
		firm.Uninterrupted = true
		post(t, r, plain)
		post(t, r, firm)
		synctest.Wait()
		halt(t, r)
		if m := state(t, store, firm.ID); m.State != crustertype.MessageDone {
			t.Errorf("the uninterruptible request is %v", m.State)
		}
		if m := state(t, store, plain.ID); m.State != crustertype.MessagePending || m.Attempts != 0 {
			t.Errorf("the interrupted request is %v after %d attempts, want pending and not counted", m.State, m.Attempts)
		}
	})
}

// What a handler sends is stored with its outcome, and not at all when it fails.
func TestSendsOfAHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got seen
		var r *Runner
		r = begin(t, memory.New(),
			echo("e", one(4), func(ctx context.Context, s string) (string, error) {
				invoke.From(ctx).Collect(invoke.Sends{Accepts: []crustertype.Message{r.message("other", "b", s)}, After: []func(){func() { got.add("after " + s) }}})
				if s == "fails" {
					return "", errors.New(s)
				}
				return s, nil
			}),
			echo("other", one(4), func(_ context.Context, s string) (string, error) {
				got.add("sent " + s)
				return s, nil
			}))
		for _, s := range []string{"fails", "works"} {
			if _, err := r.Call(t.Context(), r.message("e", "a", s)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		list := got.all()
		slices.Sort(list)
		if !slices.Equal(list, []string{"after works", "sent works"}) {
			t.Errorf("sent %q, want what the handler that works has sent", list)
		}
		halt(t, r)
	})
}

func TestEviction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		typ := echo("e", one(4), func(_ context.Context, s string) (string, error) { return s, nil })
		r := begin(t, memory.New(), typ)
		for i := range 100 {
			if _, err := r.Call(t.Context(), r.message("e", fmt.Sprint(i), "x")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(typ.Idle - time.Second)
		if n := typ.Live(); n != 100 {
			t.Errorf("%d entities are in memory before they were idle for %v, want 100", n, typ.Idle)
		}
		if _, err := r.Call(t.Context(), r.message("e", "0", "x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(typ.Idle/2 + 2*time.Second)
		if n := typ.Live(); n != 1 {
			t.Errorf("%d entities are in memory, want the one that was used", n)
		}
		halt(t, r)
	})
}
