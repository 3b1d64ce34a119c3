package handler_test

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/handler/internal/cruster"
	"github.com/cruster-go/cruster/internal/handler/internal/elsewhere"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// eachWay runs f with the method as scanned, and specialised.
func eachWay(t *testing.T, method string, specialize func(*handler.Method) bool, f func(*testing.T, *Counter, *handler.Method)) {
	t.Helper()
	for _, way := range []string{"reflect", "typed"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := newCounter()
			m, ok := scanEntity(t, c).ByName(method)
			if !ok {
				t.Fatalf("no method %s", method)
			}
			if way == "typed" && (!specialize(m) || !m.Specialized() || !specialize(m)) {
				t.Fatalf("%s cannot be specialised", m)
			}
			f(t, c, m)
		})
	}
}

func TestInvokeUnary(t *testing.T) {
	t.Parallel()
	eachWay(t, "Add", func(m *handler.Method) bool { return handler.Specialize(m, (*Counter).Add) },
		func(t *testing.T, c *Counter, m *handler.Method) {
			in := m.NewIn()
			*in.(*AddRequest) = AddRequest{Amount: 5}
			if out, err := m.Invoke(t.Context(), in); out != any(int64(5)) || err != nil {
				t.Errorf("Invoke(pointer) = %v, %v", out, err)
			}
			if out, err := m.Invoke(t.Context(), AddRequest{Amount: 2}); out != any(int64(7)) || err != nil {
				t.Errorf("Invoke(value) = %v, %v", out, err)
			}
			if out, err := m.Invoke(t.Context(), AddRequest{Amount: -1}); out != any(int64(7)) || !errors.Is(err, errNegative) {
				t.Errorf("Invoke(-1) = %v, %v: want both results of the method", out, err)
			}
			if c.sum != 7 {
				t.Errorf("the registered value was not the receiver: sum = %d", c.sum)
			}
			if _, ok := m.NewOut().(*int64); !ok {
				t.Errorf("NewOut is a %T", m.NewOut())
			}
			for _, bad := range []any{nil, 5, (*AddRequest)(nil), &Empty{}} {
				_, err := m.Invoke(t.Context(), bad)
				if err == nil || !strings.Contains(err.Error(), "want handler_test.AddRequest") {
					t.Errorf("Invoke(%T) = %v, want an error that names the right type", bad, err)
				}
			}
		})
}

func TestInvokeErrOnly(t *testing.T) {
	t.Parallel()
	eachWay(t, "Reset", func(m *handler.Method) bool { return handler.SpecializeErr(m, (*Counter).Reset) },
		func(t *testing.T, c *Counter, m *handler.Method) {
			c.sum = 3
			if out, err := m.Invoke(t.Context(), Empty{}); out != nil || err != nil || c.sum != 0 {
				t.Errorf("Invoke = %v, %v; sum %d", out, err, c.sum)
			}
			if m.NewOut() != nil {
				t.Errorf("NewOut of a method without result is a %T", m.NewOut())
			}
		})
}

func TestInvokePointerTypes(t *testing.T) {
	t.Parallel()
	eachWay(t, "Pointer", func(m *handler.Method) bool { return handler.Specialize(m, (*Counter).Pointer) },
		func(t *testing.T, c *Counter, m *handler.Method) {
			in, ok := m.NewIn().(**AddRequest)
			if !ok {
				t.Fatalf("NewIn is a %T", m.NewIn())
			}
			*in = &AddRequest{Amount: 1}
			for _, arg := range []any{in, *in} {
				out, err := m.Invoke(t.Context(), arg)
				if e, ok := out.(*Entry); err != nil || !ok || e.Text != "&{1}" {
					t.Errorf("Invoke(%T) = %v, %v", arg, out, err)
				}
			}
			if out, err := m.Invoke(t.Context(), nil); err != nil || out.(*Entry).Text != "<nil>" {
				t.Errorf("Invoke(nil) = %v, %v", out, err)
			}
		})
}

