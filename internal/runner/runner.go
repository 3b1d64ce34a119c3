// Package runner executes the requests of the entities that one process owns.
//
// It knows nothing of Go types: package cruster wraps it in generics. See
// DESIGN.md for how a persisted request moves through it.
package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/commit"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/scheduler"
	"github.com/cruster-go/cruster/sharding"
	"github.com/cruster-go/cruster/storage"
)

// Config is what a Runner is made of. Every field is required unless it says
// otherwise.
type Config struct {
	Store          storage.Store
	Codec          codec.Codec
	Lookup         func(name string) (codec.Codec, error)
	Logger         *slog.Logger
	ShardsPerGroup int
	Groups         []string // shard groups hosted beside those of the registered types
	MaxPayload     int
	MaxDeliveries  int
	PollInterval   time.Duration // of the safety net; negative: none
	LeaseTTL       time.Duration
	Cluster        bool             // somebody else decides which shards the runner owns: Gain, Close and Drop
	Redelivery     scheduler.Policy // between deliveries that the engine repeats
	Encode         func(error) *crustertype.Failure
	Decode         func(*crustertype.Failure) error

	// Probe follows handlers and commits; nil: nobody does.
	Probe *invoke.Probe
	// Fenced is told of shards that a commit found lost. It must not block.
	// Optional.
	Fenced func([]crustertype.Shard)
	// Stored is told of a message that was stored for a shard of another runner,
	// so that the owner hears of it. Optional.
	Stored func(*crustertype.Message)
	// Wake is called when an execution's timer is due. Optional.
	Wake func(crustertype.ExecutionRef)
	// Recover is called with the shards that the runner has come to own, and
	// loads other work than messages. Optional.
	Recover func(ctx context.Context, shards []crustertype.Shard) error
}

// Runner is one process's share of the cluster.
type Runner struct {
	cfg    Config
	Commit *commit.Committer

	types map[string]*EntityType // fixed at Start

	ownMu    sync.Mutex // of changes to owned
	owned    atomic.Pointer[tenures]
	duties   []Duty
	deadline atomic.Int64 // until when the runner may work, in nanoseconds since born; 0: no limit
	born     time.Time
	inc      atomic.Int64 // incarnation
	acceptMu sync.Mutex   // order of sequence numbers is order of submission
	counters map[crustertype.Shard]int64

	pool     *pool
	waiters  waiters
	alarms   *alarms
	adopt    chan struct{} // nudges the adoption of messages that others stored
	unplaced unplaced

	life     context.Context // handlers' lifetime: ends when the drain begins
	endLife  context.CancelCauseFunc
	hard     context.Context // lifetime of the uninterruptible: ends when the drain is over
	endHard  context.CancelCauseFunc
	stop     context.CancelFunc // ends the background loops
	loops    sync.WaitGroup
	stopLane context.CancelFunc
	lane     sync.WaitGroup
	lost     chan struct{} // closed when the runner can no longer work
	lostOnce sync.Once
	lostErr  error
}

// New returns a Runner that is not started.
func New(cfg Config) *Runner {
	r := &Runner{
		cfg: cfg, types: make(map[string]*EntityType), counters: make(map[crustertype.Shard]int64), born: time.Now(),
		pool: newPool(), adopt: make(chan struct{}, 1), lost: make(chan struct{}),
		Commit: commit.New(cfg.Store, commit.Options{Logger: cfg.Logger, OnFenced: cfg.Fenced, OnFlush: onFlush(cfg.Probe)}),
	}
	r.alarms = newAlarms(r)
	r.owned.Store(&tenures{})
	return r
}

// onFlush tells of commits.
func onFlush(p *invoke.Probe) func(int, time.Duration) {
	if p == nil || p.Observer == nil {
		return nil
	}
	return func(units int, took time.Duration) { p.Tell(observe.CommitFlushed{Units: units, Took: took}) }
}

