package crustertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/transport"
)

// Options describe the service under test.
type Options struct {
	// Setup registers entities and workflows with a new service. It is called
	// for every start, and keeps the clients where the test finds them.
	Setup func(svc *cruster.Service) error

	// SetupRunner does the same and is told which runner it is called for, from
	// 0. It is for tests that call from several runners, or where they differ.
	// Set one of the two.
	SetupRunner func(runner int, svc *cruster.Service) error

	// Runners is how many runners share the store and are joined by a network in
	// memory. Default: one, without a network.
	Runners int

	// Storage opens the store that outlives the processes, in the bubble.
	// Default: memory, which has no SQL; sqlite.OpenMemory has.
	Storage func() (storage.Store, error)

	// Config is the service's configuration. Storage, Transport and AlwaysEncode
	// are set by the kit; a nil Logger logs into the test's output. PollInterval
	// is off by default: a safety net would hide what it catches. With several
	// runners ShardsPerGroup is 30 by default.
	Config cruster.Config

	// Configure changes what one runner has different from Config, which has
	// everything set when it is called. Optional.
	Configure func(runner int, cfg *cruster.Config)

	// Seed is that of the network's faults. Default 1.
	Seed uint64
}

// Cluster is one or several runners in a test, with the store that outlives
// them. It is used by the test's own goroutine.
type Cluster struct {
	t       *testing.T
	o       Options
	store   storage.Store
	net     *transport.Network // nil: one runner without
	runners []*Runner
	graves  sync.WaitGroup // killed processes that still end
}

// Run runs f in a bubble of virtual time, with runners that are started.
// Everything is stopped and checked for leaks afterwards.
func Run(t *testing.T, o Options, f func(t *testing.T, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := open(t, o)
		defer c.close()
		c.Start()
		f(t, c)
	})
}

