package handler

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// scanner reads one type. Its faults are collected, never returned early.
type scanner struct {
	typ    reflect.Type  // *Counter
	val    reflect.Value // invalid if only the type is scanned
	m      *Markers
	kind   markKind // markEntity or markWorkflow
	root   *node
	nodes  []*node // root and all below, parents first
	faults faults
	told   map[string]bool // ambiguous and hidden methods reported already
}

func newScanner(t reflect.Type, v reflect.Value, m *Markers, kind markKind) *scanner {
	s := &scanner{typ: t, val: v, m: m, kind: kind, faults: faults{typ: t.String()}, told: make(map[string]bool)}
	root, ok := walk(t.Elem(), m)
	if !ok {
		s.faults.add(t.String(), "", "it embeds more than %d structs, counting each path", maxNodes)
		root.children = nil
	}
	s.root = root
	root.each(func(n *node) { s.nodes = append(s.nodes, n) })
	s.checkMarks()
	return s
}

// methodKind is the marker of the methods of the scanned kind of type.
func (s *scanner) methodKind() markKind { return s.kind + 1 }

// checkMarks reports bad markers of the type and its published groups, and
// groups that are nil.
func (s *scanner) checkMarks() {
	done := make(map[reflect.Type]bool)
	for _, n := range s.nodes {
		if !n.open {
			continue
		}
		if !done[n.typ] {
			done[n.typ] = true
			s.checkMarksOf(n)
		}
		if n.byPtr && s.val.IsValid() && s.isNil(n) {
			s.faults.add(s.typ.String(), "", "the embedded group *%s is nil: set the field %s before registering", n.typ, n.where())
		}
	}
}

func (s *scanner) checkMarksOf(n *node) {
	typ := n.typ.String()
	for _, p := range n.marks.problems {
		s.faults.add(typ, "", "%s", p)
	}
	for k, count := range n.marks.kinds {
		kind := markKind(k)
		if count == 0 || kind == s.kind || kind == s.methodKind() {
			continue
		}
		if n == s.root {
			s.faults.add(typ, "", "a %s marker has no place in %s", kind, article(s.kind))
			continue
		}
		s.faults.add(typ, "", "a struct with %s markers cannot be embedded in %s: %s carries %s markers only", kind, article(s.kind), groupName(s.kind), s.methodKind())
	}
}

func article(k markKind) string {
	if k == markEntity {
		return "an entity"
	}
	return "a workflow"
}

func groupName(k markKind) string {
	if k == markEntity {
		return "an RPC group"
	}
	return "an activity group"
}