// Register adds an entity type. It must not be called after Start.
func (r *Runner) Register(t *EntityType) {
	t.r = r
	t.open(crustertype.ErrNotStarted)
	r.types[t.Name] = t
}

// HostGroup makes the runner host a shard group besides those of its entity
// types. It must not be called after Start.
func (r *Runner) HostGroup(group string) { r.cfg.Groups = append(r.cfg.Groups, group) }

// Type returns a registered entity type, or nil.
func (r *Runner) Type(name string) *EntityType { return r.types[name] }

// ShardOf returns the shard of an ID in a shard group.
func (r *Runner) ShardOf(group, id string) crustertype.Shard {
	return crustertype.Shard{Group: group, Index: sharding.ShardOf(group, id, r.cfg.ShardsPerGroup)}
}

// Incarnation returns the runner's incarnation, 0 before it has one.
func (r *Runner) Incarnation() crustertype.Incarnation {
	return crustertype.Incarnation(r.inc.Load())
}

// SetIncarnation tells as whom the runner owns shards.
func (r *Runner) SetIncarnation(inc crustertype.Incarnation) { r.inc.Store(int64(inc)) }

// SetDeadline tells until when the runner may work; the zero time: it may not.
// Without a call there is no limit.
func (r *Runner) SetDeadline(t time.Time) { r.deadline.Store(max(1, int64(t.Sub(r.born)))) }

// Working reports whether the runner may work now.
func (r *Runner) Working() bool {
	d := r.deadline.Load()
	return d == 0 || int64(time.Since(r.born)) < d
}

// Lifetime ends when the runner begins to drain.
func (r *Runner) Lifetime() context.Context { return r.life }

// Lost is closed when the runner can no longer work; LostErr then says why.
func (r *Runner) Lost() <-chan struct{} { return r.lost }

// LostErr returns why the runner stopped by itself, or nil.
func (r *Runner) LostErr() error {
	select {
	case <-r.lost:
		return r.lostErr
	default:
		return nil
	}
}

func (r *Runner) lose(err error) {
	r.lostOnce.Do(func() {
		r.lostErr = err
		close(r.lost)
	})
}

// Spawn runs f on one of the runner's goroutines.
func (r *Runner) Spawn(f func()) { r.pool.spawn(f) }

// Start takes ownership, recovers pending work and begins to serve. base is the
// parent of everything that the runner does; it should not end before Shutdown.
// ctx bounds the start alone. When Start fails, everything is stopped again.
func (r *Runner) Start(ctx, base context.Context) (err error) {
	r.hard, r.endHard = context.WithCancelCause(base)
	r.life, r.endLife = context.WithCancelCause(r.hard)
	laneCtx, stopLane := context.WithCancel(base)
	loopCtx, stop := context.WithCancel(base)
	r.stop, r.stopLane = stop, stopLane
	r.lane.Add(1)
	go func() {
		defer r.lane.Done()
		_ = r.Commit.Run(laneCtx) // it returns nil
	}()
	defer func() {
		if err != nil {
			r.Abort(err)
		}
	}()
	for _, t := range r.types {
		t.open(nil)
	}
	if !r.cfg.Cluster {
		leases, err := r.own(ctx)
		if err != nil {
			return err
		}
		r.Begin(leases)
		if err := r.Gain(ctx, leases); err != nil {
			return fmt.Errorf("recover unfinished work: %w", err)
		}
	}
	r.loop(func() { r.alarms.run(loopCtx) })
	r.loop(func() { r.adoptLoop(loopCtx) })
	r.loop(func() { r.sweepLoop(loopCtx) })
	if r.cfg.Store.Info().Shared && !r.cfg.Cluster {
		r.loop(func() { r.renewLoop(loopCtx) })
	}
	return nil
}

func (r *Runner) loop(f func()) {
	r.loops.Add(1)
	go func() {
		defer r.loops.Done()
		f()
	}()
}

