package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/journal"
	"github.com/cruster-go/cruster/storage"
)

// load makes the run of the slot's execution, after a pause. When there is
// nothing to run now it frees the slot and returns nil.
func (s *slot) load(fresh *crustertype.Execution, pause time.Duration) *Run {
	if s.e.defs[s.ref.Type] == nil {
		// Another version of the program may know it.
		s.e.warnUnknown(s.ref.Type)
		s.leave(0, nil)
		return nil
	}
	if fresh != nil {
		cursor, err := journal.New(nil, fresh.CreatedAt, s.e.cfg.MaxSteps)
		if r := s.begin(fresh, cursor, 0, nil); err == nil && r != nil {
			return r
		}
		s.leave(0, nil)
		return nil
	}
	if !s.pause(pause) {
		s.leave(0, nil)
		return nil
	}
	r, a, err := s.recover()
	switch {
	case r != nil:
		return r
	case err == nil:
		s.leave(0, a)
	case errors.Is(err, storage.ErrNotFound):
		s.leave(0, &answer{err: notFound(s.ref)})
	case errors.Is(err, storage.ErrFenced), s.e.ctx.Err() != nil:
		s.leave(0, &answer{err: crustertype.ErrNotOwner})
	default:
		again := max(s.e.cfg.Redelivery.Delay(5, rand.Float64), time.Millisecond)
		s.e.cfg.Logger.Warn("execution cannot be loaded, trying again", "execution", s.ref.String(), "pause", again, "error", err)
		s.leave(again, nil)
	}
	return nil
}

// pause waits for d, and reports false when the slot must end.
func (s *slot) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.halt:
	case <-s.e.ctx.Done():
	}
	return false
}

// recover makes a run of the stored execution. It returns nil without an error
// when there is nothing to run now.
func (s *slot) recover() (*Run, *answer, error) {
	e, ctx := s.e, s.e.ctx
	select {
	case e.loaders <- struct{}{}:
	case <-s.halt:
		return nil, nil, nil
	case <-ctx.Done():
		return nil, nil, nil
	}
	x, rows, err := s.read(ctx)
	<-e.loaders
	if err != nil || x == nil {
		return nil, nil, err
	}
	lease, ok := e.cfg.Lease(s.shard)
	if !ok {
		return nil, nil, crustertype.ErrFenced
	}
	if a := answerOf(x); a != nil {
		return nil, a, nil
	}
	cursor, err := journal.New(rows, x.CreatedAt, e.cfg.MaxSteps)
	if err != nil {
		return s.bury(x, lease, &crustertype.Failure{Code: crustertype.CodeEncoding, Message: err.Error()})
	}
	return s.resume(x, cursor, lease)
}

// read loads the execution and the journal of its run. It returns nil when the
// execution sleeps on.
func (s *slot) read(ctx context.Context) (*crustertype.Execution, []crustertype.Step, error) {
	e := s.e
	x, err := e.cfg.Store.Execution(ctx, s.ref)
	if err != nil {
		return nil, nil, err
	}
	e.mu.Lock()
	s.shard = x.Shard // the group may have been unknown here
	e.mu.Unlock()
	suspended := x.Status == crustertype.StatusSuspended
	asleep := suspended && (x.WakeAt.IsZero() || !reached(x.WakeAt))
	var rows []crustertype.Step
	if x.Status == crustertype.StatusRunning || suspended && (!asleep || !x.CancelAt.IsZero()) {
		if rows, err = e.cfg.Store.Steps(ctx, s.ref, x.Run); err != nil {
			return nil, nil, err
		}
	}
	if asleep && (x.CancelAt.IsZero() || sawCancel(rows)) {
		if !x.WakeAt.IsZero() {
			e.cfg.WakeAt(s.ref, x.Shard, x.WakeAt)
		}
		return nil, nil, nil
	}
	return &x, rows, nil
}

// resume marks that the execution is in memory, before its code runs, so that
// one that kills its process is counted.
func (s *slot) resume(x *crustertype.Execution, cursor *journal.Cursor, lease crustertype.Lease) (*Run, *answer, error) {
	if s.cause != nil {
		x.Outcome, s.cause = crustertype.Outcome{Failure: s.cause}, nil
	}
	var t *trial
	switch {
	case x.Status == crustertype.StatusSuspended:
		x.Attempts, x.WaitingFor = 0, ""
	case x.Attempts >= s.e.cfg.MaxDeliveries:
		return s.bury(x, lease, tooOften(x))
	default:
		if s.forgive {
			x.Attempts, s.forgive = max(0, x.Attempts-1), false
		}
		if s.e.suspected(x.Attempts) {
			if t = s.e.suspects.enter(x.Attempts, false, s.halt, s.e.ctx.Done()); t == nil || s.woken() {
				t.leave()
				return nil, nil, nil // the slot ends, or loads what has changed meanwhile
			}
		}
		x.Attempts++
	}
	_, err := s.e.cfg.Commit.Do(s.e.ctx, storage.Unit{Leases: []crustertype.Lease{lease}, Updates: []storage.Update{{
		ExecutionRef: s.ref, Run: x.Run, Status: crustertype.StatusRunning, Attempts: x.Attempts, WaitingFor: x.WaitingFor,
		Outcome: x.Outcome, At: now(),
	}}})
	if err != nil {
		t.leave()
		return nil, nil, err
	}
	x.Status = crustertype.StatusRunning
	r := s.begin(x, cursor, x.Attempts, t)
	if r == nil { // its code has not run
		s.forget(x, lease)
		t.leave()
	}
	return r, nil, nil
}

