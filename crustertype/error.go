package crustertype

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Code classifies an [Error]. It crosses the wire and is stored, so numbers
// are never reused.
type Code uint16

// The codes. The comment says who can do what about it.
const (
	CodeUnknown        Code = 0  // an error cruster cannot classify
	CodeUser           Code = 1  // returned by the user's handler, activity or workflow
	CodePanic          Code = 2  // the user's code panicked
	CodeMailboxFull    Code = 3  // the entity's mailbox is full: slow down, try again
	CodeNotOwner       Code = 4  // this runner does not own the shard: ask the owner
	CodeShuttingDown   Code = 5  // the service is stopping
	CodeNotStarted     Code = 6  // the service has not been started
	CodeNotRegistered  Code = 7  // nothing of that name is registered
	CodeNotFound       Code = 8  // no such request or execution
	CodeDeadLettered   Code = 9  // delivery was given up; the item can be retried
	CodeParked         Code = 10 // the execution waits for a person; it can be retried
	CodeNondeterminism Code = 11 // workflow code differs from its journal
	CodeKeyConflict    Code = 12 // the key is taken by a request with another body
	CodeTooLarge       Code = 13 // a payload exceeds the limit
	CodeTxOpen         Code = 14 // an awaiting call while the transaction is open
	CodeReentrant      Code = 15 // a cycle of awaited calls would wait for itself
	CodeUnavailable    Code = 16 // owner or storage cannot be reached now
	CodeFenced         Code = 17 // ownership of the shard was lost
	CodeCancelled      Code = 18 // cancelled by the caller or by Cancel
	CodeTimeout        Code = 19 // the deadline passed
	CodeSuspended      Code = 20 // the workflow run has ended its life in memory
	CodeTerminated     Code = 21 // the execution was terminated
	CodeHistoryTooLong Code = 22 // the execution has too many steps
	CodeInvalid        Code = 23 // the call itself is wrong: fix the program
	CodeEncoding       Code = 24 // a value cannot be encoded or decoded
	CodeForbidden      Code = 25 // the method is protected or private
	CodeNoSQL          Code = 26 // the storage has no SQL
	CodeContract       Code = 27 // caller's and owner's contract differ
	CodeTxDone         Code = 28 // the transaction has ended or may not be ended by hand
)

var codeNames = map[Code]string{
	CodeUnknown: "unknown", CodeUser: "user", CodePanic: "panic", CodeMailboxFull: "mailbox_full", CodeNotOwner: "not_owner",
	CodeShuttingDown: "shutting_down", CodeNotStarted: "not_started", CodeNotRegistered: "not_registered", CodeNotFound: "not_found",
	CodeDeadLettered: "dead_lettered", CodeParked: "parked", CodeNondeterminism: "nondeterminism", CodeKeyConflict: "key_conflict",
	CodeTooLarge: "too_large", CodeTxOpen: "tx_open", CodeReentrant: "reentrant", CodeUnavailable: "unavailable", CodeFenced: "fenced",
	CodeCancelled: "cancelled", CodeTimeout: "timeout", CodeSuspended: "suspended", CodeTerminated: "terminated",
	CodeHistoryTooLong: "history_too_long", CodeInvalid: "invalid", CodeEncoding: "encoding", CodeForbidden: "forbidden",
	CodeNoSQL: "no_sql", CodeContract: "contract_mismatch", CodeTxDone: "tx_done",
}

// String returns the code's lower-case name, such as "mailbox_full".
func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return "code_" + strconv.Itoa(int(c))
}

