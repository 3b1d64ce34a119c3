// Package elsewhere holds types for the tests of package handler that must not
// be declared in the package that uses them.
package elsewhere

import (
	"context"

	"github.com/cruster-go/cruster/internal/handler/internal/cruster"
)

// Box is a generic group.
type Box[T any] struct {
	_ cruster.RPC
	V T
}

// Get has a pointer receiver.
func (b *Box[T]) Get(context.Context, string) (T, error) { return b.V, nil }

// Peek has a value receiver.
func (b Box[T]) Peek(context.Context, string) (T, error) { return b.V, nil }

// Base is a group with methods of both receivers.
type Base struct {
	_ cruster.RPC
	N int
}

// Touch has a pointer receiver.
func (b *Base) Touch(context.Context, string) (int, error) { b.N++; return b.N, nil }

// Look has a value receiver.
func (b Base) Look(context.Context, string) (int, error) { return b.N, nil }

// Exprs are expressions as this package's own code compiles them.
func Exprs() map[string]any {
	return map[string]any{
		"Box[int].Get":    (*Box[int]).Get,
		"Box[int].Peek":   (*Box[int]).Peek,
		"Box[string].Get": (*Box[string]).Get,
		"Base.Touch":      (*Base).Touch,
		"Base.Look":       (*Base).Look,
	}
}

// BoxExpr is an expression compiled where T is a parameter: a closure.
func BoxExpr[T any]() func(*Box[T], context.Context, string) (T, error) { return (*Box[T]).Get }
