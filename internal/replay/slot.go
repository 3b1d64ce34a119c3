package replay

import (
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// slot is the place of one execution in memory. There is at most one per
// execution, ever, and one goroutine at a time that works for it.
type slot struct {
	e     *Engine
	ref   crustertype.ExecutionRef
	shard crustertype.Shard

	halt  chan struct{}        // closed when stopped is set
	cause *crustertype.Failure // why the last run could not write; of the slot's goroutine
	// forgive: the last run was counted, and ended for no fault of its own; of
	// the slot's goroutine.
	forgive bool

	// Guarded by e.mu.
	run       *Run          // nil while loading, or between two runs
	stopped   *exit         // set when the slot must end
	wake      bool          // something happened that the present run may not have seen
	contested bool          // somebody else ends the execution too: only storage knows who won
	lent      int           // steps that wait for other executions; then it holds no place
	gone      chan struct{} // closed when the slot is free; nil while nobody waits
}

// exitKind says how a run leaves memory.
type exitKind uint8

const (
	exitEnded     exitKind = iota + 1 // with an outcome
	exitSuspended                     // sleeps in storage
	exitParked                        // waits for a person: code differs from the journal
	exitDead                          // waits for a person: given up
	exitRetry                         // begins again after a pause
	exitDrained                       // the service stops, or gives the shard away: what is done is written
	exitDropped                       // ownership was lost, or somebody else ended the execution: nothing is written
)

// exit is why and how a run ends.
type exit struct {
	kind    exitKind
	status  crustertype.Status   // ended, parked, dead
	outcome crustertype.Outcome  // ended; parked and dead: why
	wakeAt  time.Time            // suspended
	what    string               // suspended: what it waits for
	err     error                // what waiters get: drained, dropped
	cause   *crustertype.Failure // retry
	free    bool                 // retry: not counted
}

// activate brings an execution into memory, or tells the one that is there that
// something happened. fresh is the execution if it was stored just now; else it
// is loaded. It reports false when there is no room: then it stays in storage
// and is fed in later, unless force asks for it whatever the room.
func (e *Engine) activate(ref crustertype.ExecutionRef, shard crustertype.Shard, fresh *crustertype.Execution, force bool) bool {
	e.mu.Lock()
	if e.ctx == nil || e.closing != nil {
		e.mu.Unlock()
		return true
	}
	if e.ending[ref] > 0 {
		e.mu.Unlock()
		return true // looked at again when that is over
	}
	if e.closed[shard] {
		e.mu.Unlock()
		return true // its next owner finds it
	}
	if s := e.slots[ref]; s != nil {
		s.wake = true
		run := s.run
		e.mu.Unlock()
		if run != nil {
			run.kickIt()
		}
		return true
	}
	if !force && len(e.slots)-e.waiting >= e.cfg.MaxResident {
		e.backlog = true
		e.mu.Unlock()
		return false
	}
	s := &slot{e: e, ref: ref, shard: shard, halt: make(chan struct{})}
	e.slots[ref] = s
	e.wg.Add(1)
	e.mu.Unlock()
	go s.host(fresh, 0)
	return true
}

// host loads and runs the execution on this goroutine, which may end by Goexit.
func (s *slot) host(fresh *crustertype.Execution, pause time.Duration) {
	defer s.e.wg.Done()
	r := s.load(fresh, pause)
	if r == nil {
		return
	}
	r.main()
}

// stop makes the slot end. The first reason wins, except that a slot which was
// drained can still be dropped: its shard is gone, and may come back.
func (s *slot) stop(x *exit) {
	s.e.mu.Lock()
	switch {
	case s.stopped == nil:
		s.stopped = x
		close(s.halt)
	case s.stopped.kind == exitDrained && x.kind == exitDropped:
		s.stopped = x
	}
	run := s.run
	s.e.mu.Unlock()
	if run != nil {
		run.stop(x)
	}
}

// enter makes r the slot's run. It reports false when the slot must end, or
// something happened since the execution was read.
func (s *slot) enter(r *Run) bool {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.stopped != nil || s.wake {
		return false
	}
	s.run = r
	return true
}

// woken reports whether something happened since the execution was read.
func (s *slot) woken() bool {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.wake
}

// leave ends the present run and gives those who wait for the execution the
// answer, unless it is nil. The slot becomes free, or, when something happened
// in the meantime or again is positive, loads the execution anew. All of this
// is one step: a waiter either gets the answer or reads what is stored by now.
func (s *slot) leave(again time.Duration, a *answer) {
	if a == nil {
		s.e.mu.Lock()
		defer s.e.mu.Unlock()
		s.free(again)
		return
	}
	s.e.mu.Lock()
	contested := s.contested
	s.e.mu.Unlock()
	if contested {
		s.leave(again, nil)
		return
	}
	give := s.e.lockAndTake(s.ref, func() { s.free(again) })
	give(*a)
}

// free is leave under e.mu.
func (s *slot) free(again time.Duration) {
	e := s.e
	s.run = nil
	if again > 0 && s.stopped == nil || s.wake && (s.stopped == nil || s.stopped.kind == exitDropped) {
		again = max(0, again)
	} else {
		again = -1
	}
	if again >= 0 && e.closing == nil && e.ending[s.ref] == 0 {
		// A slot that was dropped is asked for again: the shard has come back, or
		// the execution was retried.
		if s.stopped != nil {
			s.stopped, s.halt, again = nil, make(chan struct{}), 0
		}
		s.wake, s.contested = false, false
		e.wg.Add(1)
		go s.host(nil, again)
		return
	}
	delete(e.slots, s.ref)
	if s.gone != nil {
		close(s.gone)
	}
	if len(e.slots) == 0 && e.idle != nil {
		close(e.idle)
		e.idle = nil
	}
	if e.backlog {
		e.nudgeFeeder()
	}
}

// left returns a channel that is closed when the slot has become free.
func (s *slot) left() <-chan struct{} {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.slots[s.ref] != s {
		done := make(chan struct{})
		close(done)
		return done
	}
	if s.gone == nil {
		s.gone = make(chan struct{})
	}
	return s.gone
}

// lend gives the slot's place to others while steps of its run wait for other
// executions, which else might never find one.
func (s *slot) lend(n int) {
	e := s.e
	e.mu.Lock()
	before := s.lent
	s.lent += n
	switch {
	case before == 0 && s.lent > 0:
		e.waiting++
	case before > 0 && s.lent == 0:
		e.waiting--
	}
	feed := n > 0 && e.backlog
	e.mu.Unlock()
	if feed {
		e.nudgeFeeder()
	}
}
