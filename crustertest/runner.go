package crustertest

import (
	"errors"
	"fmt"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/transport"
)

// Runner is one of the processes that a [Cluster] may have. It can be started
// again after it was stopped or killed: the address is the same, the process is
// another.
type Runner struct {
	c      *Cluster
	index  int
	proc   *mortal
	svc    *cruster.Service
	paused bool
}

// Address is where the others reach the runner, and its name on the network.
func (r *Runner) Address() string { return fmt.Sprintf("runner-%d", r.index) }

// Service returns the running service, or nil.
func (r *Runner) Service() *cruster.Service { return r.svc }

// Running reports whether the runner was started and neither stopped nor killed
// since.
func (r *Runner) Running() bool { return r.svc != nil }

// Start starts a new process. One must not be running.
func (r *Runner) Start() {
	r.c.t.Helper()
	if err := r.start(0, 0); err != nil {
		r.c.t.Fatalf("crustertest: start runner %d: %v", r.index, err)
	}
}

// start starts a process that dies at its n-th commit; 0: it does not.
func (r *Runner) start(dieAt int, when When) error {
	c := r.c
	if r.svc != nil {
		return errors.New("its process is running: Stop or Kill it first")
	}
	r.proc = newMortal(c.store)
	r.proc.dieAt, r.proc.when = dieAt, when
	cfg := c.o.Config
	if c.net != nil {
		cfg.Transport = c.net.Transport(r.Address(), transport.Options{})
		cfg.Logger = cfg.Logger.With("runner", r.index)
	}
	cfg.Storage, cfg.AlwaysEncode = r.proc, true
	c.o.Configure(r.index, &cfg)
	svc, err := cruster.New(cfg)
	if err == nil {
		err = c.o.SetupRunner(r.index, svc)
	}
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	r.svc = svc
	return svc.Start(c.t.Context())
}

// Stop shuts the process down in good order.
func (r *Runner) Stop() {
	r.c.t.Helper()
	if err := r.stop(); err != nil {
		r.c.t.Errorf("crustertest: shutdown of runner %d: %v", r.index, err)
	}
}

func (r *Runner) stop() error {
	if r.svc == nil {
		return nil
	}
	ctx, cancel := r.c.bound(time.Minute)
	defer cancel()
	err := r.svc.Shutdown(ctx)
	r.svc = nil
	return err
}

// Kill ends the process at once: what is not in storage is lost, and its
// connections break. Handlers that are running cannot be ended from outside, but
// nothing of theirs is committed or sent any more. The others find out by
// themselves.
func (r *Runner) Kill() {
	r.c.t.Helper()
	if r.svc == nil {
		r.c.t.Fatalf("crustertest: Kill: runner %d is not running", r.index)
	}
	r.proc.kill()
	r.bury()
}

// bury clears away what is left of a killed process.
func (r *Runner) bury() {
	svc := r.svc
	r.svc = nil
	if r.c.net == nil {
		ctx, cancel := r.c.bound(time.Second)
		defer cancel()
		_ = svc.Shutdown(ctx) // it fails: its storage is gone
		return
	}
	r.Resume()
	r.c.net.Kill(r.Address())
	r.c.graves.Go(func() {
		ctx, cancel := r.c.bound(0) // its handlers are told to stop at once
		defer cancel()
		_ = svc.Shutdown(ctx)
	})
}

// Restart kills the process and starts another on the same address.
func (r *Runner) Restart() {
	r.c.t.Helper()
	r.Kill()
	r.Start()
}

// Pause makes the process hang where it reaches out: its calls to storage do not
// come back, what it sends does not arrive, nothing reaches it. What it had asked
// of storage before may have happened. This is what the others see of a process
// that is stopped by SIGSTOP or by a long collection of garbage; its own clock
// and code go on.
func (r *Runner) Pause() {
	r.c.t.Helper()
	if r.svc == nil {
		r.c.t.Fatalf("crustertest: Pause: runner %d is not running", r.index)
	}
	r.proc.pause()
	if r.c.net != nil {
		r.paused = true
		r.silence()
	}
}

// silence cuts the runner off the network.
func (r *Runner) silence() {
	for _, other := range r.c.runners {
		if other != r {
			r.c.net.Partition([]string{r.Address()}, []string{other.Address()})
		}
	}
}

// Resume ends a pause: what hung goes on where it was. Partitions that the
// runner was in are healed with it.
func (r *Runner) Resume() {
	if r.paused {
		r.paused = false
		for _, other := range r.c.runners {
			if other != r && !other.paused {
				r.c.net.Mend(r.Address(), other.Address())
				r.c.net.Mend(other.Address(), r.Address())
			}
		}
	}
	if r.proc != nil {
		r.proc.resume()
	}
}

// DetachStorage keeps the process from its storage, and from nothing else, until
// Resume: its calls hang.
func (r *Runner) DetachStorage() { r.proc.pause() }

// SlowStorage makes each call of the process to storage take d longer on the way
// there, and d on the way back.
func (r *Runner) SlowStorage(d time.Duration) { r.proc.slow(d) }

// Commits returns how many commits the process has made.
func (r *Runner) Commits() int {
	r.proc.mu.Lock()
	defer r.proc.mu.Unlock()
	return r.proc.commits
}

// shards returns all shards of the groups that live runners host, and who can
// own them.
func (c *Cluster) shards(live []storage.Runner) ([]crustertype.Shard, map[crustertype.Incarnation]bool) {
	var shards []crustertype.Shard
	owner := make(map[crustertype.Incarnation]bool)
	seen := make(map[string]bool)
	n := c.o.Config.ShardsPerGroup
	if n == 0 {
		n = 300
	}
	for _, r := range live {
		owner[r.Incarnation] = r.Weight > 0
		for _, g := range r.Groups {
			if r.Weight > 0 && !seen[g] {
				seen[g] = true
				for i := range n {
					shards = append(shards, crustertype.Shard{Group: g, Index: i})
				}
			}
		}
	}
	return shards, owner
}

// Forget makes the cluster take no further care of the process: the test has
// shut it down, or will.
func (r *Runner) Forget() { r.svc = nil }
