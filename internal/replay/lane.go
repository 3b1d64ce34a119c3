package replay

import (
	"errors"
	"slices"
	"sync"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// lane is a run's way to storage. Units become durable in the order in which
// they are submitted, shared with those of other runs.
type lane struct {
	order sync.Mutex // held over a submit, so that numbers follow the committer's order

	mu      sync.Mutex
	sent    int64
	durable int64
	err     error // why nothing becomes durable any more
	waiters []laneWaiter
}

type laneWaiter struct {
	n  int64
	ch chan struct{}
}

// submit queues a unit of the run. after, if any, is called on a goroutine of
// the engine when the unit is durable.
func (r *Run) submit(u storage.Unit, after ...func()) {
	u.Leases = append(u.Leases, r.lease)
	r.lane.order.Lock()
	defer r.lane.order.Unlock()
	send := func() {
		r.lane.mu.Lock()
		r.lane.sent++
		r.lane.mu.Unlock()
		r.e.cfg.Commit.Submit(u, func(res storage.Result, err error) {
			if err == nil {
				if len(u.Accepts) > 0 {
					r.e.cfg.Sent(u.Accepts, res.Accepts)
				}
				r.e.Started(u.Starts, res.Starts)
				r.e.async(after)
				r.absolve()
			} else {
				r.stop(r.laneExit(err))
			}
			r.lane.settle(err)
		})
	}
	if len(u.Accepts) > 0 {
		r.e.cfg.Order(&u, send)
	} else {
		send()
	}
}

// laneExit says how a run ends whose unit was not committed.
func (r *Run) laneExit(err error) *exit {
	var fenced *storage.FencedError
	switch {
	case errors.As(err, &fenced) && !slices.Contains(fenced.Shards, r.lease.Shard) && len(fenced.Shards) > 0:
		// Another shard, for which the unit carried messages, has moved.
		return &exit{kind: exitRetry, free: true, cause: encodeFailure(err)}
	case errors.Is(err, storage.ErrFenced):
		return &exit{kind: exitDropped, err: crustertype.ErrNotOwner}
	case errors.Is(err, crustertype.ErrUnavailable):
		return &exit{kind: exitDropped, err: crustertype.ErrShuttingDown}
	}
	return &exit{kind: exitRetry, cause: encodeFailure(err)}
}

func (l *lane) settle(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable++
	if err != nil && l.err == nil {
		l.err = err
	}
	l.waiters = slices.DeleteFunc(l.waiters, func(w laneWaiter) bool {
		if l.err == nil && w.n > l.durable {
			return false
		}
		close(w.ch)
		return true
	})
}

// flushed waits until everything submitted so far is durable, and reports false
// when that will not happen.
func (r *Run) flushed() bool {
	l := &r.lane
	l.mu.Lock()
	if l.err != nil || l.durable >= l.sent {
		ok := l.err == nil
		l.mu.Unlock()
		return ok
	}
	w := laneWaiter{n: l.sent, ch: make(chan struct{})}
	l.waiters = append(l.waiters, w)
	l.mu.Unlock()
	select {
	case <-w.ch:
	case <-r.e.ctx.Done():
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil
}

// async runs callbacks of user sends on a goroutine of the engine.
func (e *Engine) async(fs []func()) {
	if len(fs) == 0 {
		return
	}
	e.mu.Lock()
	if e.closing != nil && len(e.slots) == 0 {
		e.mu.Unlock()
		return
	}
	e.wg.Add(1)
	e.mu.Unlock()
	go func() {
		defer e.wg.Done()
		for _, f := range fs {
			f()
		}
	}()
}