// isNil reports whether the pointer at n, or one above it, is nil.
func (s *scanner) isNil(n *node) bool {
	v := s.val.Elem()
	for _, i := range n.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return false // reported for the node above
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// head is the marker that names the type.
type head struct {
	name     string
	given    bool // the tag gives the name
	entity   EntityOptions
	workflow WorkflowOptions
}

// head finds the shallowest Entity or Workflow marker with a tag, or else the
// shallowest without.
func (s *scanner) head() head {
	found := s.shallowest(func(n *node) bool { return n.marks.headTag && n.marks.kinds[s.kind] > 0 })
	if len(found) == 0 {
		found = s.shallowest(func(n *node) bool { return n.marks.kinds[s.kind] > 0 })
	}
	h := head{name: s.typ.Elem().Name()}
	switch len(found) {
	case 0:
		s.faults.add(s.typ.String(), fmt.Sprintf("a field _ %s in the struct", s.kind), "it carries no %s marker", s.kind)
		return h
	case 1:
	default:
		s.faults.add(s.typ.String(), fmt.Sprintf("a field _ %s in %s itself", s.kind, s.typ.Elem()), "%s carry %s markers at the same depth", places(found), s.kind)
	}
	ms := found[0].marks
	h.entity, h.workflow = ms.entity, ms.workflow
	if ms.name != "" {
		h.name, h.given = ms.name, true
	} else if err := CheckName(h.name); err != nil {
		s.faults.add(s.typ.String(), "", "%v; give one in the tag of its %s marker", err, s.kind)
	}
	return h
}

// shallowest returns the published structs at the least depth at which any
// satisfies f.
func (s *scanner) shallowest(f func(*node) bool) []*node {
	for depth := 0; ; depth++ {
		level := s.root.level(depth)
		if len(level) == 0 {
			return nil
		}
		var found []*node
		for _, n := range level {
			if n.open && f(n) {
				found = append(found, n)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
}

// table builds the table of handlers.
func (s *scanner) table(h head) *Table {
	tags := s.resolveTags()
	var methods []*Method
	var skipped []Skip
	for i := range s.typ.NumMethod() {
		rm := s.typ.Method(i)
		if s.kind == markWorkflow && rm.Name == "Execute" {
			continue
		}
		m, skip := s.method(rm, tags[rm.Name])
		if m != nil {
			methods = append(methods, m)
		}
		if skip != nil {
			skipped = append(skipped, *skip)
		}
	}
	s.checkHidden()
	if s.kind == markEntity && len(methods) == 0 && len(s.faults.list) == 0 {
		s.faults.add(s.typ.String(), fmt.Sprintf("an exported method such as func (%s) Get(context.Context, In) (Out, error)", s.typ), "it has no handler")
	}
	t := newTable(s.typ, h.name, methods, skipped)
	s.indexGroups(t)
	return t
}

// method reads one method of the type's method set.
func (s *scanner) method(rm reflect.Method, tag *tagAt) (*Method, *Skip) {
	o := s.root.origin(rm.Name)
	if o == nil { // cannot be: what is in the method set comes from somewhere
		return nil, nil
	}
	pos, _ := o.position(rm.Name)
	lead := leads(rm.Type, 1, contextType)
	if !lead && tag == nil {
		return nil, nil
	}
	skip := &Skip{Name: rm.Name, File: pos.file, Line: pos.line}
	if tag != nil && tag.options.Visibility == Private {
		skip.Visibility, skip.Reason = Private, "it is tagged private"
		return nil, skip
	}
	typ := "*" + o.typ.String()
	if !o.open {
		skip.Reason = s.closedReason(o)
		if tag != nil && tag.at == s.root {
			s.faults.method(s.typ.String(), rm.Name, pos, fmt.Sprintf("a method %s of %s itself, or a marker in the embedded struct", rm.Name, s.typ),
				"it has a tag, but %s", skip.Reason)
		}
		return nil, skip
	}
	sig, problems := classify(rm.Type, 1, contextType)
	if len(problems) == 0 && sig.kind == Stream {
		if s.kind == markWorkflow {
			problems = append(problems, "returns a stream: an activity has one result")
			sig.kind = Unary
		} else if tag != nil && tag.options.Persisted {
			problems = append(problems, "is persisted and returns a stream: a stream cannot be stored")
		}
	}
	if len(problems) > 0 {
		want := wantSignature(typ, rm.Name, contextType.String(), sig)
		if lead && tag == nil {
			want += fmt.Sprintf(", or the tag %q on a field _ %s", rm.Name+",private", s.methodKind())
		}
		s.faults.method(typ, rm.Name, pos, want, "%s", strings.Join(problems, ", and "))
		return nil, nil
	}
	if err := CheckName(rm.Name); err != nil {
		s.faults.method(typ, rm.Name, pos, "", "%v", err)
	}
	for _, p := range sig.checkTravel(s.m.CheckType) {
		s.faults.method(typ, rm.Name, pos, "", "%s", p)
	}
	m := &Method{
		Name: rm.Name, Kind: sig.kind, In: sig.in, Out: sig.out,
		File: pos.file, Line: pos.line, PC: rm.Func.Pointer(), owner: s.typ.String(),
	}
	if tag != nil {
		m.MethodOptions, m.Tagged = tag.options, true
	}
	if o != s.root {
		m.Group, m.Path, m.index = o.typ, slices.Clone(o.path), slices.Clone(o.index)
	}
	if s.val.IsValid() {
		m.recv = s.val.Interface()
		m.call = newCaller(rm.Func, s.val)
	}
	return m, nil
}

// closedReason says why what o declares is not published.
func (s *scanner) closedReason(o *node) string {
	from := fmt.Sprintf("it is promoted from %s", o.typ)
	if o.marks == nil || !o.marks.any() {
		return from + ", which carries no marker"
	}
	for n := o.parent; n != nil; n = n.parent {
		if n.marks != nil && !n.open && !n.marks.any() {
			return fmt.Sprintf("%s through %s, which carries no marker", from, n.typ)
		}
	}
	return from
}

// execute reads the Execute method of a workflow.
func (s *scanner) execute() *Entrypoint {
	wf := s.m.WorkflowContext
	rm, ok := s.typ.MethodByName("Execute")
	if !ok {
		want := wantSignature(s.typ.String(), "Execute", wf.String(), signature{})
		if methods, fields := s.root.claimants("Execute"); len(methods)+len(fields) > 1 {
			s.faults.add(s.typ.String(), want, "Execute is ambiguous: it comes from %s", places(append(methods, fields...)))
			return nil
		}
		s.faults.add(s.typ.String(), want, "it has no method Execute")
		return nil
	}
	o := s.root.origin(rm.Name)
	pos, _ := o.position(rm.Name)
	typ := "*" + o.typ.String()
	sig, problems := classify(rm.Type, 1, wf)
	if sig.kind == Stream {
		problems = append(problems, "returns a stream: a workflow has one result")
		sig.kind = Unary
	}
	if len(problems) > 0 {
		s.faults.method(typ, rm.Name, pos, wantSignature(typ, rm.Name, wf.String(), sig), "%s", strings.Join(problems, ", and "))
		return nil
	}
	for _, p := range sig.checkTravel(s.m.CheckType) {
		s.faults.method(typ, rm.Name, pos, "", "%s", p)
	}
	e := &Entrypoint{
		Kind: sig.kind, Context: wf, In: sig.in, Out: sig.out,
		File: pos.file, Line: pos.line, PC: rm.Func.Pointer(), owner: s.typ.String(),
	}
	if s.val.IsValid() {
		e.recv, e.fn = s.val.Interface(), s.val.Method(rm.Index)
	}
	return e
}
