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
)

// takeOver is how long it takes at most until the shards of a killed runner are
// served: the default TTL and 1.5 s.
const takeOver = 11500 * time.Millisecond

func TestFailoverAfterKill(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		id := o.on(1, "x")
		o.Runner(1).Kill()
		begin := time.Now()
		o.Advance(time.Millisecond)
		var wg sync.WaitGroup
		for _, from := range []int{0, 2} {
			wg.Go(func() {
				at, err := cruster.Call(o.t.Context(), o.desks[from].Entity(id), (*desk).Where, struct{}{})
				if err != nil || at == 1 {
					o.t.Errorf("call after the kill = at %d, %v", at, err)
				}
				if d := time.Since(begin); d > takeOver {
					o.t.Errorf("the call was answered %v after the kill, want at most %v", d, takeOver)
				}
			})
		}
		wg.Wait()
		o.Runner(1).Start()
		o.Settle()
		if at := o.owner(0, id); at != 1 {
			o.t.Errorf("the desk is on %d after its first runner is back, want 1", at)
		}
	})
}

func TestStoredCallOutlivesItsOwner(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		id := o.on(1, "x")
		var wg sync.WaitGroup
		begin := time.Now()
		for i := range 12 { // many waiters for one outcome, on both others
			wg.Go(func() {
				n, err := cruster.Call(o.t.Context(), o.desks[i%2*2].Entity(id), (*desk).Stamp, letter{Text: "long", Wait: 4 * time.Second}, cruster.Key("k"))
				if err != nil || n != 2 {
					o.t.Errorf("waiter %d: %d, %v; want the second delivery's outcome", i, n, err)
				}
				if d := time.Since(begin); d > 2*time.Second+takeOver+4*time.Second {
					o.t.Errorf("waiter %d was answered after %v", i, d)
				}
			})
		}
		o.Advance(2 * time.Second)
		o.Runner(1).Kill()
		wg.Wait()
		if n := o.books.times("long"); n != 2 {
			o.t.Errorf("the handler began %d times, want twice", n)
		}
	})
}

func TestWorkflowsFromEveryRunner(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		ctx, cancel := context.WithTimeout(o.t.Context(), 10*time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		var pending sync.Map
		for i := range 9 {
			plan := tripPlan{Name: fmt.Sprint("trip", i), Stops: 3, Children: 3, Sleep: 3 * time.Second}
			for from := range 3 {
				wg.Go(func() {
					w := o.rounds[from].WithRawKey(plan.Name)
					var n int
					var err error
					if from == 0 {
						n, err = w.Execute(ctx, plan)
					} else if _, err = w.Start(ctx, plan); err == nil {
						n, err = w.Join(ctx, plan.Name)
					}
					if from == 2 && (err != nil || n != 6) { // the others' processes end meanwhile
						t.Errorf("%s from %d = %d, %v; want 6", plan.Name, from, n, err)
					}
					pending.Delete(fmt.Sprint(plan.Name, " from ", from))
				})
				pending.Store(fmt.Sprint(plan.Name, " from ", from), true)
			}
		}
		o.Advance(4 * time.Second)
		o.Runner(1).Kill()
		o.rounds[1], o.desks[1] = o.rounds[0], o.desks[0]
		o.Advance(20 * time.Second)
		o.Runner(0).Stop()
		o.Runner(1).Start()
		o.Advance(time.Minute)
		o.Advance(5 * time.Minute)
		pending.Range(func(name, _ any) bool {
			o.t.Errorf("%v is still awaited after %v", name, 5*time.Minute)
			return true
		})
		cancel()
		wg.Wait()
	})
}

func TestWaitersOfARunnerThatStops(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		plan := tripPlan{Name: "p", Stops: 20, Sleep: 5 * time.Second}
		if _, err := o.rounds[0].WithRawKey("p").Start(o.t.Context(), plan); err != nil {
			o.t.Fatal(err)
		}
		for from := range 3 {
			if _, done, err := o.rounds[from].Poll(o.t.Context(), "p"); done || err != nil {
				o.t.Errorf("poll from %d = %v, %v", from, done, err)
			}
		}
		for from := range 2 {
			if err := o.rounds[from].Cancel(o.t.Context(), "p", "enough"); err != nil {
				o.t.Errorf("cancel from %d: %v", from, err)
			}
			_, err := o.rounds[2-from].Join(o.t.Context(), "p")
			if !errors.Is(err, cruster.ErrCancelled) {
				o.t.Errorf("join of a cancelled execution = %v", err)
			}
		}
	})
}