// forget takes the mark of a run back that does not begin. Where that fails,
// the shard is lost, or the service stops at once.
func (s *slot) forget(x *crustertype.Execution, lease crustertype.Lease) {
	if x.Attempts == 0 {
		return
	}
	_, err := s.e.cfg.Commit.Do(s.e.ctx, storage.Unit{Leases: []crustertype.Lease{lease}, Updates: []storage.Update{{
		ExecutionRef: s.ref, Run: x.Run, Status: crustertype.StatusRunning, Attempts: x.Attempts - 1, WaitingFor: x.WaitingFor,
		Outcome: x.Outcome, At: now(),
	}}})
	if err != nil {
		s.e.cfg.Logger.Debug("a mark is not taken back", "execution", s.ref.String(), "error", err)
	}
}

// begin makes a run of x, whose stored number of runs without progress is
// attempts, or returns nil when the slot must end. A suspect runs in its time
// alone.
func (s *slot) begin(x *crustertype.Execution, cursor *journal.Cursor, attempts int, t *trial) *Run {
	lease, ok := s.e.cfg.Lease(s.shard)
	if !ok {
		s.e.answer(s.ref, answer{err: crustertype.ErrNotOwner})
		return nil
	}
	r := newRun(s, x, lease, cursor)
	r.stored, r.marked, r.trial, r.suspect = attempts, attempts > 0, t, t != nil
	if !s.enter(r) {
		r.release()
		return nil
	}
	if t != nil {
		t.onYield(r.yield)
	}
	return r
}

// bury puts an execution aside that cannot be run.
func (s *slot) bury(x *crustertype.Execution, lease crustertype.Lease, f *crustertype.Failure) (*Run, *answer, error) {
	_, err := s.e.cfg.Commit.Do(s.e.ctx, storage.Unit{Leases: []crustertype.Lease{lease}, Updates: []storage.Update{{
		ExecutionRef: s.ref, Run: x.Run, Status: crustertype.StatusDead, Attempts: x.Attempts, WaitingFor: x.WaitingFor,
		Outcome: crustertype.Outcome{Failure: f}, At: now(),
	}}})
	if err != nil {
		return nil, nil, err
	}
	s.e.cfg.Logger.Error("workflow execution is dead", "execution", s.ref.String(), "error", f.Message)
	x.Status, x.Outcome = crustertype.StatusDead, crustertype.Outcome{Failure: f}
	return nil, answerOf(x), nil
}

func tooOften(x *crustertype.Execution) *crustertype.Failure {
	msg := fmt.Sprintf("%d runs ended without progress", x.Attempts)
	if x.WaitingFor != "" {
		msg += " at " + x.WaitingFor
	}
	if last := x.Outcome.Failure; last != nil {
		return &crustertype.Failure{Code: last.Code, Message: msg + ": " + last.Message}
	}
	return &crustertype.Failure{Code: crustertype.CodePanic, Message: msg + ": the process died each time"}
}

func sawCancel(rows []crustertype.Step) bool {
	for i := range rows {
		if rows[i].Kind == crustertype.StepCancel {
			return true
		}
	}
	return false
}

// warnUnknown says once per name that a workflow is not registered here.
func (e *Engine) warnUnknown(name string) {
	e.mu.Lock()
	known := e.unknown[name]
	e.unknown[name] = true
	e.mu.Unlock()
	if !known {
		e.cfg.Logger.Warn("storage has executions of a workflow that is not registered here: they wait", "workflow", name)
	}
}

func notFound(ref crustertype.ExecutionRef) error {
	return crustertype.Errorf(crustertype.CodeNotFound, "no such execution").At("workflow", ref.Address())
}

// cancelCause says why an execution is to be cancelled, or returns nil.
func cancelCause(x *crustertype.Execution) error {
	switch {
	case !x.CancelAt.IsZero():
		return cancelled(x.CancelReason)
	case !x.Deadline.IsZero() && reached(x.Deadline):
		return timedOut(x.Deadline)
	}
	return nil
}

func cancelled(reason string) error {
	if reason == "" {
		return crustertype.Errorf(crustertype.CodeCancelled, "the execution was cancelled")
	}
	return crustertype.Errorf(crustertype.CodeCancelled, "the execution was cancelled: %s", reason)
}

func timedOut(at time.Time) error {
	return crustertype.Errorf(crustertype.CodeTimeout, "the execution's deadline %s passed", at.UTC().Format(time.RFC3339))
}
