package replay

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/journal"
)

// Run is one life of an execution in memory. Its exported methods are the verbs
// of workflow code, for the goroutine that runs it.
type Run struct {
	e     *Engine
	slot  *slot
	def   *Definition
	x     crustertype.Execution
	meta  crustertype.Meta // that the start came with
	lease crustertype.Lease

	// Of the workflow's goroutine.
	cursor    *journal.Cursor
	ops       int   // blocking operations begun
	ids       int   // IDs made
	cancelled error // the cancel that the code has noticed
	detached  bool  // compensation runs: cancels are not looked at
	undo      []func(*Run) error
	refused   int    // operations refused for the history's length
	inside    string // the step whose function runs on this goroutine now, or ""
	dead      bool   // the run has left memory, or its code has ended

	life    context.Context // ends when the run leaves memory
	endLife context.CancelCauseFunc
	alarm   *time.Timer    // the execution's deadline
	kick    chan struct{}  // tells the workflow's goroutine to look again
	turn    chan struct{}  // held while a step completes: visible order is Seq order
	steps   sync.WaitGroup // goroutines of steps
	lane    lane

	mu      sync.Mutex
	exit    *exit
	work    context.Context // of attempts; ends at a cancel
	endWork context.CancelCauseFunc
	cancel  error // the cancel that was requested
	ending  bool  // the code has ended: steps that still run are to end too
	seq     int64 // last sequence number given
	busy    int   // steps on goroutines of their own that do something
	far     map[*step]time.Time
	stored  int    // runs without progress, as stored; 0 after a step is done
	moved   bool   // a step was done in this life
	marked  bool   // stored counts this run
	active  int    // goroutines of the code and of steps that do not wait
	trial   *trial // a suspect's time alone; nil when it is over
	suspect bool   // fixed once the run has begun

	marks sync.Mutex // held while a mark is set or taken back
	takes sync.Mutex // held while the run waits for its time alone
}

func newRun(s *slot, x *crustertype.Execution, lease crustertype.Lease, cursor *journal.Cursor) *Run {
	r := &Run{
		e: s.e, slot: s, def: s.e.defs[s.ref.Type], x: *x, lease: lease, cursor: cursor, seq: cursor.MaxSeq(),
		active: 1, kick: make(chan struct{}, 1), turn: make(chan struct{}, 1), far: make(map[*step]time.Time),
	}
	meta, err := crustertype.DecodeMeta(x.Meta)
	if err != nil {
		s.e.cfg.Logger.Warn("execution has unreadable metadata, it is run without", "execution", x.String(), "error", err)
	}
	r.meta = meta
	r.life, r.endLife = context.WithCancelCause(s.e.ctx)
	r.work, r.endWork = context.WithCancelCause(s.e.ctx)
	if err := cancelCause(x); err != nil {
		r.requestCancel(err)
	} else if !x.Deadline.IsZero() {
		r.alarm = time.AfterFunc(time.Until(x.Deadline), func() { r.requestCancel(timedOut(x.Deadline)) })
	}
	return r
}

// release frees what a run holds beside its goroutines.
func (r *Run) release() {
	if r.alarm != nil {
		r.alarm.Stop()
	}
	r.endLife(crustertype.ErrSuspended)
	r.mu.Lock()
	r.endWork(crustertype.ErrSuspended)
	r.mu.Unlock()
}

// main runs the workflow's code. It may end its goroutine by Goexit, from
// within the code; everything that must happen then is deferred.
//
//go:noinline
func (r *Run) main() {
	defer r.finish()
	ended := false
	defer func() {
		switch p := recover(); {
		case ended:
		case p != nil:
			r.stop(&exit{kind: exitRetry, cause: panicFailure(p)})
		default: // Goexit: ours, unless nobody asked for it
			r.stop(&exit{kind: exitRetry, cause: &crustertype.Failure{Code: crustertype.CodePanic, Message: "workflow code ended its goroutine with runtime.Goexit"}})
		}
	}()
	c, err := r.e.cfg.Lookup(r.x.Codec)
	if err != nil {
		r.stop(&exit{kind: exitDead, cause: encodeFailure(err)})
		ended = true
		return
	}
	result, err := r.def.Execute(r, c, r.x.Input)
	r.x.Input = nil
	r.conclude(result, err)
	ended = true
}

func panicFailure(p any) *crustertype.Failure {
	return &crustertype.Failure{Code: crustertype.CodePanic, Message: fmt.Sprintf("panic: %v\n%s", p, debug.Stack())}
}

