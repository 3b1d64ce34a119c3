package runner

import (
	"slices"
	"sync"

	"github.com/cruster-go/cruster/crustertype"
)

// reply is what a waiter gets: an outcome, or the reason why there is none yet.
type reply struct {
	outcome crustertype.Outcome
	err     error
}

// waiters hands the outcome of a persisted request to all who wait for it.
type waiters struct {
	mu     sync.Mutex
	closed error
	m      map[crustertype.RequestID]*waiting
}

// waiting are those who wait for one request.
type waiting struct {
	shard crustertype.Shard
	list  []waiter
}

// waiter is one of them. body, unless it is nil, is the digest of what it has
// sent under the request's key.
type waiter struct {
	ch   chan reply
	body *[16]byte
}

// add registers a waiter for a request of that shard. The channel gets one
// reply, unless remove comes first. body is the digest of what the waiter sent;
// nil: it waits for whatever the request is.
func (w *waiters) add(id crustertype.RequestID, shard crustertype.Shard, body *[16]byte) chan reply {
	ch := make(chan reply, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed != nil {
		ch <- reply{err: w.closed}
		return ch
	}
	if w.m == nil {
		w.m = make(map[crustertype.RequestID]*waiting)
	}
	e := w.m[id]
	if e == nil {
		e = &waiting{shard: shard}
		w.m[id] = e
	}
	e.list = append(e.list, waiter{ch, body})
	return ch
}

func (w *waiters) remove(id crustertype.RequestID, ch chan reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.m[id]
	if e == nil {
		return
	}
	if i := slices.IndexFunc(e.list, func(x waiter) bool { return x.ch == ch }); i >= 0 {
		e.list = slices.Delete(e.list, i, i+1)
	}
	if len(e.list) == 0 {
		delete(w.m, id)
	}
}

// place tells of which shard a request is.
func (w *waiters) place(id crustertype.RequestID, shard crustertype.Shard) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.m[id]; e != nil {
		e.shard = shard
	}
}

// drop answers everybody who waits for a request of shards that are gone.
func (w *waiters) drop(gone map[crustertype.Shard]bool, r reply) {
	if len(gone) == 0 {
		return
	}
	w.mu.Lock()
	var all []waiter
	for id, e := range w.m {
		if gone[e.shard] {
			all = append(all, e.list...)
			delete(w.m, id)
		}
	}
	w.mu.Unlock()
	answer(all, r)
}

func answer(list []waiter, r reply) {
	for _, x := range list {
		select {
		case x.ch <- r:
		default: // it has its answer: its own body was refused
		}
	}
}

// resolve answers everybody who waits for a request. Whoever has sent another
// body under its key does not get the outcome of this one.
func (w *waiters) resolve(m *crustertype.Message, r reply) {
	w.mu.Lock()
	e := w.m[m.ID]
	delete(w.m, m.ID)
	w.mu.Unlock()
	if e == nil {
		return
	}
	for i, x := range e.list {
		mine := r
		if x.body != nil && *x.body != m.Digest {
			mine = reply{err: KeyConflict(m.Address, m.Method, m.Key)}
		}
		answer(e.list[i:i+1], mine)
	}
}

// close answers everybody, now and later, with err.
func (w *waiters) close(err error) {
	w.mu.Lock()
	w.closed = err
	all := w.m
	w.m = nil
	w.mu.Unlock()
	for _, e := range all {
		answer(e.list, reply{err: err})
	}
}