// Sentinels, one per condition that callers branch on. Use [errors.Is]; it
// holds on this runner, on another one, and for an outcome read from storage.
var (
	ErrPanic          error = &Error{Code: CodePanic, Message: "panic in user code"}
	ErrMailboxFull    error = &Error{Code: CodeMailboxFull, Message: "mailbox is full"}
	ErrNotOwner       error = &Error{Code: CodeNotOwner, Message: "this runner does not own the shard"}
	ErrShuttingDown   error = &Error{Code: CodeShuttingDown, Message: "service is shutting down"}
	ErrNotStarted     error = &Error{Code: CodeNotStarted, Message: "service is not started"}
	ErrNotRegistered  error = &Error{Code: CodeNotRegistered, Message: "not registered"}
	ErrNotFound       error = &Error{Code: CodeNotFound, Message: "not found"}
	ErrDeadLettered   error = &Error{Code: CodeDeadLettered, Message: "dead-lettered"}
	ErrParked         error = &Error{Code: CodeParked, Message: "execution is parked"}
	ErrNondeterminism error = &Error{Code: CodeNondeterminism, Message: "workflow code differs from its journal"}
	ErrKeyConflict    error = &Error{Code: CodeKeyConflict, Message: "key was used with another body"}
	ErrTooLarge       error = &Error{Code: CodeTooLarge, Message: "payload is too large"}
	ErrTxOpen         error = &Error{Code: CodeTxOpen, Message: "awaiting call while the transaction is open"}
	ErrReentrant      error = &Error{Code: CodeReentrant, Message: "awaited calls form a cycle"}
	ErrUnavailable    error = &Error{Code: CodeUnavailable, Message: "unavailable"}
	ErrFenced         error = &Error{Code: CodeFenced, Message: "ownership of the shard was lost"}
	ErrCancelled      error = &Error{Code: CodeCancelled, Message: "cancelled"}
	ErrTimeout        error = &Error{Code: CodeTimeout, Message: "deadline passed"}
	ErrSuspended      error = &Error{Code: CodeSuspended, Message: "workflow run is suspended"}
	ErrTerminated     error = &Error{Code: CodeTerminated, Message: "execution was terminated"}
	ErrHistoryTooLong error = &Error{Code: CodeHistoryTooLong, Message: "execution has too many steps"}
	ErrInvalid        error = &Error{Code: CodeInvalid, Message: "invalid use"}
	ErrEncoding       error = &Error{Code: CodeEncoding, Message: "value cannot be encoded or decoded"}
	ErrForbidden      error = &Error{Code: CodeForbidden, Message: "method is not callable from here"}
	ErrNoSQL          error = &Error{Code: CodeNoSQL, Message: "storage has no SQL"}
	ErrContract       error = &Error{Code: CodeContract, Message: "contract mismatch"}
	ErrTxDone         error = &Error{Code: CodeTxDone, Message: "transaction is not yours to end"}
)

// Error is every error that cruster itself returns, and the form in which
// users' errors reach a caller.
type Error struct {
	Code    Code
	Op      string  // what was attempted, for example "call counter.Increment"
	Address Address // the entity or execution concerned; zero when none is
	Message string  // what happened; for CodeUser the user's text
	Name    string  // name under which the user registered the error, or ""
	// Executed reports that the request may have run although it failed.
	Executed bool
	// Permanent reports that the user marked the error as not worth a retry.
	Permanent bool

	cause error
}

// Errorf returns an Error of the given code whose message is formatted; an
// operand of %w becomes the cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// WithCause returns e with its cause set. It modifies e.
func (e *Error) WithCause(cause error) *Error {
	e.cause = cause
	return e
}

// At returns e with its operation and address filled in where they are empty.
// It modifies e.
func (e *Error) At(op string, a Address) *Error {
	if e.Op == "" {
		e.Op = op
	}
	if e.Address.IsZero() {
		e.Address = a
	}
	return e
}

// Error returns "op: address: message". A user's error is its own text alone,
// so that it reads the same wherever the handler ran.
func (e *Error) Error() string {
	if e.Code == CodeUser {
		return e.Message
	}
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if !e.Address.IsZero() {
		b.WriteString(e.Address.String())
		b.WriteString(": ")
	}
	if e.Message != "" {
		b.WriteString(e.Message)
	} else {
		b.WriteString(e.Code.String())
	}
	return b.String()
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is the sentinel of e's code. A sentinel has
// neither operation nor address.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error) //nolint:errorlint // Is compares one link of the chain, as errors.Is asks for
	return ok && t.Op == "" && t.Address.IsZero() && t.cause == nil && t.Code == e.Code && t.Code != CodeUser && t.Code != CodeUnknown
}

// CodeOf returns the code of the first Error in err's chain, or CodeUnknown.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeUnknown
}

// Failure is an error as storage and the wire keep it.
type Failure struct {
	Code      Code
	Name      string // registered name of a user's error
	Message   string
	Permanent bool
}

// Outcome is what a request, a step or an execution ended with: a payload, or
// a failure.
type Outcome struct {
	Codec   string // name of the codec that made Payload
	Payload []byte
	Failure *Failure
}
