// Package userror turns errors of user code into what is stored and sent, and
// back.
package userror

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/cruster-go/cruster/crustertype"
)

var registry struct {
	sync.RWMutex
	byName map[string]error
}

// Register gives a sentinel error a name under which it travels.
func Register(name string, sentinel error) error {
	if err := crustertype.CheckName("error name", name); err != nil {
		return crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	if sentinel == nil {
		return crustertype.Errorf(crustertype.CodeInvalid, "error %q: the sentinel is nil", name)
	}
	registry.Lock()
	defer registry.Unlock()
	if have, ok := registry.byName[name]; ok && have != sentinel { //nolint:errorlint // identity is meant
		return crustertype.Errorf(crustertype.CodeInvalid, "error name %q is taken by %q", name, have.Error())
	}
	next := maps.Clone(registry.byName)
	if next == nil {
		next = make(map[string]error)
	}
	next[name] = sentinel
	registry.byName = next
	return nil
}

// Encode turns what user code returned into what travels. Conditions of
// the runner that the user's code merely met elsewhere become its own error:
// else the caller would take them for conditions of its own call.
func Encode(err error) *crustertype.Failure {
	f := &crustertype.Failure{Code: crustertype.CodeUser, Message: err.Error()}
	var e *crustertype.Error
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
	registry.RLock()
	byName := registry.byName
	registry.RUnlock()
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

// Decode returns what a caller gets for a failure.
func Decode(f *crustertype.Failure) error {
	e := &crustertype.Error{Code: f.Code, Message: f.Message, Name: f.Name, Permanent: f.Permanent, Executed: true}
	if f.Name != "" {
		registry.RLock()
		sentinel := registry.byName[f.Name]
		registry.RUnlock()
		if sentinel != nil {
			e.WithCause(sentinel)
		}
	}
	return e
}