func open(t *testing.T, o Options) *Cluster {
	t.Helper()
	switch {
	case (o.Setup == nil) == (o.SetupRunner == nil):
		t.Fatal("crustertest: set one of Options.Setup and Options.SetupRunner, and register something in it")
	case o.Runners < 0:
		t.Fatalf("crustertest: Options.Runners is %d: use 1 or more, or 0 for one without a network", o.Runners)
	}
	if o.SetupRunner == nil {
		o.SetupRunner = func(_ int, svc *cruster.Service) error { return o.Setup(svc) }
	}
	if o.Configure == nil {
		o.Configure = func(int, *cruster.Config) {}
	}
	if o.Storage == nil {
		o.Storage = func() (storage.Store, error) { return memory.New(), nil }
	}
	if o.Config.Logger == nil {
		o.Config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if o.Config.PollInterval == 0 {
		o.Config.PollInterval = -1
	}
	store, err := o.Storage()
	if err != nil {
		t.Fatalf("crustertest: open storage: %v", err)
	}
	c := &Cluster{t: t, o: o, store: store}
	if o.Runners > 0 {
		c.net = transport.NewNetwork(max(1, o.Seed))
		if c.o.Config.ShardsPerGroup == 0 {
			c.o.Config.ShardsPerGroup = 30
		}
	}
	for i := range max(1, o.Runners) {
		c.runners = append(c.runners, &Runner{c: c, index: i})
	}
	return c
}

func (c *Cluster) close() {
	c.t.Helper()
	c.Heal()
	for _, r := range c.runners {
		r.Resume()
	}
	c.Stop()
	c.graves.Wait()
	if err := c.store.Close(); err != nil {
		c.t.Errorf("crustertest: close storage: %v", err)
	}
}

// Runner returns the i-th runner, from 0.
func (c *Cluster) Runner(i int) *Runner { return c.runners[i] }

// Runners returns all runners, also those that are not running.
func (c *Cluster) Runners() []*Runner { return c.runners }

// Start starts all runners at once, each as a new process. None of them must be
// running.
func (c *Cluster) Start() {
	c.t.Helper()
	if err := c.each(func(r *Runner) error { return r.start(0, 0) }); err != nil {
		c.t.Fatalf("crustertest: start: %v", err)
	}
}

// Stop shuts all runners that are running down in good order, at once.
func (c *Cluster) Stop() {
	c.t.Helper()
	if err := c.each((*Runner).stop); err != nil {
		c.t.Errorf("crustertest: shutdown: %v", err)
	}
}

// each does something with all runners at once.
func (c *Cluster) each(f func(*Runner) error) error {
	errs := make([]error, len(c.runners))
	var wg sync.WaitGroup
	for i, r := range c.runners {
		wg.Go(func() {
			if err := f(r); err != nil {
				errs[i] = fmt.Errorf("runner %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Kill ends all runners that are running at once; see [Runner.Kill].
func (c *Cluster) Kill() {
	c.t.Helper()
	for _, r := range c.runners {
		if r.svc != nil {
			r.Kill()
		}
	}
}

// Restart kills all runners and starts them again, all at once.
func (c *Cluster) Restart() {
	c.t.Helper()
	c.Kill()
	c.Start()
}

// Partition cuts the network between the runners of one side and those of the
// other. The storage stays in reach of all.
func (c *Cluster) Partition(side, other []int) {
	c.t.Helper()
	c.Network().Partition(c.addresses(side), c.addresses(other))
}

func (c *Cluster) addresses(runners []int) []string {
	out := make([]string, len(runners))
	for i, r := range runners {
		out[i] = c.runners[r].Address()
	}
	return out
}

// Heal repairs all partitions. Runners that are paused stay so.
func (c *Cluster) Heal() {
	if c.net == nil {
		return
	}
	c.net.Heal()
	for _, r := range c.runners {
		if r.paused {
			r.silence()
		}
	}
}

// Network returns the network between the runners, for its other faults.
func (c *Cluster) Network() *transport.Network {
	c.t.Helper()
	if c.net == nil {
		c.t.Fatal("crustertest: there is no network: set Options.Runners")
	}
	return c.net
}

// Advance lets virtual time pass and waits until everything rests.
func (c *Cluster) Advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Settle lets time pass until every shard has a live owner and none has moved
// for a second.
func (c *Cluster) Settle() {
	c.t.Helper()
	const look, calm, limit = 100 * time.Millisecond, time.Second, 5 * time.Minute
	var before string
	begin, since := time.Now(), time.Now()
	for {
		now, owned, err := c.placement()
		switch {
		case err != nil:
			c.t.Fatalf("crustertest: settle: %v", err)
		case !owned || now != before:
			before, since = now, time.Now()
		case time.Since(since) >= calm:
			return
		}
		if time.Since(begin) > limit {
			c.t.Fatalf("crustertest: settle: shards have no owner, or still move, after %v", limit)
		}
		c.Advance(look)
	}
}

// placement describes who owns what, and reports whether everything has a live
// owner.
func (c *Cluster) placement() (text string, owned bool, err error) {
	ctx := c.t.Context()
	live, err := c.store.Runners(ctx)
	if err != nil {
		return "", false, err
	}
	shards, owner := c.shards(live)
	leases, err := c.store.Owners(ctx, shards)
	if err != nil {
		return "", false, err
	}
	owned = true
	for _, l := range leases {
		owned = owned && owner[l.Owner]
	}
	return fmt.Sprint(leases), owned, nil
}

// Service returns the running service of the first runner.
func (c *Cluster) Service() *cruster.Service { return c.runners[0].svc }

// Storage returns the store that outlives the processes.
func (c *Cluster) Storage() storage.Store { return c.store }

// Commits returns how many commits the first runner's process has made.
func (c *Cluster) Commits() int { return c.runners[0].Commits() }

// bound is how long a shutdown may take.
func (c *Cluster) bound(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.t.Context()), d)
}
