package replay

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/commit"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/journal"
	"github.com/cruster-go/cruster/scheduler"
	"github.com/cruster-go/cruster/storage"
)

// Config is what an Engine is made of. Fields are required unless they say
// otherwise.
type Config struct {
	Store  storage.Store
	Commit *commit.Committer
	Codec  codec.Codec // for what is written
	// Lookup finds the codec that stored data names. Default: Codec alone.
	Lookup func(name string) (codec.Codec, error)
	Logger *slog.Logger // default: discards

	// Lease returns the runner's current lease of a shard, and ShardOf the shard
	// of an ID in a shard group.
	Lease   func(crustertype.Shard) (crustertype.Lease, bool)
	ShardOf func(group, id string) crustertype.Shard

	// Encode turns an error of user code into what is stored, Decode turns it
	// back. Defaults keep code and text.
	Encode func(error) *crustertype.Failure
	Decode func(*crustertype.Failure) error

	// WakeAt asks for a call of Wake when at has come. The suspended execution
	// is in storage by then; calling early or twice does no harm.
	WakeAt func(ref crustertype.ExecutionRef, shard crustertype.Shard, at time.Time)
	// Nudge tells the owner of a shard that something was stored for an
	// execution of it. Optional.
	Nudge func(crustertype.Shard, crustertype.ExecutionRef)
	// Join waits for an execution that another runner owns. Default: Wait.
	Join func(context.Context, crustertype.Shard, crustertype.ExecutionRef) (crustertype.Outcome, error)
	// Fenced is told of shards that a commit found lost. Optional.
	Fenced func([]crustertype.Shard)
	// Probe follows activities; nil: nobody does.
	Probe *invoke.Probe
	// Poll is how often storage is searched for executions that nobody announced;
	// 0: never.
	Poll time.Duration

	// Order calls submit after it has given the messages that u sends their
	// place, where their shards are owned. Optional.
	Order func(u *storage.Unit, submit func())
	// Sent is told about messages that were committed with a step. Optional.
	Sent func([]crustertype.Message, []storage.AcceptResult)
	// Sending is told about messages that are about to be committed in a step's
	// own transaction; what it returns, about the answer to the commit. Default:
	// Sent, when they are.
	Sending func([]crustertype.Message) func([]storage.AcceptResult, error)

	// Redelivery is the pause before the engine repeats what panicked or met an
	// infrastructure error. Default 100ms doubling to 60s.
	Redelivery scheduler.Policy

	MaxPayload    int           // bytes of an input or a result; default 4 MiB
	MaxArgs       int           // bytes of arguments kept for reports; default 4 KiB
	MaxDeliveries int           // default 10
	SuspendAfter  time.Duration // longer waits free the goroutine; default 60s
	MaxSteps      int           // default 10000
	MaxResident   int           // runs in memory at a time; default 10000
	Loaders       int           // runs loaded at the same time; default 16
}

