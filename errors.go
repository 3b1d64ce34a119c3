package cruster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/cruster-go/cruster/crustertype"
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

var userErrors struct {
	sync.RWMutex
	byName map[string]error
}

// RegisterError gives a sentinel error of the user a name under which it
// travels, so that errors.Is(err, sentinel) holds for callers on other runners
// and for outcomes read from storage. Register the same names on every runner,
// at the start of the program. A name or sentinel can be registered once.
func RegisterError(name string, sentinel error) error {
	if err := crustertype.CheckName("error name", name); err != nil {
		return crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	if sentinel == nil {
		return crustertype.Errorf(crustertype.CodeInvalid, "error %q: the sentinel is nil", name)
	}
	userErrors.Lock()
	defer userErrors.Unlock()
	if have, ok := userErrors.byName[name]; ok && have != sentinel { //nolint:errorlint // identity is meant
		return crustertype.Errorf(crustertype.CodeInvalid, "error name %q is taken by %q", name, have.Error())
	}
	next := maps.Clone(userErrors.byName)
	if next == nil {
		next = make(map[string]error)
	}
	next[name] = sentinel
	userErrors.byName = next
	return nil
}

// encodeError turns what user code returned into what travels. Conditions of
// the runner that the user's code merely met elsewhere become its own error:
// else the caller would take them for conditions of its own call.
func encodeError(err error) *crustertype.Failure {
	f := &crustertype.Failure{Code: crustertype.CodeUser, Message: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		f.Permanent, f.Name = e.Permanent, e.Name
		switch e.Code {
		case crustertype.CodeMailboxFull, crustertype.CodeNotOwner, crustertype.CodeShuttingDown, crustertype.CodeNotStarted,
			crustertype.CodeUnavailable, crustertype.CodeFenced, crustertype.CodeDeadLettered, crustertype.CodeParked, crustertype.CodeUnknown,
			crustertype.CodeNotRegistered, crustertype.CodeNotFound, crustertype.CodeSuspended:
		default:
			f.Code = e.Code
		}
	} else {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			f.Code = crustertype.CodeTimeout
		case errors.Is(err, context.Canceled):
			f.Code = crustertype.CodeCancelled
		}
	}
	userErrors.RLock()
	byName := userErrors.byName
	userErrors.RUnlock()
	if _, ok := byName[f.Name]; !ok {
		for name, sentinel := range byName {
			if errors.Is(err, sentinel) {
				f.Name = name
				break
			}
		}
	}
	return f
}

// decodeError is what a caller gets for a failure.
func decodeError(f *crustertype.Failure) error {
	e := &Error{Code: f.Code, Message: f.Message, Name: f.Name, Permanent: f.Permanent, Executed: true}
	if f.Name != "" {
		userErrors.RLock()
		sentinel := userErrors.byName[f.Name]
		userErrors.RUnlock()
		if sentinel != nil {
			e.WithCause(sentinel)
		}
	}
	return e
}

// travelled returns err as a caller on another runner would get it, so that
// nothing works only because the handler is local.
func travelled(err error) error {
	if err == nil {
		return nil
	}
	return decodeError(encodeError(err))
}

func invalid(format string, args ...any) *Error {
	return crustertype.Errorf(crustertype.CodeInvalid, format, args...)
}

func notRegistered(what, name string) *Error {
	return crustertype.Errorf(crustertype.CodeNotRegistered, "%s %q is not registered: %s", what, name,
		fmt.Sprintf("register it before Start, on every runner that hosts its %ss", what))
}
