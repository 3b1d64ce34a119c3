// Package commit shares transactions between everything a runner writes.
//
// Units queue in a [Committer] with a completion callback. Whenever its lane is
// free it takes all that wait and commits them together: batching without a
// timer. A refused unit is isolated, so that one bad row or one lost shard
// cannot fail its neighbours, and a batch whose outcome is unknown is sent
// again, which the storage contract makes safe.
package commit

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// maxSpare bounds the memory that is kept between batches, in units.
const maxSpare = 1000

// Options tunes a Committer. Zero values are defaults.
type Options struct {
	MaxUnits int           // units in one transaction; default 1000
	MinRetry time.Duration // first pause after a transient error; default 10ms, doubling
	MaxRetry time.Duration // longest pause; default 2s
	Logger   *slog.Logger  // default: discards
	// OnFlush is called on the lane after each transaction, for metrics.
	OnFlush func(units int, took time.Duration)
	// OnFenced is called on the lane with the shards that a commit found lost.
	OnFenced func(shards []crustertype.Shard)
}

// Committer queues units and commits them in order. All methods may be called
// concurrently.
type Committer struct {
	store storage.Writer
	opt   Options

	mu      sync.Mutex
	queue   []entry
	spare   []entry       // the memory of the batch before, for the next queue
	busy    bool          // the lane works on a batch
	closed  error         // set once Run has returned
	idle    chan struct{} // closed when queue is empty and the lane free; nil when nobody waits
	in, out int64         // units that were queued, and that have their answer
	syncs   []barrier     // by the count they wait for
	wake    chan struct{}
	flushes atomic.Int64
	stalled atomic.Int64 // unix nanoseconds since when the store does not answer; 0: it does
}

// barrier is who waits until out has come to a count.
type barrier struct {
	count int64
	done  chan struct{}
}

type entry struct {
	unit storage.Unit
	done func(storage.Result, error)
}

