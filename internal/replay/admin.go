package replay

import (
	"context"
	"errors"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// Cancel asks an execution to cancel. The request is durable when Cancel
// returns; the execution notices it at its next blocking operation. A finished
// one is left alone.
func (e *Engine) Cancel(ctx context.Context, ref crustertype.ExecutionRef, reason string) error {
	if _, err := e.ready(); err != nil {
		return err
	}
	x, err := e.cfg.Store.Execution(ctx, ref)
	if err != nil {
		return err
	}
	if x.Status.Final() {
		return nil
	}
	_, err = e.cfg.Commit.Do(ctx, storage.Unit{Cancels: []storage.Cancel{{ExecutionRef: ref, Reason: reason, At: now()}}})
	if err != nil {
		return err
	}
	if _, ok := e.cfg.Lease(x.Shard); !ok {
		e.cfg.Nudge(x.Shard)
		return nil
	}
	e.mu.Lock()
	var run *Run
	if s := e.slots[ref]; s != nil {
		s.wake = true // for a run that suspends just now
		run = s.run
	}
	e.mu.Unlock()
	if run != nil {
		run.requestCancel(cancelled(reason))
		return nil
	}
	e.activate(ref, x.Shard, nil, true)
	return nil
}

// Terminate ends an execution at once, without its code taking notice: no
// compensation runs. A finished one is left alone.
func (e *Engine) Terminate(ctx context.Context, ref crustertype.ExecutionRef, reason string) error {
	if _, err := e.ready(); err != nil {
		return err
	}
	x, err := e.cfg.Store.Execution(ctx, ref)
	if err != nil {
		return err
	}
	lease, ok := e.cfg.Lease(x.Shard)
	switch {
	case x.Status.Final():
		return nil
	case !ok:
		return crustertype.ErrNotOwner
	}
	if reason == "" {
		reason = "no reason was given"
	}
	out := crustertype.Outcome{Failure: &crustertype.Failure{Code: crustertype.CodeTerminated, Message: "the execution was terminated: " + reason}}
	_, err = e.cfg.Commit.Do(ctx, storage.Unit{Leases: []crustertype.Lease{lease}, Updates: []storage.Update{{
		ExecutionRef: ref, Run: x.Run, Status: crustertype.StatusTerminated, Attempts: x.Attempts, Outcome: out, At: now(),
	}}})
	if err != nil {
		return err
	}
	// It may have ended by itself in the meantime: what is stored is the truth.
	if x, err = e.cfg.Store.Execution(ctx, ref); err != nil {
		return err
	}
	e.mu.Lock()
	s := e.slots[ref]
	e.mu.Unlock()
	if s != nil {
		s.stop(&exit{kind: exitDropped, err: decodeFailure(out.Failure)})
	}
	if a := answerOf(&x); a != nil {
		e.answer(ref, *a)
	}
	return nil
}

// Retry resumes a parked or dead execution where it stopped, or opens a new run
// of a failed, cancelled or terminated one.
func (e *Engine) Retry(ctx context.Context, ref crustertype.ExecutionRef) error {
	if _, err := e.ready(); err != nil {
		return err
	}
	x, err := e.cfg.Store.RetryExecution(ctx, ref, now())
	switch {
	case errors.Is(err, storage.ErrConflict):
		return crustertype.Errorf(crustertype.CodeInvalid,
			"only a parked, dead, failed, cancelled or terminated execution can be retried: this one is not").At("retry workflow", ref.Address())
	case err != nil:
		return err
	}
	if _, ok := e.cfg.Lease(x.Shard); !ok {
		e.cfg.Nudge(x.Shard)
		return nil
	}
	e.activate(ref, x.Shard, nil, true)
	return nil
}

// Describe returns an execution with the journal of its present run.
func (e *Engine) Describe(ctx context.Context, ref crustertype.ExecutionRef) (crustertype.Execution, []crustertype.Step, error) {
	x, err := e.cfg.Store.Execution(ctx, ref)
	if err != nil {
		return x, nil, err
	}
	steps, err := e.cfg.Store.Steps(ctx, ref, x.Run)
	return x, steps, err
}

// List lists executions.
func (e *Engine) List(ctx context.Context, f storage.ExecutionFilter) ([]crustertype.Execution, storage.Cursor, error) {
	return e.cfg.Store.Executions(ctx, f)
}