func TestInvokeStream(t *testing.T) {
	t.Parallel()
	eachWay(t, "List", func(m *handler.Method) bool { return handler.SpecializeStream(m, (*Counter).List) },
		func(t *testing.T, c *Counter, m *handler.Method) {
			type item struct {
				V   any
				Err string
			}
			collect := func(seq iter.Seq2[any, error], most int) (items []item) {
				for v, err := range seq {
					it := item{V: v}
					if err != nil {
						it.Err = err.Error()
					}
					if items = append(items, it); len(items) == most {
						break
					}
				}
				return items
			}
			want := []item{{V: int64(0)}, {V: int64(1)}, {V: int64(0), Err: "negative amount"}}
			if diff := cmp.Diff(want, collect(m.InvokeStream(t.Context(), &AddRequest{Amount: 2}), -1)); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want[:1], collect(m.InvokeStream(t.Context(), AddRequest{Amount: 2}), 1)); diff != "" {
				t.Errorf("items after a break (-want +got):\n%s", diff)
			}
			nilSeq := []item{{Err: "(*handler_test.Counter).List returned a nil sequence"}}
			if diff := cmp.Diff(nilSeq, collect(m.InvokeStream(t.Context(), AddRequest{Amount: -1}), -1)); diff != "" {
				t.Errorf("nil sequence (-want +got):\n%s", diff)
			}
			if got := collect(m.InvokeStream(t.Context(), 7), -1); len(got) != 1 || got[0].Err == "" {
				t.Errorf("bad request: %v", got)
			}
			if _, err := m.Invoke(t.Context(), AddRequest{}); err == nil {
				t.Error("Invoke of a stream succeeds")
			}
		})
	m, _ := scanEntity(t, newCounter()).ByName("Add")
	for _, err := range m.InvokeStream(t.Context(), AddRequest{}) {
		if err == nil {
			t.Error("InvokeStream of a unary method succeeds")
		}
	}
}

func TestInvokeGroup(t *testing.T) {
	t.Parallel()
	eachWay(t, "Log", func(m *handler.Method) bool { return handler.Specialize(m, (*Auditable).Log) },
		func(t *testing.T, c *Counter, m *handler.Method) {
			if out, err := m.Invoke(t.Context(), Entry{"a"}); out != any(1) || err != nil {
				t.Errorf("Invoke = %v, %v", out, err)
			}
			if len(c.log) != 1 {
				t.Error("the group within the registered value was not the receiver")
			}
		})
}

func TestSpecializeRefuses(t *testing.T) {
	t.Parallel()
	e := scanEntity(t, newCounter())
	add, _ := e.ByName("Add")
	log, _ := e.ByName("Log")
	closure := func(c *Counter, ctx context.Context, in AddRequest) (int64, error) { return c.Add(ctx, in) }
	if handler.Specialize(add, closure) || handler.Specialize(add, (*Other).Add) || handler.SpecializeErr(add, (*Counter).Reset) ||
		handler.Specialize(log, (*overridden).Log) || handler.SpecializeStream(add, (*Counter).List) {
		t.Error("specialised by a function that is not the method's expression")
	}
	if add.Specialized() || log.Specialized() {
		t.Error("a refused function left a typed invoker")
	}
	unbound, err := handler.ScanEntityType(typeOf[*Counter](), markers)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range unbound.Methods() {
		if m.Kind == handler.Stream {
			for _, err := range m.InvokeStream(t.Context(), m.NewIn()) {
				if err == nil {
					t.Errorf("%s runs without receiver", m)
				}
			}
			continue
		}
		if _, err := m.Invoke(t.Context(), m.NewIn()); err == nil || !strings.Contains(err.Error(), "not hosted") {
			t.Errorf("%s without receiver: %v", m, err)
		}
	}
	if m, _ := unbound.ByName("Add"); handler.Specialize(m, (*Counter).Add) {
		t.Error("specialised without receiver")
	}
	if !handler.Specialize(add, CounterAPI.Add) {
		t.Error("not specialised by the expression of an interface")
	}
	if out, err := add.Invoke(t.Context(), AddRequest{Amount: 1}); out != any(int64(1)) || err != nil {
		t.Errorf("Invoke through the interface = %v, %v", out, err)
	}
}

