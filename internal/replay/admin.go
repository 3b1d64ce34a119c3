package replay

import (
	"context"
	"errors"
	"maps"
	"slices"

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
		e.cfg.Nudge(x.Shard, x.ExecutionRef)
		return nil
	}
	if !e.tellCancel(ref, reason) {
		e.activate(ref, x.Shard, nil, true)
	}
	return nil
}

// tellCancel tells a resident run that it is to be cancelled, if there is one.
func (e *Engine) tellCancel(ref crustertype.ExecutionRef, reason string) bool {
	e.mu.Lock()
	var run *Run
	if s := e.slots[ref]; s != nil {
		s.wake = true // for a run that suspends just now
		run = s.run
	}
	e.mu.Unlock()
	if run == nil {
		return false
	}
	run.requestCancel(cancelled(reason))
	return true
}

// Notice looks at an execution for which others have stored something: a start,
// a request to cancel, a retry.
func (e *Engine) Notice(ctx context.Context, ref crustertype.ExecutionRef) {
	if _, err := e.ready(); err != nil {
		return
	}
	x, err := e.cfg.Store.Execution(ctx, ref)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, storage.ErrNotFound) {
			e.cfg.Logger.WarnContext(ctx, "an execution that was announced cannot be read", "execution", ref.String(), "error", err)
		}
		return
	}
	e.notice(&x)
}

func (e *Engine) notice(x *crustertype.Execution) {
	if _, ok := e.cfg.Lease(x.Shard); !ok || x.Status.Final() {
		return
	}
	if e.resident(x.ExecutionRef) && x.CancelAt.IsZero() {
		return
	}
	if !x.CancelAt.IsZero() && e.tellCancel(x.ExecutionRef, x.CancelReason) {
		return
	}
	e.activate(x.ExecutionRef, x.Shard, nil, true)
}

// search looks for runnable executions of the runner's shards that nobody
// announced. It is a safety net.
func (e *Engine) search(ctx context.Context) {
	e.mu.Lock()
	shards := slices.Collect(maps.Keys(e.shards))
	full := e.backlog
	e.mu.Unlock()
	if full || len(shards) == 0 {
		return // the feeder finds them
	}
	var after storage.Cursor
	for {
		page, next, err := e.cfg.Store.Runnable(ctx, shards, after, pageSize)
		if err != nil {
			if ctx.Err() == nil {
				e.cfg.Logger.WarnContext(ctx, "executions cannot be searched, trying again later", "error", err)
			}
			return
		}
		for i := range page {
			e.notice(&page[i])
		}
		if next == "" {
			return
		}
		after = next
	}
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
	// From here on no run begins, and one that is ending does not answer: which
	// of the two ends comes first, storage decides.
	e.mu.Lock()
	e.ending[ref]++
	s := e.slots[ref]
	if s != nil {
		s.contested = true
	}
	e.mu.Unlock()
	if s != nil {
		s.stop(&exit{kind: exitDropped, err: decodeFailure(out.Failure)})
	}
	_, err = e.cfg.Commit.Do(ctx, storage.Unit{Leases: []crustertype.Lease{lease}, Updates: []storage.Update{{
		ExecutionRef: ref, Run: x.Run, Status: crustertype.StatusTerminated, Attempts: x.Attempts, Outcome: out, At: now(),
	}}})
	e.mu.Lock()
	if e.ending[ref]--; e.ending[ref] == 0 {
		delete(e.ending, ref)
	}
	e.mu.Unlock()
	if err == nil {
		if x, err = e.cfg.Store.Execution(ctx, ref); err == nil && x.Status.Final() {
			e.answer(ref, *answerOf(&x))
		}
	}
	e.activate(ref, x.Shard, nil, true) // answers those who came meanwhile, or goes on if nothing was written
	return err
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
		e.cfg.Nudge(x.Shard, x.ExecutionRef)
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