// New returns a Committer over store. Call Run to make it work.
func New(store storage.Writer, o Options) *Committer {
	if o.MaxUnits <= 0 {
		o.MaxUnits = 1000
	}
	if o.MinRetry <= 0 {
		o.MinRetry = 10 * time.Millisecond
	}
	if o.MaxRetry <= 0 {
		o.MaxRetry = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Committer{store: store, opt: o, wake: make(chan struct{}, 1)}
}

// Submit queues a unit. done is called exactly once, on the lane's goroutine
// and in the order of submission for units that succeed; it must not block. The
// unit must not be modified afterwards.
func (c *Committer) Submit(u storage.Unit, done func(storage.Result, error)) {
	c.mu.Lock()
	if err := c.closed; err != nil {
		c.mu.Unlock()
		done(storage.Result{}, err)
		return
	}
	c.queue = append(c.queue, entry{u, done})
	c.in++
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Do commits a unit and waits for it. When ctx ends first, Do returns its cause
// and the unit may still be committed.
func (c *Committer) Do(ctx context.Context, u storage.Unit) (storage.Result, error) {
	type answer struct {
		res storage.Result
		err error
	}
	ch := make(chan answer, 1)
	c.Submit(u, func(res storage.Result, err error) { ch <- answer{res, err} })
	select {
	case a := <-ch:
		return a.res, a.err
	case <-ctx.Done():
		return storage.Result{}, context.Cause(ctx)
	}
}

// Sync waits until every unit that was submitted before has its answer.
func (c *Committer) Sync(ctx context.Context) error {
	c.mu.Lock()
	if c.closed != nil || c.out == c.in {
		c.mu.Unlock()
		return nil
	}
	b := barrier{c.in, make(chan struct{})}
	c.syncs = append(c.syncs, b)
	c.mu.Unlock()
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reachLocked tells those who wait for the answers up to out.
func (c *Committer) reachLocked() {
	for len(c.syncs) > 0 && c.syncs[0].count <= c.out {
		close(c.syncs[0].done)
		c.syncs = c.syncs[1:]
	}
}

// Drain waits until nothing is queued or being written.
func (c *Committer) Drain(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.closed != nil || (len(c.queue) == 0 && !c.busy) {
			c.mu.Unlock()
			return nil
		}
		if c.idle == nil {
			c.idle = make(chan struct{})
		}
		idle := c.idle
		c.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Flushes returns how many transactions the lane has committed.
func (c *Committer) Flushes() int64 { return c.flushes.Load() }

// StalledSince returns since when the store has not answered, or the zero time.
func (c *Committer) StalledSince() time.Time {
	if n := c.stalled.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Run is the lane. It returns when ctx ends; what is queued then, or comes
// later, fails with an error that wraps ErrUnavailable.
func (c *Committer) Run(ctx context.Context) error {
	defer c.close(ctx)
	for {
		batch := c.take()
		if len(batch) == 0 {
			select {
			case <-c.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		c.flush(ctx, batch)
		if len(batch) > 1 {
			// Who was told just now may have more to write, which then need not
			// wait for the transaction after the next.
			runtime.Gosched()
		}
		clear(batch)
		c.mu.Lock()
		c.busy = false
		c.out += int64(len(batch))
		if c.spare == nil && len(batch) <= maxSpare {
			c.spare = batch[:0]
		}
		c.reachLocked()
		if len(c.queue) == 0 && c.idle != nil {
			close(c.idle)
			c.idle = nil
		}
		c.mu.Unlock()
	}
}

func (c *Committer) take() []entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.queue), c.opt.MaxUnits)
	if n == 0 {
		return nil
	}
	batch := c.queue[:n:n]
	if n == len(c.queue) {
		c.queue, c.spare = c.spare, nil
	} else {
		c.queue = c.queue[n:]
	}
	c.busy = true
	return batch
}

// flush commits batch, splitting it as refusals demand, and completes every
// entry.
func (c *Committer) flush(ctx context.Context, batch []entry) {
	units := make([]storage.Unit, len(batch))
	for i := range batch {
		units[i] = batch[i].unit
	}
	results, err := c.commit(ctx, units)
	if err == nil {
		for i, e := range batch {
			e.done(results[i], nil)
		}
		return
	}
	var fenced *storage.FencedError
	var bad *storage.UnitError
	switch {
	case errors.As(err, &fenced):
		if c.opt.OnFenced != nil {
			c.opt.OnFenced(fenced.Shards)
		}
		lost := make(map[crustertype.Shard]bool, len(fenced.Shards))
		for _, s := range fenced.Shards {
			lost[s] = true
		}
		rest := batch[:0:0]
		for _, e := range batch {
			if relies(e.unit, lost) {
				e.done(storage.Result{}, err)
			} else {
				rest = append(rest, e)
			}
		}
		if len(rest) == len(batch) { // the store named no shard of ours
			c.fail(batch, err)
		} else if len(rest) > 0 {
			c.flush(ctx, rest)
		}
	case len(batch) == 1 || ctx.Err() != nil:
		c.fail(batch, err)
	case errors.As(err, &bad) && bad.Index >= 0 && bad.Index < len(batch):
		if bad.Index > 0 {
			c.flush(ctx, batch[:bad.Index])
		}
		batch[bad.Index].done(storage.Result{}, err)
		if bad.Index+1 < len(batch) {
			c.flush(ctx, batch[bad.Index+1:])
		}
	default:
		c.flush(ctx, batch[:len(batch)/2])
		c.flush(ctx, batch[len(batch)/2:])
	}
}

func relies(u storage.Unit, lost map[crustertype.Shard]bool) bool {
	for _, l := range u.Leases {
		if lost[l.Shard] {
			return true
		}
	}
	return false
}

// commit sends units until the store gives a definite answer or ctx ends.
func (c *Committer) commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(c.opt.MinRetry), backoff.WithMaxInterval(c.opt.MaxRetry),
		backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
	for try := 1; ; try++ {
		begin := time.Now()
		results, err := c.store.Commit(ctx, units)
		if err == nil {
			c.stalled.Store(0)
			c.flushes.Add(1)
			if c.opt.OnFlush != nil {
				c.opt.OnFlush(len(units), time.Since(begin))
			}
			return results, nil
		}
		if ctx.Err() != nil {
			return nil, maybe(context.Cause(ctx))
		}
		if !storage.IsTransient(err) {
			c.stalled.Store(0)
			return nil, err
		}
		c.stalled.CompareAndSwap(0, begin.UnixNano())
		pause := retry.NextBackOff()
		c.opt.Logger.WarnContext(ctx, "storage does not commit, trying again", "attempt", try, "units", len(units), "pause", pause, "error", err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, maybe(context.Cause(ctx))
		}
	}
}

func (c *Committer) fail(batch []entry, err error) {
	for _, e := range batch {
		e.done(storage.Result{}, err)
	}
}

func (c *Committer) close(ctx context.Context) {
	err := unavailable(context.Cause(ctx))
	c.mu.Lock()
	c.closed = err
	rest := c.queue
	c.queue, c.busy = nil, false
	c.out = c.in
	c.reachLocked()
	if c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
	c.mu.Unlock()
	c.fail(rest, err)
}

// maybe is the error of units that were sent and may have been applied.
func maybe(cause error) error {
	err := unavailable(cause)
	err.Executed = true
	return err
}

func unavailable(cause error) *crustertype.Error {
	return crustertype.Errorf(crustertype.CodeUnavailable, "nothing is committed any more: %w", cause)
}
