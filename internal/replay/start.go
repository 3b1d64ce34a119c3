package replay

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// StartParams describes an execution to start.
type StartParams struct {
	crustertype.ExecutionRef
	Group  string   // shard group; "": that of the registered workflow, or the default
	Key    string   // the caller's key, or ""
	Digest [16]byte // of the input; zero without a key
	Codec  string
	Input  []byte
	Meta   []byte
	Parent crustertype.ExecutionRef
	Tags   map[string]string
	// Timeout is the time that the execution may take; 0: that of the registered
	// workflow.
	Timeout time.Duration
}

// NewExecution returns the row that a start inserts.
func (e *Engine) NewExecution(p StartParams) (crustertype.Execution, error) {
	if err := crustertype.CheckName("workflow", p.Type); err != nil {
		return crustertype.Execution{}, crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	if err := crustertype.CheckID("execution ID", p.ID); err != nil {
		return crustertype.Execution{}, crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	if len(p.Input) > e.cfg.MaxPayload {
		return crustertype.Execution{}, crustertype.Errorf(crustertype.CodeTooLarge, "the input has %d bytes encoded: at most %d are allowed; pass a reference to the data",
			len(p.Input), e.cfg.MaxPayload).At("start workflow", p.Address())
	}
	at := now()
	x := crustertype.Execution{
		ExecutionRef: p.ExecutionRef, Run: 1, Key: p.Key, Digest: p.Digest, Codec: p.Codec, Input: p.Input, Meta: p.Meta,
		Status: crustertype.StatusRunning, CreatedAt: at, UpdatedAt: at, Parent: p.Parent, Tags: p.Tags,
	}
	timeout := p.Timeout
	if d := e.defs[p.Type]; d != nil {
		if p.Group == "" {
			p.Group = d.Group
		}
		if timeout <= 0 {
			timeout = d.Timeout
		}
	}
	if p.Group == "" {
		p.Group = crustertype.DefaultShardGroup
	}
	if timeout > 0 {
		x.Deadline = at.Add(timeout)
	}
	x.Shard = e.cfg.ShardOf(p.Group, p.ID)
	return x, nil
}

// Start begins an execution, durably before it returns, unless one of the same
// workflow and ID exists: then it reports that. The same key with another input
// is ErrKeyConflict. On a runner that does not own the execution's shard the
// execution is stored, and the owner told.
func (e *Engine) Start(ctx context.Context, p StartParams) (existed bool, err error) {
	run, err := e.ready()
	if err != nil {
		return false, err
	}
	x, err := e.NewExecution(p)
	if err != nil {
		return false, err
	}
	type reply struct {
		existing *crustertype.Execution
		err      error
	}
	ch := make(chan reply, 1)
	lease, owned := e.cfg.Lease(x.Shard)
	unit := storage.Unit{Starts: []crustertype.Execution{x}}
	if owned {
		unit.Leases = []crustertype.Lease{lease}
	}
	// The run begins when its row is durable. Before that it could do nothing
	// anyway: each effect waits for the row, and so does what it writes, since the
	// row may turn out to be another execution's.
	e.cfg.Commit.Submit(unit, func(res storage.Result, err error) {
		if err == nil {
			e.Started(unit.Starts, res.Starts)
		}
		var have *crustertype.Execution
		if len(res.Starts) > 0 {
			have = res.Starts[0].Existing
		}
		ch <- reply{have, err}
	})
	var r reply
	select {
	case r = <-ch:
	case <-ctx.Done():
		return false, uncertain(ctx)
	case <-run.Done():
		return false, crustertype.ErrShuttingDown
	}
	switch {
	case errors.Is(r.err, storage.ErrFenced): // the shard is just moving: as a start for its next owner
		if now, ok := e.cfg.Lease(x.Shard); !ok || now != lease {
			return e.Start(ctx, p)
		}
		return false, crustertype.ErrNotOwner
	case r.err != nil:
		return false, crustertype.Errorf(crustertype.CodeUnavailable, "not started: %w", r.err).At("start workflow", x.Address())
	case r.existing == nil:
		return false, nil
	case r.existing.Digest != x.Digest:
		return true, crustertype.Errorf(crustertype.CodeKeyConflict,
			"the execution exists with another input: use another key for another request").At("start workflow", x.Address())
	}
	if r.existing.Status == crustertype.StatusRunning && owned {
		e.activate(x.ExecutionRef, r.existing.Shard, nil, true)
	}
	return true, nil
}

// uncertain reports that the caller stopped waiting for something that goes on
// without it.
func uncertain(ctx context.Context) error {
	cause := context.Cause(ctx)
	code := crustertype.CodeCancelled
	if errors.Is(cause, context.DeadlineExceeded) {
		code = crustertype.CodeTimeout
	}
	err := crustertype.Errorf(code, "stopped waiting: %w", cause)
	err.Executed = true
	return err
}
