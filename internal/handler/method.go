package handler

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"sync"
	"sync/atomic"
)

// Method is one handler of a type. It is immutable but for the typed invoker
// that [Specialize] may add, and safe for concurrent use.
type Method struct {
	MethodOptions

	Name   string
	Kind   Kind
	In     reflect.Type // request
	Out    reflect.Type // result, item of a Stream, nil for ErrOnly
	Tagged bool         // a marker names the method

	Group reflect.Type // the struct that declares it if that is not the registered one
	Path  []string     // fields to Group, outermost first
	File  string
	Line  int
	PC    uintptr // code pointer; 0 for a method of an interface
	Index int     // position in Table.Methods

	owner string // for texts: "*shop.Counter"
	index []int  // fields to Group
	recv  any    // the registered value; nil if only the type was scanned
	call  caller
	typed atomic.Pointer[typed]
}

// typed holds the invokers that static code has supplied.
type typed struct {
	invoke func(context.Context, any) (any, error)
	stream func(context.Context, any) iter.Seq2[any, error]
}

// String spells the method expression.
func (m *Method) String() string { return expression(m.owner, m.Name) }

// Bound reports whether the method has a receiver and can run.
func (m *Method) Bound() bool { return m.call.fn.IsValid() }

// NewIn returns a pointer to a new zero request, to decode into.
func (m *Method) NewIn() any { return reflect.New(m.In).Interface() }

// NewOut returns a pointer to a new zero result or stream item, to decode into.
// It is nil for a method that returns only an error.
func (m *Method) NewOut() any {
	if m.Out == nil {
		return nil
	}
	return reflect.New(m.Out).Interface()
}

// Invoke runs a Unary or ErrOnly method. in is a request, or a pointer to one
// as NewIn returns it. out is the result by value, nil for ErrOnly. A panic of
// the method is not recovered.
func (m *Method) Invoke(ctx context.Context, in any) (out any, err error) {
	if t := m.typed.Load(); t != nil && t.invoke != nil {
		return t.invoke(ctx, in)
	}
	if m.Kind == Stream {
		return nil, fmt.Errorf("%s is a stream: it has no single result", m)
	}
	if !m.Bound() {
		return nil, fmt.Errorf("%s is not hosted by this process: only its type is known", m)
	}
	arg, err := m.argument(in)
	if err != nil {
		return nil, err
	}
	return m.call.run(ctx, arg)
}

// InvokeStream runs a Stream method; in is as for Invoke. The method itself is
// called at once, its sequence as the caller consumes it. What Invoke would
// return as an error of its own is the only item of the sequence.
func (m *Method) InvokeStream(ctx context.Context, in any) iter.Seq2[any, error] {
	if t := m.typed.Load(); t != nil && t.stream != nil {
		return t.stream(ctx, in)
	}
	if m.Kind != Stream {
		return failed(fmt.Errorf("%s is no stream", m))
	}
	if !m.Bound() {
		return failed(fmt.Errorf("%s is not hosted by this process: only its type is known", m))
	}
	arg, err := m.argument(in)
	if err != nil {
		return failed(err)
	}
	seq := m.call.stream(ctx, arg)
	if seq.IsNil() {
		return failed(fmt.Errorf("%s returned a nil sequence", m))
	}
	return func(yield func(any, error) bool) {
		for item, e := range seq.Seq2() {
			err, _ := e.Interface().(error)
			if !yield(item.Interface(), err) {
				return
			}
		}
	}
}

func failed(err error) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) { yield(nil, err) }
}

func (m *Method) argument(in any) (reflect.Value, error) { return argument(in, m.In, m) }

// argument converts what Invoke takes to a value of the request type.
func argument(in any, want reflect.Type, who fmt.Stringer) (reflect.Value, error) {
	v := reflect.ValueOf(in)
	switch {
	case !v.IsValid():
		if k := want.Kind(); k == reflect.Pointer || k == reflect.Interface || k == reflect.Map || k == reflect.Slice {
			return reflect.Zero(want), nil
		}
	case v.Kind() == reflect.Pointer && v.Type().Elem() == want:
		if !v.IsNil() {
			return v.Elem(), nil
		}
	case v.Type().AssignableTo(want):
		return v, nil
	}
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return reflect.Value{}, fmt.Errorf("%s: nil request, want %s", who, want)
	}
	return reflect.Value{}, fmt.Errorf("%s: request of type %s, want %s", who, v.Type(), want)
}

// Receiver returns the value of type t that the method's expression on t takes:
// the registered value, or the embedded group on the way to the declaring one.
// ok is false if t is neither, or nothing is hosted.
func (m *Method) Receiver(t reflect.Type) (recv any, ok bool) {
	if m.recv == nil {
		return nil, false
	}
	v := reflect.ValueOf(m.recv)
	if v.Type() == t {
		return m.recv, true
	}
	v = v.Elem()
	for _, i := range m.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return nil, false
			}
			v = v.Elem()
		}
		v = v.Field(i)
		p := v
		if v.Kind() != reflect.Pointer {
			p = v.Addr()
		}
		if p.Type() == t {
			// NewAt drops the mark of an unexported field.
			return reflect.NewAt(t.Elem(), p.UnsafePointer()).Interface(), true
		}
	}
	return nil, false
}

// caller runs a function (receiver, context, In) (...) through reflection. That
// is cheaper than a method value, which costs a look-up and an allocation more.
type caller struct {
	fn   reflect.Value
	pool *sync.Pool // of *args
}

// args are the arguments of one call. The context sits in a variable of its
// interface type, which spares a conversion for each call.
type args struct {
	ctx context.Context
	in  [3]reflect.Value
}

func newCaller(fn, recv reflect.Value) caller {
	return caller{fn: fn, pool: &sync.Pool{New: func() any {
		a := new(args)
		a.in[0], a.in[1] = recv, reflect.ValueOf(&a.ctx).Elem()
		return a
	}}}
}

func (c *caller) call(ctx context.Context, in reflect.Value) []reflect.Value {
	a, _ := c.pool.Get().(*args)
	a.ctx, a.in[2] = ctx, in
	out := c.fn.Call(a.in[:])
	a.ctx, a.in[2] = nil, reflect.Value{}
	c.pool.Put(a)
	return out
}

func (c *caller) run(ctx context.Context, in reflect.Value) (any, error) {
	return results(c.call(ctx, in))
}

func (c *caller) stream(ctx context.Context, in reflect.Value) reflect.Value {
	return c.call(ctx, in)[0]
}

// results unpacks (Out, error) or error.
func results(res []reflect.Value) (out any, err error) {
	last := res[len(res)-1]
	if !last.IsNil() {
		err, _ = last.Interface().(error)
	}
	if len(res) == 2 {
		out = res[0].Interface()
	}
	return out, err
}
