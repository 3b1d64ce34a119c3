package handler

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
)

// Table holds the handlers of one type. It is built once; afterwards it only
// learns the code pointers of interface methods that [Table.Resolve] has seen.
// It is safe for concurrent use.
type Table struct {
	typ     reflect.Type // *Counter, or an interface
	name    string
	methods []*Method
	skipped []Skip
	byName  map[string]*Method
	groups  map[uintptr]groupEntry
	embeds  map[reflect.Type][]*node // published groups by type

	byPC  atomic.Pointer[map[uintptr]*Method]
	learn sync.Mutex // serialises writers of byPC
}

// Skip is a method that is not published.
type Skip struct {
	Name       string
	Reason     string
	Visibility Visibility // Private if a tag says so
	File       string
	Line       int
}

// groupEntry is what the expression of an embedded type stands for.
type groupEntry struct {
	method *Method // nil if none or several
	err    error
}

// Type returns the registered pointer type, or the interface of a contract.
func (t *Table) Type() reflect.Type { return t.typ }

// Name returns the name under which the type is registered.
func (t *Table) Name() string { return t.name }

// Methods returns the handlers, sorted by name. The slice must not be modified.
func (t *Table) Methods() []*Method { return t.methods }

// Skipped returns the methods that are not published although they are exported
// and take a context first, sorted by name: those of embedded types without
// markers, hidden ones, and those that are tagged private.
func (t *Table) Skipped() []Skip { return t.skipped }

// ByName returns the handler of that name.
func (t *Table) ByName(name string) (*Method, bool) {
	m, ok := t.byName[name]
	return m, ok
}

// ByPointer returns the handler with that code pointer, see [PointerOf].
func (t *Table) ByPointer(pc uintptr) (*Method, bool) {
	m, ok := (*t.byPC.Load())[pc]
	return m, ok
}

// ByGroupPointer returns the handler that the expression of an embedded group,
// such as (*Inventory).Reserve, stands for in this type. The error says why it
// stands for none, or for several.
func (t *Table) ByGroupPointer(pc uintptr) (*Method, error) {
	e, ok := t.groups[pc]
	if !ok {
		return nil, fmt.Errorf("%w of %s: no group in it has that method", ErrNotHandler, t.typ)
	}
	return e.method, e.err
}

// CheckGroup reports why group, a struct or a pointer to one, is not exactly
// one published group of the type.
func (t *Table) CheckGroup(group reflect.Type) error {
	g := group
	if g != nil && g.Kind() == reflect.Pointer {
		g = g.Elem()
	}
	switch at := t.embeds[g]; len(at) {
	case 0:
		return fmt.Errorf("%s has no group %s: embed it, and give it a marker", t.typ, group)
	case 1:
		return nil
	default:
		return fmt.Errorf("%s embeds the group %s several times, as %s", t.typ, group, places(at))
	}
}

// Resolve returns the handler that fn stands for: a method expression of the
// registered type, of one of its groups, or of an interface it implements. The
// error says what fn is instead and what to write.
func (t *Table) Resolve(fn any) (*Method, error) {
	ft := reflect.TypeOf(fn)
	pc := PointerOf(fn)
	if pc == 0 {
		return nil, explain(fn, t.example())
	}
	if m, ok := t.ByPointer(pc); ok {
		return m, nil
	}
	if e, ok := t.groups[pc]; ok {
		return e.method, e.err
	}
	if err := explain(fn, t.example()); err != nil {
		return nil, err
	}
	n, recv := NameOf(fn), ft.In(0) // a method expression takes its receiver
	switch {
	case n.Kind == InterfaceMethod && t.typ.Implements(recv):
		if m, ok := t.byName[n.Method]; ok {
			t.remember(pc, m)
			return m, nil
		}
		return nil, t.unpublished(n.Method)
	case n.Kind == InterfaceMethod:
		return nil, fmt.Errorf("%w: %s is a method of %s, which %s does not implement", ErrNotHandler, n.Expression(), recv, t.typ)
	case recv == t.typ:
		return nil, t.unpublished(n.Method)
	case t.typ.Kind() == reflect.Interface && recv.Implements(t.typ):
		return nil, fmt.Errorf("%w: %s belongs to an implementation of the contract %s; write %s",
			ErrNotHandler, expression(recv.String(), n.Method), t.typ, expression(t.typ.String(), n.Method))
	default:
		return nil, fmt.Errorf("%w: %s is a method of %s, not of %s or a group of it", ErrNotHandler, expression(recv.String(), n.Method), recv, t.typ)
	}
}

// example is the expression of some handler of the type.
func (t *Table) example() string {
	name := "Method"
	if len(t.methods) > 0 {
		name = t.methods[0].Name
	}
	return expression(t.typ.String(), name)
}

// unpublished says why a method of the type is in no table.
func (t *Table) unpublished(name string) error {
	what := expression(t.typ.String(), name)
	for _, s := range t.skipped {
		if s.Name == name {
			return fmt.Errorf("%w: %s is not published: %s", ErrNotHandler, what, s.Reason)
		}
	}
	if !exported(name) {
		return fmt.Errorf("%w: %s is unexported, and unexported methods are never dispatched", ErrNotHandler, what)
	}
	return fmt.Errorf("%w: %s does not take a context.Context first", ErrNotHandler, what)
}

// remember adds a code pointer to the table.
func (t *Table) remember(pc uintptr, m *Method) {
	t.learn.Lock()
	defer t.learn.Unlock()
	next := maps.Clone(*t.byPC.Load())
	next[pc] = m
	t.byPC.Store(&next)
}

// newTable indexes methods, which are sorted by name.
func newTable(typ reflect.Type, name string, methods []*Method, skipped []Skip) *Table {
	t := &Table{typ: typ, name: name, methods: methods, skipped: skipped, byName: make(map[string]*Method, len(methods))}
	byPC := make(map[uintptr]*Method, len(methods))
	for i, m := range methods {
		m.Index = i
		t.byName[m.Name] = m
		if m.PC != 0 {
			byPC[m.PC] = m
		}
	}
	t.byPC.Store(&byPC)
	return t
}

// places spells the paths of nodes: "T.A.H and T.B.H".
func places(nodes []*node) string {
	s := make([]string, len(nodes))
	for i, n := range nodes {
		s[i] = n.where()
	}
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " and " + s[len(s)-1]
}
