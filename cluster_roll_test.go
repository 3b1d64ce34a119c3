package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/transport"
)

// load calls from one runner until stop is closed, or the runner is stopped.
func (o *office) load(wg *sync.WaitGroup, from int, stop <-chan struct{}, done func(kind string, err error)) {
	desks, rounds := o.desks[from], o.rounds[from] // of this process
	ctx := o.t.Context()
	begin := func(kind string, pause time.Duration, f func(n int) error) {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				err := f(n)
				select {
				case <-stop: // its own runner stops: a caller of it has to expect that
					return
				default:
				}
				done(kind, err)
				time.Sleep(pause)
			}
		})
	}
	name := func(n int) string { return fmt.Sprintf("%d-%d-%d", from, n, time.Now().UnixNano()) }
	begin("best effort", 7*time.Millisecond, func(n int) error {
		_, err := cruster.Call(ctx, desks.Entity(fmt.Sprint("b", n%50)), (*desk).Wait, letter{Text: name(n), Wait: 3 * time.Millisecond})
		return err
	})
	begin("stored", 11*time.Millisecond, func(n int) error {
		text := "stored " + name(n)
		_, err := cruster.Call(ctx, desks.Entity(fmt.Sprint("s", n%50)), (*desk).Stamp, letter{Text: text, Wait: 5 * time.Millisecond})
		if err == nil && o.books.times("done "+text) != 1 {
			return fmt.Errorf("%s ended %d times", text, o.books.times("done "+text))
		}
		return err
	})
	begin("stream", 50*time.Millisecond, func(n int) error {
		sum := 0
		for v, err := range cruster.Stream(ctx, desks.Entity(fmt.Sprint("c", n%50)), (*desk).Count, letter{To: make([]string, 5), Wait: 10 * time.Millisecond}) {
			if err != nil {
				return err
			}
			sum += v
		}
		if sum != 10 {
			return fmt.Errorf("the stream added up to %d", sum)
		}
		return nil
	})
	begin("workflow", 20*time.Millisecond, func(n int) error {
		plan := tripPlan{Name: "w" + name(n), Stops: 2, Children: 1, Sleep: 30 * time.Millisecond}
		got, err := rounds.WithRawKey(plan.Name).Execute(ctx, plan)
		if err == nil && got != 3 {
			return fmt.Errorf("the workflow returned %d", got)
		}
		return err
	})
}

func TestRollingRestartLosesNoCall(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		var mu sync.Mutex
		count, failed := make(map[string]int), make(map[string]int)
		done := func(kind string, err error) {
			mu.Lock()
			defer mu.Unlock()
			count[kind]++
			if err != nil {
				if failed[kind]++; failed[kind] < 5 {
					o.t.Errorf("%s call %d failed during the rolling restart: %v", kind, count[kind], err)
				}
			}
		}
		var stops [3]chan struct{}
		var wg sync.WaitGroup
		for from := range 3 {
			stops[from] = make(chan struct{})
			o.load(&wg, from, stops[from], done)
		}
		time.Sleep(300 * time.Millisecond)
		for i := range 3 {
			close(stops[i])
			begin := time.Now()
			o.Runner(i).Stop()
			if d := time.Since(begin); d > 5*time.Second {
				o.t.Errorf("runner %d took %v to stop", i, d)
			}
			time.Sleep(300 * time.Millisecond)
			o.Runner(i).Start()
			stops[i] = make(chan struct{})
			o.load(&wg, i, stops[i], done)
			time.Sleep(700 * time.Millisecond)
		}
		for _, stop := range stops {
			close(stop)
		}
		wg.Wait()
		for _, kind := range []string{"best effort", "stored", "stream", "workflow"} {
			if count[kind] < 50 {
				o.t.Errorf("only %d %s calls were made", count[kind], kind)
			}
		}
	})
}