func TestScheduledMessagesOverFailovers(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		begin := time.Now()
		for i := range 60 {
			l := letter{Text: fmt.Sprint("due ", i)}
			at := begin.Add(time.Duration(i) * time.Second)
			if err := cruster.Notify(o.t.Context(), o.desks[i%3].Entity(fmt.Sprint(i)), (*desk).Stamp, l, cruster.At(at)); err != nil {
				o.t.Fatal(err)
			}
		}
		o.Advance(10 * time.Second)
		o.Runner(0).Kill()
		o.Advance(15 * time.Second)
		o.Runner(1).Stop()
		o.Runner(0).Start()
		o.Advance(10 * time.Second)
		o.Runner(2).Restart()
		o.Advance(time.Minute)
		o.books.mu.Lock()
		defer o.books.mu.Unlock()
		for i := range 60 {
			what := fmt.Sprint("due ", i)
			at := o.books.at[what]
			if len(at) == 0 || len(at) > 2 {
				o.t.Errorf("message %d began %d times", i, len(at))
				continue
			}
			if early := at[0].Sub(begin) - time.Duration(i)*time.Second; early < 0 || early > takeOver+time.Second {
				o.t.Errorf("message %d began %v after its time", i, early)
			}
			if o.books.runs["done "+what] != 1 {
				o.t.Errorf("message %d ended %d times", i, o.books.runs["done "+what])
			}
		}
	})
}

func TestLeaseLostAndRegained(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		id := o.on(1, "x")
		before := o.incarnations()
		result := make(chan error, 1)
		go func() {
			_, err := cruster.Call(o.t.Context(), o.desks[0].Entity(id), (*desk).Stamp, letter{Text: "cut", Wait: 20 * time.Second})
			result <- err
		}()
		o.Advance(time.Second)
		o.Runner(1).Pause()
		o.Advance(8500 * time.Millisecond) // TTL less a fifth
		_, err := cruster.Call(shortly(o), o.desks[1].Entity(id), (*desk).Where, struct{}{})
		if err == nil {
			o.t.Error("a runner that has not renewed its lease still answers")
		}
		o.Advance(takeOver)
		if at := o.owner(0, id); at == 1 {
			o.t.Error("the desk is still on the runner that is away")
		}
		o.Runner(1).Resume()
		o.Settle()
		if err := <-result; err != nil {
			o.t.Errorf("the stored call that was under way = %v", err)
		}
		if n := o.books.times("done cut"); n != 1 {
			o.t.Errorf("it ended %d times, want once: the first was told to stop", n)
		}
		if at := o.owner(0, id); at != 1 {
			o.t.Errorf("the desk is on %d after its runner is back, want 1", at)
		}
		after := o.incarnations()
		if len(after) != 3 || after["runner-1"] <= before["runner-1"] || after["runner-0"] != before["runner-0"] {
			o.t.Errorf("incarnations went from %v to %v: want a new one of runner-1 alone", before, after)
		}
	})
}

// shortly returns a context that ends soon.
func shortly(o *office) context.Context {
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Second)
	time.AfterFunc(time.Second, cancel)
	return ctx
}

func (o *office) incarnations() map[string]int64 {
	live, err := o.Storage().Runners(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	out := make(map[string]int64)
	for _, r := range live {
		out[r.Address] = int64(r.Incarnation)
	}
	return out
}

func TestPartitionBetweenRunners(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, func(c *crustertest.Options) { c.Config.PollInterval = 5 * time.Second }, func(o *office) {
		there := o.on(1, "x")
		o.Partition([]int{0}, []int{1, 2})
		// Storage is in reach: nobody loses a shard, and what is stored arrives.
		begin := time.Now()
		_, err := cruster.Call(o.t.Context(), o.desks[0].Entity(there), (*desk).Stamp, letter{Text: "a"})
		if d := time.Since(begin); err != nil || d > 20*time.Second {
			o.t.Errorf("a stored call to the other side = %v after %v", err, d)
		}
		if err := cruster.Notify(o.t.Context(), o.desks[0].Entity(there), (*desk).Stamp, letter{Text: "b"}); err != nil {
			o.t.Errorf("a stored notification to the other side = %v", err)
		}
		_, err = cruster.Call(shortly(o), o.desks[0].Entity(there), (*desk).Where, struct{}{})
		if err == nil {
			o.t.Error("a best-effort call crossed the partition")
		}
		o.Advance(30 * time.Second)
		if at := o.owner(2, there); at != 1 {
			o.t.Errorf("the desk is on %d, want 1: the partition moved its shard", at)
		}
		o.Heal()
		o.Advance(5 * time.Second)
		if at := o.owner(0, there); at != 1 {
			o.t.Errorf("after the partition the desk is on %d, want 1", at)
		}
		o.Advance(10 * time.Second)
		for _, text := range []string{"a", "b"} {
			if n := o.books.times(text); n != 1 {
				o.t.Errorf("%s ran %d times, want once", text, n)
			}
		}
	})
}