// conclude turns what the workflow's code returned into the execution's
// outcome, after the compensations that it calls for.
func (r *Run) conclude(result []byte, err error) {
	if errors.Is(err, ErrBadInput) {
		r.stop(&exit{kind: exitDead, cause: encodeFailure(err)})
		return
	}
	if err == nil && len(result) > r.e.cfg.MaxPayload {
		err = crustertype.Errorf(crustertype.CodeTooLarge, "the result of workflow %s has %d bytes: at most %d are allowed", r.x.Type, len(result), r.e.cfg.MaxPayload)
	}
	if err != nil && !r.noticeAtEnd() {
		return
	}
	if !r.settle() {
		return
	}
	if err == nil {
		if m := r.cursor.Finish(); m != nil {
			r.park(m)
			return
		}
		r.stop(&exit{kind: exitEnded, status: crustertype.StatusCompleted, outcome: crustertype.Outcome{Codec: r.e.cfg.Codec.Name(), Payload: result}})
		return
	}
	status, f := crustertype.StatusFailed, r.e.cfg.Encode(err)
	switch crustertype.CodeOf(r.cancelled) {
	case crustertype.CodeCancelled:
		status = crustertype.StatusCancelled
	case crustertype.CodeTimeout:
		f = &crustertype.Failure{Code: crustertype.CodeTimeout, Message: f.Message}
	}
	if msg := r.compensate(); msg != "" {
		f = &crustertype.Failure{Code: f.Code, Name: f.Name, Message: f.Message + msg, Permanent: f.Permanent}
	}
	if m := r.cursor.Finish(); m != nil {
		r.park(m)
		return
	}
	r.stop(&exit{kind: exitEnded, status: status, outcome: crustertype.Outcome{Failure: f}})
}

// compensate runs what OnFailure registered, the last first, and returns their
// errors as an addition to the outcome's text.
func (r *Run) compensate() string {
	r.mu.Lock()
	r.detached, r.ending, r.cancel = true, false, nil
	r.work, r.endWork = context.WithCancelCause(r.e.ctx)
	r.mu.Unlock()
	r.cursor.Extend()
	msg := ""
	for len(r.undo) > 0 {
		last := len(r.undo) - 1
		f := r.undo[last]
		r.undo = r.undo[:last]
		if err := f(r); err != nil {
			msg += "; compensation: " + err.Error()
		}
	}
	r.block(func() bool { return r.busy == 0 && len(r.far) == 0 }, time.Time{}, "compensation")
	return msg
}

// settle ends the steps that the code left running and waits for them. It
// reports false when the run is to end otherwise.
func (r *Run) settle() bool {
	r.mu.Lock()
	idle := r.busy == 0 && len(r.far) == 0
	r.ending = true
	end := r.endWork
	r.mu.Unlock()
	if !idle {
		end(crustertype.Errorf(crustertype.CodeCancelled, "the workflow has ended"))
		r.block(func() bool { return r.busy == 0 && len(r.far) == 0 }, time.Time{}, "steps to end")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exit == nil
}

// stop makes the run end. The first reason wins, except that a loss of
// ownership overrides whatever would write.
func (r *Run) stop(x *exit) {
	r.mu.Lock()
	if r.exit == nil || (x.kind == exitDropped && r.exit.kind != exitDropped) {
		r.exit = x
	}
	r.mu.Unlock()
	if x.kind != exitEnded {
		cause := x.err
		if cause == nil {
			cause = crustertype.ErrSuspended
		}
		r.endLife(cause)
	}
	r.kickIt()
}

// kickIt makes the workflow's goroutine look at the run's state.
func (r *Run) kickIt() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// requestCancel cancels the contexts of what runs and lets the code notice.
func (r *Run) requestCancel(cause error) {
	r.mu.Lock()
	if r.cancel != nil || r.detached || r.ending {
		r.mu.Unlock()
		return
	}
	r.cancel = cause
	end := r.endWork
	r.mu.Unlock()
	end(cause)
	r.kickIt()
}

// leave ends the workflow's goroutine: its defers run, and their operations do
// nothing.
func (r *Run) leave() {
	r.dead = true
	runtime.Goexit()
}

// park ends the run: its code differs from its journal.
func (r *Run) park(err error) {
	r.stop(&exit{kind: exitParked, cause: encodeFailure(err)})
}
