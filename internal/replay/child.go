package replay

import (
	"context"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
)

// Child is the start of another execution as a step.
type Child struct {
	Call // without Fn
	// Params returns what to start. id is the same at every attempt and replay,
	// and becomes the execution's ID where there is no key.
	Params func(id crustertype.RequestID) (StartParams, error)
}

// StartCall is the step that starts c and goes on. Its outcome is the ID of the
// execution, encoded.
func (r *Run) StartCall(c Child) Call {
	call := c.Call
	call.Kind = crustertype.StepStart
	call.Fn = func(ctx *invoke.Context, _ []byte) (crustertype.Outcome, error) {
		p, err := r.params(ctx, c)
		if err != nil {
			return crustertype.Outcome{}, err
		}
		id, err := r.e.cfg.Codec.Marshal(p.ID)
		if err != nil {
			return crustertype.Outcome{}, crustertype.Errorf(crustertype.CodeEncoding, "encode an execution ID: %w", err)
		}
		out := crustertype.Outcome{Codec: r.e.cfg.Codec.Name(), Payload: id}
		if p.Key != "" { // the key may be taken, which must be known before the step is done
			_, err := r.e.Start(ctx, p)
			return out, err
		}
		x, err := r.e.NewExecution(p)
		if err != nil {
			return crustertype.Outcome{}, err
		}
		ctx.Collect(invoke.Sends{Starts: []crustertype.Execution{x}})
		return out, nil
	}
	return call
}

// ExecuteCall is the step that starts c and waits for its outcome. When this
// execution is cancelled meanwhile, so is the other one, and nobody waits.
func (r *Run) ExecuteCall(c Child) Call {
	call := c.Call
	call.Kind = crustertype.StepExecute
	call.Fn = func(ctx *invoke.Context, _ []byte) (crustertype.Outcome, error) {
		p, err := r.params(ctx, c)
		if err != nil {
			return crustertype.Outcome{}, err
		}
		var out crustertype.Outcome
		if _, err = r.e.Start(ctx, p); err == nil {
			out, err = r.await(ctx, p.ExecutionRef)
		}
		if err != nil && !ctx.Interrupted() && r.unwanted() {
			if err := r.e.Cancel(r.e.ctx, p.ExecutionRef, "the execution that waits for it has ended, or was cancelled"); err != nil {
				r.e.cfg.Logger.Warn("child execution is not cancelled", "execution", p.ExecutionRef.String(), "error", err)
			}
		}
		return out, err
	}
	return call
}

// JoinCall is the step that waits for the outcome of an execution.
func (r *Run) JoinCall(name string, ref crustertype.ExecutionRef) Call {
	return Call{Kind: crustertype.StepExecute, Name: name, In: ref.ID, Fn: func(ctx *invoke.Context, _ []byte) (crustertype.Outcome, error) {
		return r.await(ctx, ref)
	}}
}

func (r *Run) params(ctx *invoke.Context, c Child) (StartParams, error) {
	p, err := c.Params(ctx.Info().RequestID)
	p.Parent = r.x.ExecutionRef
	return p, err
}

// await waits for another execution. Its own place in memory is free meanwhile:
// the other one may need it.
func (r *Run) await(ctx *invoke.Context, ref crustertype.ExecutionRef) (crustertype.Outcome, error) {
	r.slot.lend(1)
	defer r.slot.lend(-1)
	defer ctx.Info().Rest()()
	return r.e.join(ctx, ref)
}

// unwanted reports whether steps that run are to end.
func (r *Run) unwanted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cancel != nil || r.ending
}

// join waits for an execution of this runner or another one.
func (e *Engine) join(ctx context.Context, ref crustertype.ExecutionRef) (crustertype.Outcome, error) {
	if e.cfg.Join == nil {
		return e.Wait(ctx, ref)
	}
	return e.cfg.Join(ctx, e.shardOf(ref), ref)
}
