package crustertest

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// Options describe the service under test.
type Options struct {
	// Setup registers entities and workflows with a new service. It is called
	// for every start, and keeps the clients where the test finds them.
	Setup func(svc *cruster.Service) error

	// Storage opens the store that outlives the processes, in the bubble.
	// Default: memory, which has no SQL; sqlite.OpenMemory has.
	Storage func() (storage.Store, error)

	// Config is the service's configuration. Storage and AlwaysEncode are set
	// by the kit; a nil Logger logs into the test's output. PollInterval is off
	// by default: a safety net would hide what it catches.
	Config cruster.Config
}

// Cluster is a service in a test, with the store that outlives it. It is used
// by the test's own goroutine.
type Cluster struct {
	t     *testing.T
	o     Options
	store storage.Store
	proc  *mortal
	svc   *cruster.Service
}

// Run runs f in a bubble of virtual time, with a service that is started.
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
	if o.Setup == nil {
		t.Fatal("crustertest: Options.Setup is nil: register something in it")
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
	return &Cluster{t: t, o: o, store: store}
}

func (c *Cluster) close() {
	c.t.Helper()
	if c.svc != nil {
		c.Stop()
	}
	if err := c.store.Close(); err != nil {
		c.t.Errorf("crustertest: close storage: %v", err)
	}
}

// Start starts a new process on the store. One must not be running.
func (c *Cluster) Start() {
	c.t.Helper()
	if err := c.start(0, 0); err != nil {
		c.t.Fatalf("crustertest: start: %v", err)
	}
}

// start starts a process that dies at its n-th commit; 0: it does not.
func (c *Cluster) start(dieAt int, when When) error {
	if c.svc != nil {
		c.t.Fatal("crustertest: Start: a process is running: Stop or Kill it first")
	}
	c.proc = newMortal(c.store)
	c.proc.dieAt, c.proc.when = dieAt, when
	cfg := c.o.Config
	cfg.Storage, cfg.AlwaysEncode = c.proc, true
	svc, err := cruster.New(cfg)
	if err == nil {
		err = c.o.Setup(svc)
	}
	if err != nil {
		c.t.Fatalf("crustertest: set up: %v", err)
	}
	c.svc = svc
	return svc.Start(c.t.Context())
}

// Stop shuts the process down in good order.
func (c *Cluster) Stop() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), time.Minute)
	defer cancel()
	err := c.svc.Shutdown(ctx)
	c.svc = nil
	if err != nil {
		c.t.Errorf("crustertest: shutdown: %v", err)
	}
}

// Kill ends the process at once: what is not in storage is lost. Handlers that
// are running cannot be ended from outside, but nothing of theirs is committed
// any more.
func (c *Cluster) Kill() {
	c.t.Helper()
	c.proc.kill()
	c.bury()
}

// bury clears away what is left of a killed process.
func (c *Cluster) bury() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), time.Second)
	defer cancel()
	_ = c.svc.Shutdown(ctx) // it fails: its storage is gone
	c.svc = nil
}

// Restart kills the process and starts another.
func (c *Cluster) Restart() {
	c.t.Helper()
	c.Kill()
	c.Start()
}

// Advance lets virtual time pass and waits until everything rests.
func (c *Cluster) Advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Service returns the running service.
func (c *Cluster) Service() *cruster.Service { return c.svc }

// Storage returns the store that outlives the processes.
func (c *Cluster) Storage() storage.Store { return c.store }

// Commits returns how many commits the running process has made.
func (c *Cluster) Commits() int {
	c.proc.mu.Lock()
	defer c.proc.mu.Unlock()
	return c.proc.commits
}
