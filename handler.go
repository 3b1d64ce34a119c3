package cruster

import (
	"context"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/storage"
)

// SQL executes statements in a handler's or activity's transaction. Parameters
// are written $1, $2, ... on every backend.
type SQL = storage.SQL

// Tx returns the transaction of the handler or activity that ctx belongs to:
// what is written through it commits together with the handler's outcome and
// the messages it sends, exactly once. It begins at the first statement, at
// READ COMMITTED; when the handler returns an error it is rolled back.
//
// Persisted methods and activities have a transaction. Elsewhere, and on a
// storage without SQL ([ErrNoSQL]), every statement returns the reason. One
// goroutine at a time may use it. While it is open, awaiting calls return
// [ErrTxOpen].
func Tx(ctx context.Context) SQL {
	if c := invoke.From(ctx); c != nil {
		return c.SQL()
	}
	return invoke.NoSQL(invalid("cruster.Tx: no transaction here: it exists in persisted handlers and activities, with the context they were given"))
}

// EntityID returns the ID of the entity whose handler ctx belongs to; in an
// activity, the execution's ID; elsewhere "".
func EntityID(ctx context.Context) string { return Address(ctx).ID }

// Address returns the address of the entity whose handler ctx belongs to; in
// an activity, the workflow's name and the execution's ID; elsewhere the zero
// address.
func Address(ctx context.Context) crustertype.Address {
	if c := invoke.From(ctx); c != nil {
		return c.Address()
	}
	return crustertype.Address{}
}

// RequestID returns the ID of the persisted request, or of the activity's
// step, that ctx belongs to. It is the same at every attempt, which makes it an
// idempotency key for calls to other systems. Best-effort requests have none.
func RequestID(ctx context.Context) crustertype.RequestID {
	if c := invoke.From(ctx); c != nil {
		return c.Info().RequestID
	}
	return crustertype.RequestID{}
}

// Attempt returns which attempt of the handler or activity this is, from 1;
// outside of one, 0.
func Attempt(ctx context.Context) int {
	if c := invoke.From(ctx); c != nil {
		return max(1, c.Info().Attempt)
	}
	return 0
}

// FenceToken returns a number that grows with every change of the shard's
// owner: a system that remembers the highest one it has seen can refuse writes
// of a runner that has lost the shard and does not know it yet. Best-effort
// handlers have none: 0.
func FenceToken(ctx context.Context) int64 {
	if c := invoke.From(ctx); c != nil {
		return c.Info().Lease.Epoch
	}
	return 0
}