func TestReceiver(t *testing.T) {
	t.Parallel()
	d := &Deep{}
	s := &shapes{Deep: d}
	m, _ := scanEntity(t, s).ByName("Bottom")
	for _, tc := range []struct {
		typ  reflect.Type
		want any
	}{
		{typeOf[*shapes](), s}, {typeOf[*Deep](), d}, {typeOf[*Deeper](), &d.Deeper},
		{typeOf[*elsewhere.Base](), nil}, {typeOf[shapes](), nil},
	} {
		got, ok := m.Receiver(tc.typ)
		if ok != (tc.want != nil) || got != tc.want {
			t.Errorf("Receiver(%s) = %p, %t; want %p", tc.typ, got, ok, tc.want)
		}
	}
}

// lower embeds an unexported group, whose fields reflection guards.
type lower struct {
	_ cruster.Entity
	inner
}

type inner struct {
	_ cruster.RPC
	n int
}

func (i *inner) Inc(context.Context, Empty) (int, error) { i.n++; return i.n, nil }

func TestUnexportedGroup(t *testing.T) {
	t.Parallel()
	l := &lower{}
	m, ok := scanEntity(t, l).ByName("Inc")
	if !ok {
		t.Fatal("exported method of an unexported group is not published")
	}
	if out, err := m.Invoke(t.Context(), Empty{}); out != any(1) || err != nil {
		t.Errorf("Invoke = %v, %v", out, err)
	}
	if !handler.Specialize(m, (*inner).Inc) {
		t.Fatal("not specialised by the group's expression")
	}
	if out, err := m.Invoke(t.Context(), Empty{}); out != any(2) || err != nil || l.n != 2 {
		t.Errorf("Invoke = %v, %v; n = %d", out, err, l.n)
	}
}

func TestExecute(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"reflect", "typed"} {
		x := scanWorkflow(t, &OrderWorkflow{}).Execute
		if way == "typed" && !handler.SpecializeExecute(x, (*OrderWorkflow).Execute) {
			t.Fatal("Execute cannot be specialised")
		}
		if _, ok := x.NewOut().(*Entry); !ok {
			t.Errorf("%s: NewOut is a %T", way, x.NewOut())
		}
		wf := &cruster.WorkflowContext{Name: "n"}
		if out, err := x.Invoke(wf, AddRequest{Amount: 1}); out != any(Entry{"n1"}) || err != nil {
			t.Errorf("%s: Invoke = %v, %v", way, out, err)
		}
		if out, err := x.Invoke(wf, x.NewIn()); out != any(Entry{"n0"}) || err != nil {
			t.Errorf("%s: Invoke = %v, %v", way, out, err)
		}
		for _, bad := range []any{nil, 7} {
			if _, err := x.Invoke(bad, AddRequest{}); err == nil || !strings.Contains(err.Error(), "want *cruster.WorkflowContext") {
				t.Errorf("%s: Invoke with the context %v: %v", way, bad, err)
			}
		}
		if _, err := x.Invoke(wf, 3); err == nil {
			t.Errorf("%s: Invoke with a bad request succeeds", way)
		}
	}
	x := scanWorkflow(t, &twice{}).Execute
	if handler.SpecializeExecute(x, (*OrderWorkflow).Execute) || !handler.SpecializeExecuteErr(x, (*twice).Execute) {
		t.Error("Execute is specialised by another method, or not by its own")
	}
	if out, err := x.Invoke(&cruster.WorkflowContext{}, Empty{}); out != nil || err != nil {
		t.Errorf("Invoke = %v, %v", out, err)
	}
}

type unruly struct{ _ cruster.Entity }

func (*unruly) Panics(context.Context, Empty) error { panic("boom") }
func (*unruly) Exits(context.Context, Empty) error  { runtime.Goexit(); return nil }

// TestUnwinding checks that panics and Goexit pass through reflection.
func TestUnwinding(t *testing.T) {
	t.Parallel()
	e := scanEntity(t, &unruly{})
	m, _ := e.ByName("Panics")
	func() {
		defer func() {
			if r := recover(); r != "boom" {
				t.Errorf("recovered %v, want the method's own panic", r)
			}
		}()
		m.Invoke(t.Context(), Empty{}) //nolint:errcheck // it panics
	}()
	x, _ := e.ByName("Exits")
	done := make(chan bool)
	go func() {
		defer close(done)
		x.Invoke(t.Context(), Empty{}) //nolint:errcheck // it exits
		t.Error("Invoke returned after Goexit")
	}()
	<-done
}
