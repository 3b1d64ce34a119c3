package handler

import (
	"context"
	"fmt"
	"iter"
	"reflect"
)

// Specialized reports whether m has a typed invoker.
func (m *Method) Specialized() bool { return m.typed.Load() != nil }

// Specialize lets m run through fn, its own method expression, instead of
// through reflection: some twenty times cheaper. Static code that names
// the method calls it once; further calls change nothing. It reports whether m
// is specialised now; fn that is not m's expression is refused.
func Specialize[E, In, Out any](m *Method, fn func(E, context.Context, In) (Out, error)) bool {
	recv, ok := receiverFor[E](m, fn, Unary)
	if !ok {
		return m.Specialized()
	}
	return m.typed.CompareAndSwap(nil, &typed{invoke: func(ctx context.Context, in any) (any, error) {
		req, err := request[In](in, m)
		if err != nil {
			return nil, err
		}
		return box(fn(recv, ctx, req))
	}}) || m.Specialized()
}

// SpecializeErr is [Specialize] for a method that returns only an error.
func SpecializeErr[E, In any](m *Method, fn func(E, context.Context, In) error) bool {
	recv, ok := receiverFor[E](m, fn, ErrOnly)
	if !ok {
		return m.Specialized()
	}
	return m.typed.CompareAndSwap(nil, &typed{invoke: func(ctx context.Context, in any) (any, error) {
		req, err := request[In](in, m)
		if err != nil {
			return nil, err
		}
		return nil, fn(recv, ctx, req)
	}}) || m.Specialized()
}

// SpecializeStream is [Specialize] for a streaming method.
func SpecializeStream[E, In, Item any](m *Method, fn func(E, context.Context, In) iter.Seq2[Item, error]) bool {
	recv, ok := receiverFor[E](m, fn, Stream)
	if !ok {
		return m.Specialized()
	}
	return m.typed.CompareAndSwap(nil, &typed{stream: func(ctx context.Context, in any) iter.Seq2[any, error] {
		req, err := request[In](in, m)
		if err != nil {
			return failed(err)
		}
		seq := fn(recv, ctx, req)
		if seq == nil {
			return failed(fmt.Errorf("%s returned a nil sequence", m))
		}
		return func(yield func(any, error) bool) {
			for item, err := range seq {
				if !yield(item, err) {
					return
				}
			}
		}
	}}) || m.Specialized()
}

// SpecializeExecute lets e run through fn, its own method expression.
func SpecializeExecute[W, C, In, Out any](e *Entrypoint, fn func(W, C, In) (Out, error)) bool {
	w, ok := e.recv.(W)
	if !ok || e.Kind != Unary || PointerOf(fn) != e.PC {
		return e.typed.Load() != nil
	}
	run := func(wf, in any) (any, error) {
		c, ok := wf.(C)
		if !ok {
			return nil, e.badContext(wf)
		}
		req, err := request[In](in, e)
		if err != nil {
			return nil, err
		}
		return box(fn(w, c, req))
	}
	return e.typed.CompareAndSwap(nil, &run) || e.typed.Load() != nil
}

// SpecializeExecuteErr is [SpecializeExecute] for an Execute that returns only
// an error.
func SpecializeExecuteErr[W, C, In any](e *Entrypoint, fn func(W, C, In) error) bool {
	w, ok := e.recv.(W)
	if !ok || e.Kind != ErrOnly || PointerOf(fn) != e.PC {
		return e.typed.Load() != nil
	}
	run := func(wf, in any) (any, error) {
		c, ok := wf.(C)
		if !ok {
			return nil, e.badContext(wf)
		}
		req, err := request[In](in, e)
		if err != nil {
			return nil, err
		}
		return nil, fn(w, c, req)
	}
	return e.typed.CompareAndSwap(nil, &run) || e.typed.Load() != nil
}

// receiverFor finds the receiver that fn, the expression of m on E, takes.
func receiverFor[E any](m *Method, fn any, kind Kind) (recv E, ok bool) {
	if m.Kind != kind || m.recv == nil {
		return recv, false
	}
	pc := PointerOf(fn)
	if e, same := m.recv.(E); same && (pc == m.PC || isInterfaceMethod(fn, m.Name)) {
		return e, true
	}
	if pc == 0 || pc == m.PC || pc != m.expressionOn(reflect.TypeFor[E]()) {
		return recv, false
	}
	r, ok := m.Receiver(reflect.TypeFor[E]())
	if !ok {
		return recv, false
	}
	recv, ok = r.(E)
	return recv, ok
}

func isInterfaceMethod(fn any, name string) bool {
	n := NameOf(fn)
	return n.Kind == InterfaceMethod && n.Method == name
}

// expressionOn returns the code pointer of the method's expression on t.
func (m *Method) expressionOn(t reflect.Type) uintptr {
	if t.Kind() == reflect.Interface {
		return 0
	}
	f, ok := t.MethodByName(m.Name)
	if !ok {
		return 0
	}
	return f.Func.Pointer()
}

// request is argument for a type known statically.
func request[In any](in any, who fmt.Stringer) (In, error) {
	switch v := in.(type) {
	case *In:
		if v != nil {
			return *v, nil
		}
	case In:
		return v, nil
	}
	var zero In
	v, err := argument(in, reflect.TypeFor[In](), who)
	if err != nil {
		return zero, err
	}
	reflect.ValueOf(&zero).Elem().Set(v)
	return zero, nil
}

func box[Out any](out Out, err error) (any, error) { return out, err }