// Groups returns the shard groups that the runner hosts, in order.
func (r *Runner) Groups() []string {
	set := map[string]bool{crustertype.DefaultShardGroup: true}
	for _, g := range r.cfg.Groups {
		set[g] = true
	}
	for _, t := range r.types {
		set[t.Group] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// own registers an incarnation and takes over every shard of its groups. Without
// a membership there is one runner: whoever owned them before is gone, or is
// fenced by the take-over.
func (r *Runner) own(ctx context.Context) ([]crustertype.Lease, error) {
	var all []crustertype.Shard
	groups := r.Groups()
	for _, g := range groups {
		for i := range r.cfg.ShardsPerGroup {
			all = append(all, crustertype.Shard{Group: g, Index: i})
		}
	}
	if r.cfg.Store.Info().Shared {
		if err := r.waitAlone(ctx); err != nil {
			return nil, err
		}
	}
	inc, err := r.cfg.Store.Register(ctx, storage.Runner{Groups: groups, Weight: 1}, r.cfg.LeaseTTL)
	if err != nil {
		return nil, fmt.Errorf("register runner: %w", err)
	}
	r.SetIncarnation(inc)
	leases := make(map[crustertype.Shard]crustertype.Lease, len(all))
	for missing := all; len(missing) > 0; {
		owners, err := r.cfg.Store.Owners(ctx, missing)
		if err != nil {
			return nil, fmt.Errorf("read shard owners: %w", err)
		}
		from := make(map[crustertype.Incarnation][]crustertype.Shard)
		for _, l := range owners {
			from[l.Owner] = append(from[l.Owner], l.Shard)
		}
		for _, prev := range slices.Sorted(maps.Keys(from)) {
			got, err := r.cfg.Store.TakeOver(ctx, storage.TakeOver{By: inc, From: prev, Shards: from[prev]})
			if err != nil {
				return nil, fmt.Errorf("take over %d shards of incarnation %d: %w", len(from[prev]), prev, err)
			}
			for _, l := range got {
				leases[l.Shard] = l
			}
		}
		missing = slices.DeleteFunc(slices.Clone(all), func(s crustertype.Shard) bool { _, ok := leases[s]; return ok })
	}
	return slices.Collect(maps.Values(leases)), nil
}

// waitAlone waits until no other runner's record lives: a crashed one's expires
// within its TTL, a live one's is renewed.
func (r *Runner) waitAlone(ctx context.Context) error {
	deadline := time.Now().Add(r.cfg.LeaseTTL + r.cfg.LeaseTTL/4)
	for {
		live, err := r.cfg.Store.Runners(ctx)
		if err != nil {
			return fmt.Errorf("read runners: %w", err)
		}
		if len(live) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return crustertype.Errorf(crustertype.CodeUnavailable,
				"runner %d already uses this %s storage: one process at a time without a membership", live[0].Incarnation, r.cfg.Store.Info().Name)
		}
		if err := sleep(ctx, r.cfg.LeaseTTL/20); err != nil {
			return err
		}
	}
}

// renewTimeout is how long one renewal may take when so much of the lease is
// left: most of it, so that a slow one gets through, and one that hangs leaves
// time for others.
func renewTimeout(ttl, left time.Duration) time.Duration { return max(left*3/4, ttl/10) }

// renewLoop renews the lease at once, then each third of its time, and in quick
// succession while that fails.
func (r *Runner) renewLoop(ctx context.Context) {
	ttl := r.cfg.LeaseTTL
	kept := time.Now()
	for pause := time.Duration(0); sleep(ctx, pause) == nil; {
		begin := time.Now()
		rctx, cancel := context.WithTimeout(ctx, renewTimeout(ttl, kept.Add(ttl).Sub(begin)))
		err := r.cfg.Store.Renew(rctx, r.Incarnation(), false, ttl)
		cancel()
		pause = ttl / 20
		switch {
		case err == nil:
			kept, pause = begin, max(0, ttl/3-time.Since(begin))
		case errors.Is(err, storage.ErrFenced):
			r.endLife(crustertype.ErrFenced)
			r.lose(crustertype.Errorf(crustertype.CodeFenced, "the runner's lease expired: it was not renewed for %v; start the service again", r.cfg.LeaseTTL))
			return
		case err != nil && ctx.Err() == nil:
			r.cfg.Logger.WarnContext(ctx, "lease is not renewed", "incarnation", r.inc.Load(), "error", err)
		}
	}
}

func (r *Runner) sweepLoop(ctx context.Context) {
	idle := time.Duration(0)
	for _, t := range r.types {
		if t.Idle > 0 && (idle == 0 || t.Idle < idle) {
			idle = t.Idle
		}
	}
	if idle == 0 {
		return
	}
	due := make(map[*EntityType]time.Time, len(r.types))
	tick := time.NewTicker(max(idle/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, t := range r.types {
				if t.Idle > 0 && !now.Before(due[t]) {
					t.sweep()
					due[t] = now.Add(t.Idle / 2)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// Shutdown stops in stages: refuse new requests, interrupt and await running
// handlers, flush commits, leave. When ctx ends first, what still runs is
// abandoned: its commits are refused. It is called once.
func (r *Runner) Shutdown(ctx context.Context, stopWorkflows func(context.Context) error) error {
	if r.LostErr() != nil { // nobody waits for what cannot commit any more
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.cfg.LeaseTTL)
		defer cancel()
	}
	r.stop()
	r.loops.Wait()
	r.endLife(crustertype.ErrShuttingDown)
	var idle []<-chan struct{}
	for _, t := range r.types {
		idle = append(idle, t.close(crustertype.ErrShuttingDown)...)
	}
	var errs []error
	if stopWorkflows != nil {
		errs = append(errs, stopWorkflows(ctx))
	}
	for _, t := range *r.owned.Load() {
		if len(r.duties) > 0 {
			idle = append(idle, t.ended())
		}
	}
	if err := waitAll(ctx, idle); err != nil {
		errs = append(errs, crustertype.Errorf(crustertype.CodeTimeout, "handlers still run: %w", err))
	}
	r.endHard(crustertype.ErrShuttingDown)
	if err := r.Commit.Drain(ctx); err != nil {
		errs = append(errs, fmt.Errorf("flush commits: %w", err))
	}
	r.waiters.close(stored(crustertype.ErrShuttingDown))
	if !r.cfg.Cluster {
		if err := r.cfg.Store.Unregister(ctx, r.Incarnation()); err != nil && ctx.Err() == nil {
			errs = append(errs, fmt.Errorf("unregister: %w", err))
		}
	}
	r.stopLane()
	r.lane.Wait()
	err := errors.Join(errs...)
	if err == nil {
		r.pool.close()
	} else {
		r.pool.abandon()
	}
	return err
}

// Abort undoes a start that failed.
func (r *Runner) Abort(err error) {
	r.endLife(err)
	r.endHard(err)
	var idle []<-chan struct{}
	for _, t := range r.types {
		idle = append(idle, t.close(err)...)
	}
	for _, t := range *r.owned.Load() {
		idle = append(idle, t.ended())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.hard), r.cfg.LeaseTTL)
	defer cancel()
	if waitAll(ctx, idle) != nil {
		r.cfg.Logger.Warn("handlers or singletons still run after a start that failed")
	}
	r.stop()
	r.loops.Wait()
	r.stopLane()
	r.lane.Wait()
	r.waiters.close(err)
	r.pool.close()
	if inc := r.Incarnation(); inc != 0 && !r.cfg.Cluster {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.hard), r.cfg.LeaseTTL) // it has expired then
		defer cancel()
		if err := r.cfg.Store.Unregister(ctx, inc); err != nil {
			r.cfg.Logger.Warn("the record of a runner that could not start stays until it expires", "incarnation", inc, "error", err)
		}
	}
}

func waitAll(ctx context.Context, chans []<-chan struct{}) error {
	for _, ch := range chans {
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