func (c *Config) setDefaults() {
	positive := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	positive(&c.MaxPayload, 4<<20)
	positive(&c.MaxArgs, 4<<10)
	positive(&c.MaxDeliveries, 10)
	positive(&c.MaxSteps, journal.DefaultLimit)
	positive(&c.MaxResident, 10_000)
	positive(&c.Loaders, 16)
	if c.SuspendAfter <= 0 {
		c.SuspendAfter = time.Minute
	}
	if c.Redelivery == (scheduler.Policy{}) {
		c.Redelivery = scheduler.Policy{Initial: 100 * time.Millisecond, Max: time.Minute, Jitter: 0.2}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Encode == nil {
		c.Encode = encodeFailure
	}
	if c.Decode == nil {
		c.Decode = decodeFailure
	}
	if c.Lookup == nil {
		own := c.Codec
		c.Lookup = func(name string) (codec.Codec, error) {
			if name != own.Name() {
				return nil, crustertype.Errorf(crustertype.CodeEncoding, "codec %q is unknown: add it to the registry", name)
			}
			return own, nil
		}
	}
	if c.WakeAt == nil {
		c.WakeAt = func(crustertype.ExecutionRef, crustertype.Shard, time.Time) {}
	}
	if c.Nudge == nil {
		c.Nudge = func(crustertype.Shard, crustertype.ExecutionRef) {}
	}
	if c.Order == nil {
		c.Order = func(_ *storage.Unit, submit func()) { submit() }
	}
	if c.Fenced == nil {
		c.Fenced = func([]crustertype.Shard) {}
	}
	if c.Sent == nil {
		c.Sent = func([]crustertype.Message, []storage.AcceptResult) {}
	}
	if c.Sending == nil {
		tell := c.Sent
		c.Sending = func(msgs []crustertype.Message) func([]storage.AcceptResult, error) {
			return func(res []storage.AcceptResult, err error) {
				if err == nil {
					tell(msgs, res)
				}
			}
		}
	}
}

// Engine runs the executions of one runner. Its methods may be called
// concurrently.
type Engine struct {
	cfg  Config
	defs map[string]*Definition // fixed before Run

	loaders chan struct{} // a slot per run that is being loaded
	poke    chan struct{} // wakes the feeder

	begun chan struct{} // closed when Run has begun

	suspects suspects // has a lock of its own

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	closing error           // why no run begins any more; nil: they do
	slots   map[crustertype.ExecutionRef]*slot
	shards  map[crustertype.Shard]bool // those of Recover
	closed  map[crustertype.Shard]bool // those of Drop and Release, until Recover: no run begins there
	waiting int                        // resident runs that wait for another execution, and so hold no place
	backlog bool                       // storage has runs that are not resident
	waiters map[crustertype.ExecutionRef][]chan answer
	ending  map[crustertype.ExecutionRef]int // being terminated
	unknown map[string]bool                  // workflows met in storage that are not registered
	wg      sync.WaitGroup                   // every goroutine; added to under mu, and not once closing is set
	idle    chan struct{}                    // closed when no slot is left; nil while nobody waits
}

// New returns an Engine. Register definitions, then call Run.
func New(cfg Config) *Engine {
	cfg.setDefaults()
	return &Engine{
		cfg: cfg, defs: make(map[string]*Definition), slots: make(map[crustertype.ExecutionRef]*slot),
		waiters: make(map[crustertype.ExecutionRef][]chan answer), ending: make(map[crustertype.ExecutionRef]int), unknown: make(map[string]bool), shards: make(map[crustertype.Shard]bool),
		closed:  make(map[crustertype.Shard]bool),
		loaders: make(chan struct{}, cfg.Loaders), poke: make(chan struct{}, 1), begun: make(chan struct{}),
	}
}

// Register adds a workflow. It must not be called after Run.
func (e *Engine) Register(d *Definition) error {
	if err := crustertype.CheckName("workflow", d.Name); err != nil {
		return crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.defs[d.Name] != nil {
		return crustertype.Errorf(crustertype.CodeInvalid, "workflow %q is registered twice: give one of them another name", d.Name)
	}
	if d.Group == "" {
		d.Group = crustertype.DefaultShardGroup
	}
	e.defs[d.Name] = d
	return nil
}

// Definition returns a registered workflow, or nil.
func (e *Engine) Definition(name string) *Definition {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.defs[name]
}

// Begun is closed when Run has begun, and executions can be started.
func (e *Engine) Begun() <-chan struct{} { return e.begun }

// Run works until ctx ends, and returns when every goroutine of the engine is
// gone, those of activities included. The committer must outlive it.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.ctx != nil {
		e.mu.Unlock()
		return crustertype.Errorf(crustertype.CodeInvalid, "the workflow engine runs already")
	}
	e.ctx = ctx
	close(e.begun)
	e.mu.Unlock()
	defer e.wg.Wait()
	defer e.shut()
	var poll <-chan time.Time
	if e.cfg.Poll > 0 {
		t := time.NewTicker(e.cfg.Poll)
		defer t.Stop()
		poll = t.C
	}
	for {
		select {
		case <-e.poke:
			e.feed(ctx)
		case <-poll:
			e.search(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// Drain ends all runs at their next blocking operation, cancels the contexts of
// their activities, and waits until they are gone and what they wrote is
// durable. Unfinished executions stay in storage as they are. New work is
// refused from now on. When ctx ends first, Drain returns its cause.
func (e *Engine) Drain(ctx context.Context) error {
	e.shut()
	e.mu.Lock()
	if len(e.slots) == 0 {
		e.mu.Unlock()
		return nil
	}
	if e.idle == nil {
		e.idle = make(chan struct{})
	}
	idle := e.idle
	e.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// shut refuses new runs, ends those that are there and answers all waiters.
func (e *Engine) shut() {
	err := error(crustertype.ErrShuttingDown)
	e.mu.Lock()
	if e.closing == nil {
		e.closing = err
	}
	slots := make([]*slot, 0, len(e.slots))
	for _, s := range e.slots {
		slots = append(slots, s)
	}
	waiters := e.waiters
	e.waiters = make(map[crustertype.ExecutionRef][]chan answer)
	e.mu.Unlock()
	for _, s := range slots {
		s.stop(&exit{kind: exitDrained, err: err})
	}
	for _, list := range waiters {
		for _, ch := range list {
			ch <- answer{err: err}
		}
	}
}

// ready reports why the engine cannot work, or nil and its context.
func (e *Engine) ready() (context.Context, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.ctx == nil:
		return nil, crustertype.ErrNotStarted
	case e.closing != nil:
		return nil, e.closing
	}
	return e.ctx, nil
}

// owned returns the lease of an execution's shard.
func (e *Engine) owned(ref crustertype.ExecutionRef) (crustertype.Shard, crustertype.Lease, bool) {
	shard := e.shardOf(ref)
	lease, ok := e.cfg.Lease(shard)
	return shard, lease, ok
}

func (e *Engine) shardOf(ref crustertype.ExecutionRef) crustertype.Shard {
	group := crustertype.DefaultShardGroup
	if d := e.defs[ref.Type]; d != nil {
		group = d.Group
	}
	return e.cfg.ShardOf(group, ref.ID)
}

func encodeFailure(err error) *crustertype.Failure {
	f := &crustertype.Failure{Code: crustertype.CodeUser, Message: err.Error()}
	var e *crustertype.Error
	switch {
	case errors.As(err, &e):
		f.Code, f.Name, f.Permanent = e.Code, e.Name, e.Permanent
	case errors.Is(err, context.DeadlineExceeded):
		f.Code = crustertype.CodeTimeout
	case errors.Is(err, context.Canceled):
		f.Code = crustertype.CodeCancelled
	}
	return f
}

func decodeFailure(f *crustertype.Failure) error {
	return &crustertype.Error{Code: f.Code, Name: f.Name, Message: f.Message, Permanent: f.Permanent, Executed: true}
}

// now is the time that rows carry: what every database keeps unchanged, so that
// a replay reads the same.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// after is the time d from now, rounded so that a timer is never early.
func after(d time.Duration) time.Time { return ceil(time.Now().Add(d)) }

func ceil(t time.Time) time.Time {
	c := t.UTC().Truncate(time.Microsecond)
	if c.Before(t) {
		c = c.Add(time.Microsecond)
	}
	return c
}

// reached reports whether t has come.
func reached(t time.Time) bool { return !time.Now().Before(t) }
