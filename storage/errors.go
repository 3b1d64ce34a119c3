package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cruster-go/cruster/crustertype"
)

// Errors of a store. A backend wraps the database's own error beside them.
var (
	ErrNotFound = crustertype.ErrNotFound
	ErrFenced   = crustertype.ErrFenced
	ErrNoSQL    = crustertype.ErrNoSQL
	ErrTxDone   = crustertype.ErrTxDone
	ErrConflict = errors.New("stored row differs")
	ErrClosed   = errors.New("store is closed")
	ErrNoRows   = errors.New("no rows in result set")
)

// FencedError reports leases that are not current. Nothing was written.
type FencedError struct {
	Shards []crustertype.Shard // in order, without duplicates
}

// Error names the shards.
func (e *FencedError) Error() string {
	names := make([]string, len(e.Shards))
	for i, s := range e.Shards {
		names[i] = s.String()
	}
	return "ownership was lost of shards " + strings.Join(names, ", ")
}

// Is makes errors.Is(err, ErrFenced) true.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// UnitError reports a unit that can never be applied, for example because a
// journal row differs. Nothing was written.
type UnitError struct {
	Index int // of the unit in the commit; -1 when the store cannot tell which
	Err   error
}

// Error says which unit and why.
func (e *UnitError) Error() string {
	if e.Index < 0 {
		return "a unit was refused: " + e.Err.Error()
	}
	return fmt.Sprintf("unit %d was refused: %v", e.Index, e.Err)
}

// Unwrap returns Err.
func (e *UnitError) Unwrap() error { return e.Err }

// TransientError marks an error of the infrastructure: connection lost, server
// restarting, serialization failure, deadlock, disk full. It is the engine's to
// retry, and never becomes the outcome of a handler.
type TransientError struct {
	Err error
	// Unknown reports that the statement, or the commit, may have happened.
	Unknown bool
}

// Error returns the cause's text.
func (e *TransientError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *TransientError) Unwrap() error { return e.Err }

// IsTransient reports whether trying again can help.
func IsTransient(err error) bool {
	var t *TransientError
	return errors.As(err, &t)
}

type outboxKey struct{}

// WithOutbox returns a context whose sends go through o.
func WithOutbox(ctx context.Context, o Outbox) context.Context {
	return context.WithValue(ctx, outboxKey{}, o)
}

// OutboxFrom returns the outbox of ctx, or nil.
func OutboxFrom(ctx interface{ Value(any) any }) Outbox {
	o, _ := ctx.Value(outboxKey{}).(Outbox)
	return o
}

// TxKey is the context key under which the engine offers a func() (Tx, error)
// that begins the handler's or activity's transaction at its first call and
// returns the same one at later calls. Backends use it to give user code their
// native transaction type.
type TxKey struct{}

// TxFrom returns the transaction of the handler or activity that ctx belongs
// to, beginning it if it is not open yet.
func TxFrom(ctx context.Context) (Tx, error) {
	begin, ok := ctx.Value(TxKey{}).(func() (Tx, error))
	if !ok {
		return nil, crustertype.Errorf(crustertype.CodeInvalid,
			"no transaction here: it exists in persisted handlers and activities, with the context they were given")
	}
	return begin()
}

// Stats counts what a store has done since it was opened. Backends that count
// implement interface{ Stats() Stats }.
type Stats struct {
	Commits    int64 // transactions committed, the user's own through Tx included
	Statements int64 // statements sent to the database, without BEGIN and COMMIT
	Units      int64 // units applied
}