func TestAllRunnersRestartAtOnce(t *testing.T) {
	t.Parallel()
	inOffice(t, 3, nil, func(o *office) {
		for i := range 30 {
			l := letter{Text: fmt.Sprint("r", i), Wait: time.Second}
			if err := cruster.Notify(o.t.Context(), o.desks[i%3].Entity(fmt.Sprint(i)), (*desk).Stamp, l); err != nil {
				o.t.Fatal(err)
			}
		}
		for i := range 3 {
			plan := tripPlan{Name: fmt.Sprint("t", i), Stops: 3, Sleep: time.Second}
			if _, err := o.rounds[i].WithRawKey(plan.Name).Start(o.t.Context(), plan); err != nil {
				o.t.Fatal(err)
			}
		}
		o.Advance(300 * time.Millisecond)
		begin := time.Now()
		o.Restart()
		o.Settle()
		if d := time.Since(begin); d > takeOver+5*time.Second {
			o.t.Errorf("the cluster was back after %v", d)
		}
		for i := range 3 {
			if n, err := o.rounds[i].Join(o.t.Context(), fmt.Sprint("t", i)); err != nil || n != 3 {
				o.t.Errorf("execution %d = %d, %v", i, n, err)
			}
		}
		for i := range 30 {
			if n := o.books.times(fmt.Sprint("done r", i)); n != 1 {
				o.t.Errorf("message %d ended %d times", i, n)
			}
		}
	})
}

func TestCronTicksOnceOverFailovers(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ticks := make(map[time.Time]int)
	cron := func(c *crustertest.Options) {
		setup := c.SetupRunner
		c.SetupRunner = func(i int, svc *cruster.Service) error {
			return errors.Join(setup(i, svc), cruster.RegisterCron(svc, cruster.Cron{
				Name: "minute", Schedule: "@every 5s", NextFromPrevious: true,
				Run: func(_ context.Context, tick time.Time) error {
					mu.Lock()
					defer mu.Unlock()
					ticks[tick]++
					return nil
				},
			}))
		}
	}
	inOffice(t, 3, cron, func(o *office) {
		for round := range 6 {
			o.Advance(12 * time.Second)
			r := o.Runner(round % 3)
			if round%2 == 0 {
				r.Kill()
			} else {
				r.Stop()
			}
			o.Advance(21 * time.Second)
			r.Start()
		}
		o.Advance(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		var first, last time.Time
		for at, n := range ticks {
			if n != 1 {
				o.t.Errorf("tick %v ran %d times", at, n)
			}
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
		if want := int(last.Sub(first)/(5*time.Second)) + 1; len(ticks) != want || want < 35 {
			o.t.Errorf("%d ticks ran from %v to %v, want %d", len(ticks), first, last, want)
		}
	})
}

// post watches that a singleton is held once at most.
type post struct {
	mu        sync.Mutex
	now, most int
	holder    int           // the newest
	stubborn  time.Duration // how long it goes on after it was told to stop
}

func (p *post) register(c *crustertest.Options) {
	setup := c.SetupRunner
	c.SetupRunner = func(i int, svc *cruster.Service) error {
		return errors.Join(setup(i, svc), cruster.RegisterSingleton(svc, cruster.Singleton{Name: "post", Run: func(ctx cruster.SingletonContext) error {
			p.mu.Lock()
			p.now++
			p.most, p.holder = max(p.most, p.now), i
			p.mu.Unlock()
			<-ctx.Done()
			time.Sleep(p.stubborn)
			p.mu.Lock()
			p.now--
			p.mu.Unlock()
			return nil
		}}))
	}
}

func TestSingletonMoves(t *testing.T) {
	t.Parallel()
	for _, stubborn := range []time.Duration{0, 500 * time.Millisecond} {
		t.Run(stubborn.String(), func(t *testing.T) {
			t.Parallel()
			p := &post{stubborn: stubborn}
			inOffice(t, 3, p.register, func(o *office) {
				held := func(when string) int {
					o.t.Helper()
					p.mu.Lock()
					defer p.mu.Unlock()
					if p.now != 1 || p.most > 1 {
						o.t.Errorf("%s the singleton is held %d times, at most %d", when, p.now, p.most)
					}
					return p.holder
				}
				first := held("at first")
				o.Runner(first).Stop()
				o.Advance(3 * time.Second)
				second := held("after a stop")
				if second == first {
					o.t.Fatalf("the singleton moved from %d to %d", first, second)
				}
				// What is left of a killed process hears that it has to stop a second
				// later at most, long before anybody takes over.
				o.Runner(second).Kill()
				o.Advance(takeOver + time.Second)
				third := held("after a kill")
				if third == second {
					o.t.Fatalf("the singleton moved from %d to %d", second, third)
				}
				o.Runner(third).Pause()
				o.Runner(first).Start()
				o.Advance(takeOver + time.Second)
				if at := held("after a pause"); at != first {
					o.t.Errorf("the singleton is on %d, want %d", at, first)
				}
			})
		})
	}
}
