package runner

import (
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
	m      map[crustertype.RequestID][]chan reply
}

// add registers a waiter. The channel gets one reply, unless remove comes first.
func (w *waiters) add(id crustertype.RequestID) chan reply {
	ch := make(chan reply, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed != nil {
		ch <- reply{err: w.closed}
		return ch
	}
	if w.m == nil {
		w.m = make(map[crustertype.RequestID][]chan reply)
	}
	w.m[id] = append(w.m[id], ch)
	return ch
}

func (w *waiters) remove(id crustertype.RequestID, ch chan reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.m[id]
	for i, c := range list {
		if c == ch {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(w.m, id)
	} else {
		w.m[id] = list
	}
}

// resolve answers everybody who waits for id.
func (w *waiters) resolve(id crustertype.RequestID, r reply) {
	w.mu.Lock()
	list := w.m[id]
	delete(w.m, id)
	w.mu.Unlock()
	for _, ch := range list {
		select {
		case ch <- r:
		default: // it has its answer: its own body was refused
		}
	}
}

// close answers everybody, now and later, with err.
func (w *waiters) close(err error) {
	w.mu.Lock()
	w.closed = err
	all := w.m
	w.m = nil
	w.mu.Unlock()
	for _, list := range all {
		for _, ch := range list {
			select {
			case ch <- reply{err: err}:
			default:
			}
		}
	}
}