func TestDrainOfHandlers(t *testing.T) {
	t.Parallel()
	short := func(c *crustertest.Options) { c.Config.DrainTimeout = 3 * time.Second }
	t.Run("uninterruptible", func(t *testing.T) {
		t.Parallel()
		inOffice(t, 2, short, func(o *office) {
			id := o.on(1, "x")
			result := make(chan error, 1)
			go func() {
				n, err := cruster.Call(o.t.Context(), o.desks[0].Entity(id), (*desk).Stamp, letter{Text: "u", Wait: 2500 * time.Millisecond}, cruster.Uninterruptible())
				if n != 1 {
					err = errors.Join(err, fmt.Errorf("it was run %d times", n))
				}
				result <- err
			}()
			o.Advance(500 * time.Millisecond)
			begin := time.Now()
			o.Runner(1).Stop()
			if d := time.Since(begin); d < 1900*time.Millisecond || d > 3*time.Second {
				o.t.Errorf("the stop took %v, want as long as the handler, 2 s", d)
			}
			if err := <-result; err != nil {
				o.t.Error(err)
			}
		})
	})
	t.Run("stubborn", func(t *testing.T) {
		t.Parallel()
		inOffice(t, 2, short, func(o *office) {
			id, other := o.on(1, "x"), o.on(1, "y")
			result := make(chan error, 1)
			go func() {
				_, err := cruster.Call(o.t.Context(), o.desks[0].Entity(id), (*desk).Stubborn, letter{Text: "s", Wait: time.Minute})
				result <- err
			}()
			o.Advance(500 * time.Millisecond)
			begin := time.Now()
			stopped := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(o.t.Context()), 20*time.Second)
				defer cancel()
				stopped <- o.Runner(1).Service().Shutdown(ctx)
			}()
			o.Advance(100 * time.Millisecond)
			if at := o.owner(0, other); at != 0 || time.Since(begin) > time.Second {
				o.t.Errorf("a desk beside a handler that does not listen is on %d after %v", at, time.Since(begin))
			}
			if at := o.owner(0, id); at != 0 || time.Since(begin) > 11*time.Second {
				o.t.Errorf("the desk whose handler does not listen is on %d after %v, want on the other runner", at, time.Since(begin))
			}
			if err := <-stopped; err == nil {
				o.t.Error("the shutdown hides that a handler still runs")
			}
			if err := <-result; err != nil && !cruster.MaybeExecuted(err) {
				o.t.Errorf("the caller of the handler that does not listen got %v", err)
			}
			o.Advance(time.Minute)
			o.Runner(1).Forget()
		})
	})
}

func TestGroupsIsolate(t *testing.T) {
	t.Parallel()
	var rooms [3]cruster.Client[*room]
	var mu sync.Mutex
	inOffice(t, 3, func(c *crustertest.Options) {
		setup := c.SetupRunner
		c.SetupRunner = func(i int, svc *cruster.Service) (err error) {
			mu.Lock()
			if i > 0 {
				rooms[i], err = cruster.Register(svc, &room{runner: i})
			} else {
				rooms[i], err = cruster.NewClient[*room](svc)
			}
			mu.Unlock()
			return errors.Join(err, setup(i, svc))
		}
	}, func(o *office) {
		call := func(from int, id string) (int, error) {
			return cruster.Call(shortly(o), rooms[from].Entity(id), (*room).Where, struct{}{})
		}
		seen, desks := make(map[int]int), make(map[int]int)
		for i := range 60 {
			id := fmt.Sprint(i)
			at, err := call(i%3, id)
			if err != nil {
				o.t.Fatalf("call from %d: %v", i%3, err)
			}
			seen[at]++
			desks[o.owner(i%3, id)]++
		}
		if seen[0] > 0 || seen[1] < 10 || seen[2] < 10 {
			o.t.Errorf("rooms are on %v, want on runners 1 and 2", seen)
		}
		if len(desks) != 3 {
			o.t.Errorf("desks are on %v, want everywhere", desks)
		}
		o.Runner(2).Stop()
		for i := range 30 {
			if at, err := call(i%2, fmt.Sprint(i)); at != 1 || err != nil {
				o.t.Errorf("with one host left a room is on %d, %v", at, err)
			}
		}
		o.Runner(1).Stop()
		if _, err := call(0, "1"); err == nil || cruster.MaybeExecuted(err) {
			o.t.Errorf("a call of a group without a host = %v", err)
		}
		if at := o.owner(0, "1"); at != 0 {
			o.t.Errorf("a desk is on %d", at)
		}
	})
}

