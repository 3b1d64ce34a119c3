package handler_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/handler/internal/elsewhere"
)

func plain(context.Context, Empty) error { return nil }

func makeClosure[T any]() any { return func(*T, context.Context, Empty) error { return nil } }

var global = func(context.Context, Empty) error { return nil }

func TestNameOf(t *testing.T) {
	t.Parallel()
	type local struct{ elsewhere.Base }
	type localAPI interface {
		Touch(context.Context, string) (int, error)
	}
	c := newCounter()
	for _, tc := range []struct {
		fn   any
		want string
		kind handler.FuncKind
	}{
		{(*Counter).Add, "(*handler_test.Counter).Add", handler.MethodExpr},
		{Counter.List, "handler_test.Counter.List", handler.MethodExpr},
		{(*generic[int]).Ptr, "(*handler_test.generic[...]).Ptr", handler.MethodExpr},
		{generic[int].Val, "handler_test.generic[...].Val", handler.MethodExpr},
		{(*elsewhere.Box[Entry]).Get, "(*elsewhere.Box[...]).Get", handler.MethodExpr},
		{(*local).Touch, "(*handler_test.local).Touch", handler.MethodExpr},
		{local.Look, "handler_test.local.Look", handler.MethodExpr},
		{CounterAPI.Add, "handler_test.CounterAPI.Add", handler.InterfaceMethod},
		{localAPI.Touch, "handler_test.localAPI.Touch", handler.InterfaceMethod},
		{c.Add, "(*handler_test.Counter).Add", handler.MethodValue},
		{c.List, "handler_test.Counter.List", handler.MethodValue},
		{CounterAPI(c).Add, "handler_test.CounterAPI.Add", handler.MethodValue},
		{(&generic[int]{}).Ptr, "(*handler_test.generic[...]).Ptr", handler.MethodValue},
		{plain, "handler_test.plain", handler.PlainFunc},
		{func() {}, "", handler.Closure},
		{func() { func() { _ = c }() }, "", handler.Closure},
		{global, "", handler.Closure},
		{makeClosure[int](), "", handler.Closure},
		{elsewhere.BoxExpr[int](), "", handler.Closure},
		{context.Background, "context.Background", handler.PlainFunc},
		{strings.Cut, "strings.Cut", handler.PlainFunc},
	} {
		n := handler.NameOf(tc.fn)
		if n.Kind != tc.kind {
			t.Errorf("%s: kind %d, want %d", n.Full, n.Kind, tc.kind)
		}
		if tc.want != "" && n.Expression() != tc.want {
			t.Errorf("%s: expression %s, want %s", n.Full, n.Expression(), tc.want)
		}
	}
	var none func()
	for _, fn := range []any{nil, 3, none, "x"} {
		if n := handler.NameOf(fn); n != (handler.FuncName{}) {
			t.Errorf("NameOf(%v) = %+v", fn, n)
		}
		if pc := handler.PointerOf(fn); pc != 0 {
			t.Errorf("PointerOf(%v) = %d", fn, pc)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	c := newCounter()
	var none func(*Counter, context.Context, Empty) error
	texts := make(golden)
	for name, fn := range map[string]any{
		"nil":                      nil,
		"no function":              42,
		"nil function":             none,
		"method value":             c.Add,
		"method value, by value":   c.List,
		"method value, interface":  CounterAPI(c).Add,
		"closure":                  func(c *Counter, ctx context.Context, in AddRequest) (int64, error) { return c.Add(ctx, in) },
		"closure without receiver": func() {},
		"generic closure":          makeClosure[Counter](),
		"type parameter":           elsewhere.BoxExpr[int](),
		"function":                 plain,
		"global closure":           global,
	} {
		texts.add(name, handler.Explain(fn))
	}
	for _, fn := range []any{(*Counter).Add, Counter.List, CounterAPI.Add, (*generic[int]).Get, (*Other).Add} {
		if err := handler.Explain(fn); err != nil {
			t.Errorf("Explain of a method expression = %v", err)
		}
	}
	texts.compare(t, "explain")
}

type strangerAPI interface {
	Strange(context.Context, Empty) error
}

type localAPI interface{ Sum() int64 }

type secretAPI interface {
	Secret(context.Context, Empty) error
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	e := scanEntity(t, newCounter())
	w := scanWorkflow(t, &OrderWorkflow{})
	s := scanEntity(t, &shapes{Deep: &Deep{}})
	texts := make(golden)
	for name, tc := range map[string]struct {
		table *handler.Table
		fn    any
	}{
		"another type":              {e.Table, (*Other).Add},
		"unmarked group":            {e.Table, (*Plain).Secret},
		"promoted, unmarked":        {e.Table, (*Counter).Secret},
		"private":                   {e.Table, (*Counter).Local},
		"no context":                {e.Table, (*Counter).Sum},
		"unexported":                {e.Table, (*Counter).hidden},
		"interface of others":       {e.Table, strangerAPI.Strange},
		"interface, no context":     {e.Table, localAPI.Sum},
		"interface, unpublished":    {e.Table, secretAPI.Secret},
		"closure":                   {e.Table, func() {}},
		"activity of another":       {w.Table, (*Auditable).Log},
		"execute":                   {w.Table, (*OrderWorkflow).Execute},
		"workflow helper":           {w.Table, (*OrderWorkflow).Step},
		"group's, overridden":       {s.Table, (*Deep).Dive},
		"function with no argument": {e.Table, context.Background},
	} {
		m, err := tc.table.Resolve(tc.fn)
		if err == nil {
			t.Errorf("%s: Resolve = %v", name, m)
		}
		texts.add(name, err)
	}
	texts.compare(t, "resolve")
}

func TestResolveUnknownGroup(t *testing.T) {
	t.Parallel()
	e := scanEntity(t, newCounter())
	_, err := e.ByGroupPointer(handler.PointerOf((*Other).Add))
	want := "not a handler of *handler_test.Counter: no group in it has that method"
	if err == nil || cmp.Diff(want, err.Error()) != "" {
		t.Errorf("ByGroupPointer = %v, want %s", err, want)
	}
}
