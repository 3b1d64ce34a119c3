package handler

import (
	"fmt"
	"reflect"
	"sync/atomic"
)

// Entity is what registration knows of an entity type.
type Entity struct {
	*Table
	Options EntityOptions
}

// Workflow is what registration knows of a workflow. Its table holds the
// activities; Execute is no part of it.
type Workflow struct {
	*Table
	Options WorkflowOptions
	Execute *Entrypoint
}

// Entrypoint is the Execute method of a workflow.
type Entrypoint struct {
	Kind    Kind         // Unary or ErrOnly
	Context reflect.Type // *cruster.WorkflowContext
	In      reflect.Type
	Out     reflect.Type // nil for ErrOnly
	File    string
	Line    int
	PC      uintptr

	owner string
	recv  any
	fn    reflect.Value // bound; invalid if only the type was scanned
	typed atomic.Pointer[func(wf, in any) (any, error)]
}

// String spells the method expression.
func (e *Entrypoint) String() string { return expression(e.owner, "Execute") }

// Bound reports whether there is a receiver.
func (e *Entrypoint) Bound() bool { return e.fn.IsValid() }

// NewIn returns a pointer to a new zero request, to decode into.
func (e *Entrypoint) NewIn() any { return reflect.New(e.In).Interface() }

// NewOut returns a pointer to a new zero result, or nil for ErrOnly.
func (e *Entrypoint) NewOut() any {
	if e.Out == nil {
		return nil
	}
	return reflect.New(e.Out).Interface()
}

// Invoke runs the workflow function. wf is of type Context; in and out are as
// for [Method.Invoke].
func (e *Entrypoint) Invoke(wf, in any) (out any, err error) {
	if run := e.typed.Load(); run != nil {
		return (*run)(wf, in)
	}
	if !e.Bound() {
		return nil, fmt.Errorf("%s is not hosted by this process: only its type is known", e)
	}
	c := reflect.ValueOf(wf)
	if !c.IsValid() || c.Type() != e.Context {
		return nil, e.badContext(wf)
	}
	arg, err := argument(in, e.In, e)
	if err != nil {
		return nil, err
	}
	return results(e.fn.Call([]reflect.Value{c, arg}))
}

func (e *Entrypoint) badContext(wf any) error {
	return fmt.Errorf("%s: workflow context of type %T, want %s", e, wf, e.Context)
}

// ScanEntity reads the entity type of impl, a non-nil pointer to a struct.
// Faults are reported as one [*RegistrationError].
func ScanEntity(impl any, m Markers) (*Entity, error) {
	v, err := receiver(impl)
	if err != nil {
		return nil, err
	}
	return scanEntity(v.Type(), v, &m)
}

// ScanEntityType reads an entity type that this process only calls. t is a
// pointer to a struct. The methods are not bound.
func ScanEntityType(t reflect.Type, m Markers) (*Entity, error) {
	if err := checkType(t); err != nil {
		return nil, err
	}
	return scanEntity(t, reflect.Value{}, &m)
}

// ScanWorkflow reads the workflow type of impl, a non-nil pointer to a struct.
// Faults are reported as one [*RegistrationError].
func ScanWorkflow(impl any, m Markers) (*Workflow, error) {
	v, err := receiver(impl)
	if err != nil {
		return nil, err
	}
	return scanWorkflow(v.Type(), v, &m)
}

// ScanWorkflowType reads a workflow type that this process only calls.
func ScanWorkflowType(t reflect.Type, m Markers) (*Workflow, error) {
	if err := checkType(t); err != nil {
		return nil, err
	}
	return scanWorkflow(t, reflect.Value{}, &m)
}

func receiver(impl any) (reflect.Value, error) {
	v := reflect.ValueOf(impl)
	if !v.IsValid() {
		return v, single("nil", "a pointer to a struct, such as &Counter{}", "there is nothing to register")
	}
	if err := checkType(v.Type()); err != nil {
		return v, err
	}
	if v.IsNil() {
		return v, single(v.Type().String(), "&"+v.Type().Elem().String()+"{}", "the pointer is nil")
	}
	return v, nil
}

func checkType(t reflect.Type) error {
	switch {
	case t == nil:
		return single("nil", "a pointer to a struct, such as *Counter", "there is no type")
	case t.Kind() == reflect.Struct:
		return single(t.String(), "&"+t.String()+"{}", "it is a struct value, which lacks the methods of its pointer")
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		return nil
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Pointer:
		return single(t.String(), t.Elem().String(), "it is a pointer to a pointer")
	default:
		return single(t.String(), "a pointer to a struct, such as &Counter{}", "it is no struct")
	}
}

func single(typ, want, format string, args ...any) error {
	f := faults{typ: typ}
	f.add(typ, want, format, args...)
	return f.err()
}

func scanEntity(t reflect.Type, v reflect.Value, m *Markers) (*Entity, error) {
	s := newScanner(t, v, m, markEntity)
	head := s.head()
	table := s.table(head)
	if err := s.faults.err(); err != nil {
		return nil, err
	}
	return &Entity{Table: table, Options: head.entity}, nil
}

func scanWorkflow(t reflect.Type, v reflect.Value, m *Markers) (*Workflow, error) {
	s := newScanner(t, v, m, markWorkflow)
	head := s.head()
	exec := s.execute()
	table := s.table(head)
	if err := s.faults.err(); err != nil {
		return nil, err
	}
	return &Workflow{Table: table, Options: head.workflow, Execute: exec}, nil
}