// room is in a shard group of its own.
type room struct {
	_ cruster.Entity `cruster:"room,shard_group=upstairs"`

	runner int
}

func (r *room) Where(_ context.Context, _ struct{}) (int, error) { return r.runner, nil }

func TestWeightShares(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, func(c *crustertest.Options) {
		c.Config.ShardsPerGroup = 120
		c.Configure = func(i int, cfg *cruster.Config) { cfg.Weight = []int{1, 1, 4}[i] }
	}, func(o *office) {
		at := make(map[int]int)
		for i := range 300 {
			at[o.owner(0, fmt.Sprint(i))]++
		}
		if at[2] < 140 || at[0] < 15 || at[1] < 15 {
			o.t.Errorf("entities are on %v, want 1:1:4", at)
		}
	})
}

func TestShutdownTwiceAndDuringStart(t *testing.T) {
	t.Parallel()
	inOffice(t, 2, nil, func(o *office) {
		svc := o.Runner(1).Service()
		errs := make(chan error, 3)
		for range 3 {
			go func() { errs <- svc.Shutdown(context.WithoutCancel(o.t.Context())) }()
		}
		for range 3 {
			if err := <-errs; err != nil {
				o.t.Errorf("one of three shutdowns = %v", err)
			}
		}
		if err := svc.Shutdown(o.t.Context()); err != nil {
			o.t.Errorf("a shutdown after the end = %v", err)
		}
		_, err := cruster.Call(o.t.Context(), o.desks[1].Entity("x"), (*desk).Where, struct{}{})
		if !errors.Is(err, cruster.ErrShuttingDown) {
			o.t.Errorf("a call after the end = %v", err)
		}
		if at := o.owner(0, "x"); at != 0 {
			o.t.Errorf("the desk is on %d", at)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		defer store.Close()
		net := transport.NewNetwork(1)
		for i := range 40 { // the start is given up at any point
			svc := aloneOn(t, store, net.Transport("same", transport.Options{}))
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Microsecond)
			err := svc.Start(ctx)
			cancel()
			if err := svc.Shutdown(t.Context()); err != nil && i > 20 {
				t.Errorf("shutdown after start = %v: %v", err, err)
			}
			_ = err
		}
	})
}

func aloneOn(t *testing.T, store storage.Store, link transport.Transport) *cruster.Service {
	t.Helper()
	svc, err := cruster.New(cruster.Config{Storage: store, Transport: link, ShardsPerGroup: 10, Logger: officeLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cruster.Register(svc, &desk{books: &books{}, desks: new(cruster.Client[*desk])}); err != nil {
		t.Fatal(err)
	}
	return svc
}

func TestTwoRunnersOnOneAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		defer store.Close()
		// Two machines that were configured with one address, in networks of their
		// own.
		first := aloneOn(t, store, transport.NewNetwork(1).Transport("same", transport.Options{}))
		second := aloneOn(t, store, transport.NewNetwork(2).Transport("same", transport.Options{}))
		if err := first.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := second.Start(t.Context()); err != nil {
			t.Logf("the second one = %v", err)
		}
		time.Sleep(5 * time.Minute)
		live, err := store.Runners(t.Context())
		if err != nil || len(live) != 1 {
			t.Errorf("%d runners live on one address, %v: want one", len(live), err)
		}
		for _, svc := range []*cruster.Service{second, first} {
			if err := svc.Shutdown(t.Context()); err != nil {
				t.Logf("shutdown = %v", err)
			}
		}
	})
}
