package dispatch

import (
	"context"
	"encoding/json"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/replay"
)

// A client has no storage: everything that is stored is stored by the owner of
// its shard. When that cannot be reached, the client cannot help itself.

// noStorage turns the failure to reach an owner into what a client is told.
func noStorage(ctx context.Context, err error) error {
	if ctx.Err() != nil || !unreachable(err) {
		return err
	}
	e := crustertype.Errorf(crustertype.CodeUnavailable, "the owner of the shard cannot be reached, and a client has no storage to leave the request in: %w", err)
	e.Executed = executed(err)
	return e
}

func (h *Host) clientCall(ctx context.Context, m crustertype.Message) (crustertype.Outcome, error) {
	reply, err := h.Router.Ask(ctx, m.Shard, OpCall, encodeMessage(&m), Patience{Idempotent: true})
	if err != nil {
		return crustertype.Outcome{}, noStorage(ctx, err)
	}
	return outcomeOf(reply)
}

func (h *Host) clientAwait(ctx context.Context, shard crustertype.Shard, id crustertype.RequestID) (crustertype.Outcome, error) {
	if shard.Group == "" {
		return crustertype.Outcome{}, crustertype.Errorf(crustertype.CodeInvalid, "await request %s: a client has no storage that says where the request is", id)
	}
	reply, err := h.Router.Ask(ctx, shard, OpAwait, id[:], Patience{For: -1, Idempotent: true})
	if err != nil {
		return crustertype.Outcome{}, noStorage(ctx, err)
	}
	return outcomeOf(reply)
}

func (h *Host) clientJoin(ctx context.Context, shard crustertype.Shard, ref crustertype.ExecutionRef) (crustertype.Outcome, error) {
	reply, err := h.Router.Ask(ctx, shard, OpJoin, encodeExecution(ref, ""), Patience{For: -1, Idempotent: true})
	if err != nil {
		return crustertype.Outcome{}, noStorage(ctx, err)
	}
	return outcomeOf(reply)
}

// Start begins an execution. See [replay.Engine.Start].
func (h *Host) Start(ctx context.Context, p replay.StartParams) error {
	if !h.Client {
		_, err := h.Workflows.Start(ctx, p)
		return err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return crustertype.Errorf(crustertype.CodeEncoding, "encode a start: %w", err)
	}
	// To send it twice does no harm: its ID makes it one.
	_, err = h.Router.Ask(ctx, h.Run.ShardOf(p.Group, p.ID), OpStart, body, Patience{Idempotent: true})
	return noStorage(ctx, err)
}

func (h *Host) serveStart(ctx context.Context, body []byte) error {
	var p replay.StartParams
	if err := json.Unmarshal(body, &p); err != nil {
		return errMalformed
	}
	if h.Workflows.Definition(p.Type) == nil {
		return NotRegistered("workflow", p.Type)
	}
	_, err := h.Workflows.Start(ctx, p)
	return err
}

// Poll returns the outcome of an execution if it has one.
func (h *Host) Poll(ctx context.Context, shard crustertype.Shard, ref crustertype.ExecutionRef) (crustertype.Outcome, bool, error) {
	if !h.Client {
		return h.Workflows.Poll(ctx, ref)
	}
	reply, err := h.Router.Ask(ctx, shard, OpPoll, encodeExecution(ref, ""), Patience{Idempotent: true})
	if err != nil || len(reply) == 0 {
		return crustertype.Outcome{}, false, noStorage(ctx, err)
	}
	out, err := outcomeOf(reply)
	return out, err == nil, err
}

// Describe returns an execution and its journal.
func (h *Host) Describe(ctx context.Context, ref crustertype.ExecutionRef) (crustertype.Execution, []crustertype.Step, error) {
	if h.Client {
		return crustertype.Execution{}, nil, crustertype.Errorf(crustertype.CodeInvalid, "a client has no storage to read an execution from: ask a member of the cluster")
	}
	return h.Workflows.Describe(ctx, ref)
}

// servePoll answers with nothing when there is no outcome.
func (h *Host) servePoll(ctx context.Context, body []byte) ([]byte, error) {
	ref, _, err := decodeExecution(body)
	if err != nil {
		return nil, err
	}
	out, done, err := h.Workflows.Poll(ctx, ref)
	if err != nil || !done {
		return nil, err
	}
	return crustertype.EncodeOutcome(out), nil
}
