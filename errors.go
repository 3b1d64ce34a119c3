package cruster

import (
	"errors"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/userror"
)

// Types of other packages that users meet.
type (
	// Error is every error that cruster returns, and the form in which a
	// handler's error reaches its caller.
	Error = crustertype.Error
	// Code classifies an [Error].
	Code = crustertype.Code
)

// Conditions that callers branch on, with [errors.Is]. They hold wherever the
// handler ran.
var (
	ErrPanic          = crustertype.ErrPanic
	ErrMailboxFull    = crustertype.ErrMailboxFull
	ErrNotOwner       = crustertype.ErrNotOwner
	ErrShuttingDown   = crustertype.ErrShuttingDown
	ErrNotStarted     = crustertype.ErrNotStarted
	ErrNotRegistered  = crustertype.ErrNotRegistered
	ErrNotFound       = crustertype.ErrNotFound
	ErrDeadLettered   = crustertype.ErrDeadLettered
	ErrParked         = crustertype.ErrParked
	ErrNondeterminism = crustertype.ErrNondeterminism
	ErrKeyConflict    = crustertype.ErrKeyConflict
	ErrTooLarge       = crustertype.ErrTooLarge
	ErrTxOpen         = crustertype.ErrTxOpen
	ErrReentrant      = crustertype.ErrReentrant
	ErrUnavailable    = crustertype.ErrUnavailable
	ErrCancelled      = crustertype.ErrCancelled
	ErrTimeout        = crustertype.ErrTimeout
	ErrSuspended      = crustertype.ErrSuspended
	ErrTerminated     = crustertype.ErrTerminated
	ErrHistoryTooLong = crustertype.ErrHistoryTooLong
	ErrInvalid        = crustertype.ErrInvalid
	ErrEncoding       = crustertype.ErrEncoding
	ErrForbidden      = crustertype.ErrForbidden
	ErrNoSQL          = crustertype.ErrNoSQL
	ErrTxDone         = crustertype.ErrTxDone

	// ErrContractMismatch reports a contract whose caller and owner differ.
	ErrContractMismatch = crustertype.ErrContract
)

// Permanent marks a handler's or activity's error as not worth a retry.
// Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Code: crustertype.CodeUser, Message: err.Error(), Permanent: true}
	return e.WithCause(err)
}

// Retryable reports whether the failed call certainly did not run and may
// succeed when it is made again.
func Retryable(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Executed {
		return false
	}
	switch e.Code {
	case crustertype.CodeMailboxFull, crustertype.CodeNotOwner, crustertype.CodeShuttingDown, crustertype.CodeNotStarted, crustertype.CodeUnavailable:
		return true
	}
	return false
}

// MaybeExecuted reports whether the handler of the failed call may have run, or
// may still.
func MaybeExecuted(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return err != nil
	}
	switch e.Code {
	case crustertype.CodeUser, crustertype.CodePanic, crustertype.CodeUnknown, crustertype.CodeDeadLettered, crustertype.CodeParked:
		return true
	}
	return e.Executed
}

// RegisterError gives a sentinel error of the user a name under which it
// travels, so that errors.Is(err, sentinel) holds for callers on other runners
// and for outcomes read from storage. Register the same names on every runner,
// at the start of the program. A name or sentinel can be registered once.
func RegisterError(name string, sentinel error) error { return userror.Register(name, sentinel) }

func encodeError(err error) *crustertype.Failure { return userror.Encode(err) }

func decodeError(f *crustertype.Failure) error { return userror.Decode(f) }

func invalid(format string, args ...any) *Error {
	return crustertype.Errorf(crustertype.CodeInvalid, format, args...)
}
