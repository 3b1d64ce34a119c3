package cruster_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
	"github.com/cruster-go/cruster/crustertype"
)

// ticks collects what a cron ran.
type ticks struct {
	mu  sync.Mutex
	got []time.Time
}

func (k *ticks) add(tick time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.got = append(k.got, tick)
}

func (k *ticks) all() []time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]time.Time(nil), k.got...)
}

func TestCronRunsEachTickOnceOverRestarts(t *testing.T) {
	t.Parallel()
	var k ticks
	crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) error {
		return cruster.RegisterCron(svc, cruster.Cron{Name: "every5", Schedule: "0 */5 * * * * *", Run: func(_ context.Context, tick time.Time) error {
			k.add(tick)
			return nil
		}})
	}}, func(t *testing.T, c *crustertest.Cluster) {
		for range 20 {
			c.Advance(17 * time.Minute)
			c.Restart()
		}
		c.Advance(time.Second)
		got := k.all()
		if len(got) != 20*17/5 {
			t.Errorf("%d ticks ran in 340 minutes, want 68", len(got))
		}
		for i := 1; i < len(got); i++ {
			if d := got[i].Sub(got[i-1]); d != 5*time.Minute {
				t.Errorf("tick %v follows %v: none may be lost or doubled", got[i], got[i-1])
			}
		}
	})
}

func TestCronAfterAnOutage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  func(*cruster.Cron)
		want int
	}{
		"newest missed tick":         {func(*cruster.Cron) {}, 1},
		"every missed tick":          {func(c *cruster.Cron) { c.NextFromPrevious = true }, 12},
		"more than fit one decision": {func(c *cruster.Cron) { c.NextFromPrevious, c.Schedule = true, "* * * * *" }, 121},
		"not too old":                {func(c *cruster.Cron) { c.NextFromPrevious, c.SkipIfOlderThan = true, 31*time.Minute }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var k ticks
			crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) error {
				job := cruster.Cron{Name: "job", Schedule: "*/10 * * * *", Overlap: cruster.OverlapAllow, Run: func(_ context.Context, tick time.Time) error {
					k.add(tick)
					return nil
				}}
				c.set(&job)
				return cruster.RegisterCron(svc, job)
			}}, func(t *testing.T, cl *crustertest.Cluster) {
				cl.Advance(time.Minute)
				cl.Kill()
				cl.Advance(2 * time.Hour)
				cl.Start()
				cl.Advance(time.Second)
				if got := k.all(); len(got) != c.want {
					t.Errorf("after two hours without a runner %d ticks ran (%v), want %d", len(got), got, c.want)
				}
			})
		})
	}
}

func TestCronMisuse(t *testing.T) {
	t.Parallel()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	err = cruster.RegisterCron(svc, cruster.Cron{Name: "a b", Schedule: "61 * * * *", SkipIfOlderThan: -1})
	for _, want := range []string{`cron name "a b"`, "set Run or Send", "61", "SkipIfOlderThan"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("RegisterCron = %v, want an error with %q", err, want)
		}
	}
}

func TestSingletonIsRestartedAfterFailure(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var starts []time.Time
	crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) error {
		return cruster.RegisterSingleton(svc, cruster.Singleton{Name: "leader", Run: func(ctx cruster.SingletonContext) error {
			mu.Lock()
			starts = append(starts, time.Now())
			n := len(starts)
			mu.Unlock()
			switch n {
			case 1, 2:
				return errors.New("not yet")
			case 3:
				panic("broken")
			}
			<-ctx.Done()
			return ctx.Err()
		}})
	}}, func(t *testing.T, c *crustertest.Cluster) {
		c.Advance(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(starts) != 4 {
			t.Fatalf("the singleton started %d times, want 4", len(starts))
		}
		for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			if got := starts[i+1].Sub(starts[i]); got > want || got < want*8/10 {
				t.Errorf("pause %d was %v, want %v less up to a fifth", i+1, got, want)
			}
		}
		row, err := c.Storage().Schedule(t.Context(), crustertype.ScheduleSingleton, "leader")
		if err != nil || row.Restarts != 3 || row.Holder == 0 || !strings.Contains(row.LastError, "broken") {
			t.Errorf("recorded state %+v, %v: want 3 restarts, a holder and the last error", row, err)
		}
	})
}

// TestSingletonThatEndsItsGoroutine is started again like one that fails.
func TestSingletonThatEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	var starts atomic.Int64
	crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) error {
		return cruster.RegisterSingleton(svc, cruster.Singleton{Name: "leader", Run: func(ctx cruster.SingletonContext) error {
			if starts.Add(1) <= 2 {
				runtime.Goexit()
			}
			<-ctx.Done()
			return nil
		}})
	}}, func(t *testing.T, c *crustertest.Cluster) {
		c.Advance(10 * time.Second)
		if n := starts.Load(); n != 3 {
			t.Errorf("it was started %d times, want 3", n)
		}
		row, err := c.Storage().Schedule(t.Context(), crustertype.ScheduleSingleton, "leader")
		if err != nil || row.Restarts != 2 || !strings.Contains(row.LastError, "Goexit") {
			t.Errorf("state is %+v, %v, want 2 restarts after a Goexit", row, err)
		}
	})
}

func TestSingletonStopsGracefullyIfItAsks(t *testing.T) {
	t.Parallel()
	for name, graceful := range map[string]bool{"graceful": true, "forced": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				svc, err := cruster.New(cruster.Config{})
				if err != nil {
					t.Fatal(err)
				}
				cleaned := false
				err = cruster.RegisterSingleton(svc, cruster.Singleton{Name: "s", Run: func(ctx cruster.SingletonContext) error {
					if !graceful {
						<-ctx.Done()
						return ctx.Err()
					}
					<-ctx.Cancellation()
					time.Sleep(5 * time.Second)
					cleaned = ctx.Err() == nil
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				if err := svc.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				begin := time.Now()
				stop(t, svc)
				if graceful && !cleaned {
					t.Error("the context of a graceful singleton ended before it was done")
				}
				if !graceful && time.Since(begin) > time.Second {
					t.Errorf("a singleton that does not ask was stopped after %v, want at once", time.Since(begin))
				}
			})
		})
	}
}
