package replay

import (
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/journal"
	"github.com/cruster-go/cruster/storage"
)

// check refuses a verb that is not called by the workflow's code itself.
func (r *Run) check(verb string) error {
	switch {
	case !r.mine():
		return crustertype.Errorf(crustertype.CodeInvalid,
			"%s is called from another goroutine than the workflow's own: use Go for parallel steps, and wait for them in the workflow", verb)
	case r.dead:
		return crustertype.ErrSuspended
	case r.inside != "":
		return crustertype.Errorf(crustertype.CodeInvalid,
			"%s is called from inside %s: steps do not nest; return to the workflow first", verb, r.inside)
	}
	return nil
}

// begin starts a blocking operation: it notices a cancel, once, at a point that
// a replay finds again. The error is what the operation returns.
func (r *Run) begin(verb string) error {
	if err := r.check(verb); err != nil {
		return err
	}
	r.mu.Lock()
	stopped := r.exit != nil
	r.mu.Unlock()
	if stopped {
		r.leave()
	}
	if r.detached {
		return nil
	}
	if r.cancelled != nil {
		return r.cancelled
	}
	r.ops++
	return r.notice()
}

// notice returns the cancel that the present operation notices, or nil.
func (r *Run) notice() error {
	if row := r.cursor.Cancelled(r.ops); row != nil {
		r.cursor.Observe(row)
		r.cancelled = crustertype.ErrCancelled
		if row.Outcome.Failure != nil {
			r.cancelled = decodeFailure(row.Outcome.Failure)
		}
		return r.cancelled
	}
	if r.cancelled != nil || !r.cursor.Frontier() {
		return nil
	}
	r.mu.Lock()
	cause := r.cancel
	r.mu.Unlock()
	if cause == nil {
		return nil
	}
	f := encodeFailure(cause)
	name := "cancel"
	if f.Code == crustertype.CodeTimeout {
		name = "timeout"
	}
	row := crustertype.Step{
		Run: r.x.Run, Pos: r.cursor.Take(), Kind: crustertype.StepCancel, Name: name, Digest: journal.CancelDigest(r.ops),
		Seq: r.nextSeq(), Outcome: crustertype.Outcome{Failure: f}, At: now(),
	}
	r.submit(r.progress(storage.Unit{Steps: r.rows(row)}))
	r.cursor.Observe(&row)
	r.cancelled = cause
	return cause
}

// noticeAtEnd is begin for the return of an error from the workflow's code. It
// reports false when the run is to end otherwise.
func (r *Run) noticeAtEnd() bool {
	r.mu.Lock()
	stopped := r.exit != nil
	r.mu.Unlock()
	if stopped {
		return false
	}
	if r.cancelled == nil {
		r.ops++
		_ = r.notice() // it only sets r.cancelled
	}
	return true
}

// block waits on the workflow's goroutine until ready holds, which is called
// under r.mu, or due has come (zero: never). Where nothing happens for long it
// suspends the execution; then, and when the run is to end, it does not return.
// Steps in far waits must be counted by ready if they matter.
func (r *Run) block(ready func() bool, due time.Time, what string) {
	for {
		r.mu.Lock()
		switch {
		case r.exit != nil:
			r.mu.Unlock()
			r.leave()
		case ready() || (!due.IsZero() && reached(due)):
			r.mu.Unlock()
			return
		}
		if wake, ok := r.mayRest(due); ok {
			r.exit = &exit{kind: exitSuspended, wakeAt: wake, what: what}
			r.mu.Unlock()
			r.endLife(crustertype.ErrSuspended)
			r.leave()
		}
		then := r.rested()
		r.mu.Unlock()
		then()
		r.wait(due)
		r.mu.Lock()
		r.active++
		r.mu.Unlock()
	}
}

// mayRest returns when a run wakes that suspends now, and whether it may: no
// step does anything, and nothing is due soon. Under r.mu.
func (r *Run) mayRest(due time.Time) (time.Time, bool) {
	if r.busy > 0 || r.ending {
		return time.Time{}, false
	}
	wake := due
	for _, at := range r.far {
		if wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	if !r.x.Deadline.IsZero() && !r.detached && r.cancel == nil && r.x.Deadline.Before(wake) {
		wake = r.x.Deadline
	}
	return wake, !wake.IsZero() && time.Until(wake) > r.e.cfg.SuspendAfter
}

// wait waits for news, for due, or for the end of the run.
func (r *Run) wait(due time.Time) {
	if due.IsZero() {
		select {
		case <-r.kick:
		case <-r.life.Done():
		}
		return
	}
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-r.kick:
	case <-t.C:
	case <-r.life.Done():
	}
}

// mainEntry is the function at the root of every workflow goroutine.
var mainEntry uintptr

func init() { // a variable's initializer may not refer to what refers to it
	mainEntry = reflect.ValueOf((*Run).main).Pointer()
}

// mine reports whether the calling goroutine runs workflow code. It looks for
// the engine's own function at the root of the stack: about 200 ns at usual
// depths, where asking for the goroutine's number costs ten times as much.
func (r *Run) mine() bool {
	var buf [64]uintptr
	pcs := buf[:]
	n := runtime.Callers(3, pcs)
	for n == len(pcs) {
		pcs = make([]uintptr, 4*len(pcs))
		n = runtime.Callers(3, pcs)
	}
	for _, pc := range slices.Backward(pcs[max(0, n-6):n]) {
		if f := runtime.FuncForPC(pc - 1); f != nil && f.Entry() == mainEntry {
			return true
		}
	}
	return false
}

// module is the path that the functions of package cruster begin with.
const module = "github.com/cruster-go/cruster."

// place returns file:line of the user's code that called a verb.
func place() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, module) && !strings.Contains(f.Function, "cruster/internal/replay.") {
			return filepath.Base(f.File) + ":" + strconv.Itoa(f.Line)
		}
		if !more {
			return ""
		}
	}
}
