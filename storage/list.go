package storage

import (
	"context"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// Lister is what people and tools read. Pages are stable under concurrent
// writes: an item that is there all the time is listed exactly once.
type Lister interface {
	// Messages lists messages, newest first, without Payload.
	Messages(ctx context.Context, f MessageFilter) ([]crustertype.Message, Cursor, error)

	// Executions lists executions, newest first, without Input.
	Executions(ctx context.Context, f ExecutionFilter) ([]crustertype.Execution, Cursor, error)

	// Counts returns how many messages and executions are in each state that is
	// not finished. It does not scan finished ones.
	Counts(ctx context.Context) (Counts, error)
}

// MessageFilter selects messages. Zero fields select everything.
type MessageFilter struct {
	Type      string
	ID        string // entity ID
	Method    string
	States    []crustertype.MessageState
	KeyPrefix string
	From, To  time.Time // CreatedAt in [From, To)
	After     Cursor
	Limit     int // default and maximum 1000
}

// ExecutionFilter selects executions. Zero fields select everything.
type ExecutionFilter struct {
	Type       string
	Statuses   []crustertype.Status
	IDPrefix   string
	KeyPrefix  string
	WaitingFor string    // prefix
	From, To   time.Time // CreatedAt in [From, To)
	Parent     crustertype.ExecutionRef
	Tags       map[string]string // all must match
	After      Cursor
	Limit      int // default and maximum 1000
}

// Counts is the work that is not finished.
type Counts struct {
	Messages   map[string]map[crustertype.MessageState]int64 // by entity type; pending and dead
	Executions map[string]map[crustertype.Status]int64       // by workflow; running, suspended, parked, dead
}

// Admin changes single items on a person's behalf. The changes are not fenced:
// each applies only to an item that its owner does not work on.
type Admin interface {
	// RetryMessage makes a dead letter pending again with no attempts and no
	// place in the order. ErrNotFound when there is no dead letter of that ID.
	RetryMessage(ctx context.Context, id crustertype.RequestID) error

	// DiscardMessage deletes a dead letter. ErrNotFound as above.
	DiscardMessage(ctx context.Context, id crustertype.RequestID) error

	// RetryExecution makes a parked or dead execution running again, in the same
	// run with its journal and with Attempts 0, or opens the next run, with an
	// empty journal and no outcome, cancel or wake-up time, of a failed,
	// cancelled or terminated one. It returns the execution as it then is, with
	// its input. ErrNotFound when there is none or only a tombstone of it,
	// ErrConflict when its status is another.
	RetryExecution(ctx context.Context, ref crustertype.ExecutionRef, at time.Time) (crustertype.Execution, error)

	// Purge removes finished items and dead runners, at most p.Limit items, and
	// returns how many; 0 when nothing is left to do. Each call is a small
	// transaction of its own.
	Purge(ctx context.Context, p Purge) (int, error)
}

// Purge selects what retention removes. Dead, parked and pending items are
// never touched.
type Purge struct {
	// Before: finished earlier than this loses payloads and steps. An item with
	// a key keeps a tombstone (ID, state, digest, and its outcome when it is
	// small: at most 1 KiB as EncodeOutcome writes it); others are deleted.
	Before time.Time
	// KeysBefore: tombstones finished earlier than this are deleted. Zero: kept.
	KeysBefore time.Time
	// Messages and Executions limit the purge to some types; nil: none of that
	// sort. Use [AllTypes] for all.
	Messages, Executions []string
	Limit                int // items in one transaction; default 1000
}

// AllTypes selects every type in a [Purge].
var AllTypes = []string{"*"}
