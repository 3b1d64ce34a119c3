package handler

import (
	"fmt"
	"reflect"
	"slices"
	"unicode"
	"unicode/utf8"
)

// tagAt is a method tag and the struct that carries it.
type tagAt struct {
	methodTag
	at *node
}

// resolveTags finds the tag of each method of the type: the shallowest that
// speaks of it. Tags that name no method are faults.
func (s *scanner) resolveTags() map[string]*tagAt {
	all := make(map[string][]*tagAt)
	checked := make(map[reflect.Type]bool)
	for _, n := range s.nodes {
		if !n.open {
			continue
		}
		report := !checked[n.typ]
		checked[n.typ] = true
		for _, tag := range n.marks.methods {
			if tag.kind != s.methodKind() {
				continue // reported by checkMarks
			}
			if s.tagApplies(n, tag, report) {
				all[tag.method] = append(all[tag.method], &tagAt{methodTag: tag, at: n})
			}
		}
	}
	tags := make(map[string]*tagAt, len(all))
	for name, list := range all {
		best := slices.MinFunc(list, func(a, b *tagAt) int { return a.at.depth() - b.at.depth() })
		for _, t := range list {
			if t.at != best.at && t.at.depth() == best.at.depth() && t.options != best.options {
				o := s.root.origin(name)
				pos, _ := o.position(name)
				s.faults.method("*"+o.typ.String(), name, pos, "", "the tags of %s contradict each other: tag it in %s itself",
					places([]*node{best.at, t.at}), s.typ.Elem())
				break
			}
		}
		tags[name] = best
	}
	return tags
}

// tagApplies reports whether a tag at n speaks of the type's method of that
// name, and notes a fault if there is no such method at all.
func (s *scanner) tagApplies(n *node, tag methodTag, report bool) bool {
	name := tag.method
	spec := n != s.root && n.marks.kinds[s.kind] > 0
	has := n.hasMethod(name)
	if !has && spec {
		has = s.root.hasMethod(name)
	}
	if s.kind == markWorkflow && name == "Execute" {
		if report {
			s.faults.add(n.typ.String(), fmt.Sprintf("the options on the _ %s marker", s.kind), "the %s tag %q names the workflow function, which is no activity", tag.kind, name)
		}
		return false
	}
	if !has {
		if s.ambiguous(n, name) {
			return false
		}
		if report {
			s.unknownMethod(n, tag, spec)
		}
		return false
	}
	if n == s.root || spec {
		return s.root.hasMethod(name)
	}
	if !s.root.hasMethod(name) {
		return false // ambiguous or hidden: checkHidden tells
	}
	o := s.root.origin(name)
	own := n.origin(name) // what the tag speaks of
	return own == o || n.within(o)
}

func (s *scanner) unknownMethod(n *node, tag methodTag, spec bool) {
	set := n.methods
	if spec {
		set = s.typ
	}
	var names []string
	for i := range set.NumMethod() {
		if m := set.Method(i); leads(m.Type, 1, contextType) {
			names = append(names, m.Name)
		}
	}
	typ := n.typ.String()
	if !exported(tag.method) && nearest(tag.method, names) == "" {
		s.faults.add(typ, "", "the %s tag %q names an unexported method: export it, or remove the tag (unexported methods are never dispatched)", tag.kind, tag.method)
		return
	}
	s.faults.add(typ, "", "the %s tag %q names no method of *%s%s", tag.kind, tag.method, set.Elem(), hint(tag.method, names))
}

// exported reports whether a Go name is exported.
func exported(name string) bool {
	r, _ := utf8.DecodeRuneInString(name)
	return unicode.IsUpper(r)
}

// ambiguous reports whether name is no method of the type below n because Go
// found several, and notes that as a fault once.
func (s *scanner) ambiguous(n *node, name string) bool {
	methods, fields := n.claimants(name)
	from := append(slices.Clone(methods), fields...)
	if len(methods) == 0 || len(from) < 2 {
		return false
	}
	if !s.told[name] {
		s.told[name] = true
		typ := "*" + n.typ.String()
		s.faults.method(typ, name, position{}, fmt.Sprintf("a method %s of %s itself that calls the right one", name, typ), "it is ambiguous: it comes from %s", places(from))
	}
	return true
}

// checkHidden reports the methods of published groups that nobody can call
// because Go found their name ambiguous, or hidden by a field.
func (s *scanner) checkHidden() {
	for _, n := range s.nodes {
		if !n.open || n == s.root {
			continue
		}
		for i := range n.methods.NumMethod() {
			rm := n.methods.Method(i)
			if s.told[rm.Name] || s.root.hasMethod(rm.Name) || !leads(rm.Type, 1, contextType) || !n.declares(rm.Name) || n.marks.private(rm.Name) {
				continue
			}
			if s.ambiguous(s.root, rm.Name) {
				continue
			}
			if _, fields := s.root.claimants(rm.Name); len(fields) > 0 {
				s.told[rm.Name] = true
				pos, _ := n.position(rm.Name)
				s.faults.method("*"+n.typ.String(), rm.Name, pos, "another name for one of them",
					"it is hidden in %s by the field %s", s.typ, fields[0].where()+"."+rm.Name)
			}
		}
	}
}

// indexGroups maps the expressions of the embedded groups, (*Inventory).Reserve,
// to the methods of the type that they stand for. Value expressions of the type
// and its groups are mapped as well.
func (s *scanner) indexGroups(t *Table) {
	t.groups = make(map[uintptr]groupEntry)
	t.embeds = make(map[reflect.Type][]*node)
	for _, n := range s.nodes {
		if n.open && n != s.root && n.typ.Kind() == reflect.Struct {
			t.embeds[n.typ] = append(t.embeds[n.typ], n)
		}
	}
	for _, n := range s.nodes {
		if !n.open || n.typ.Kind() != reflect.Struct {
			continue
		}
		for i := range n.methods.NumMethod() {
			s.indexGroupMethod(t, n, n.methods.Method(i))
		}
	}
}

func (s *scanner) indexGroupMethod(t *Table, n *node, rm reflect.Method) {
	if !leads(rm.Type, 1, contextType) {
		return
	}
	pcs := []uintptr{}
	if n != s.root {
		pcs = append(pcs, rm.Func.Pointer())
	}
	if vm, ok := n.typ.MethodByName(rm.Name); ok {
		pcs = append(pcs, vm.Func.Pointer())
	}
	what := expression("*"+n.typ.String(), rm.Name)
	var e groupEntry
	m, published := t.byName[rm.Name]
	switch {
	case len(t.embeds[n.typ]) > 1:
		e.err = fmt.Errorf("%w: %s is ambiguous in %s, which embeds it as %s; write %s",
			ErrNotHandler, what, s.typ, places(t.embeds[n.typ]), expression(s.typ.String(), rm.Name))
	case published && s.root.origin(rm.Name) == n.origin(rm.Name):
		e.method = m
	case published:
		e.err = fmt.Errorf("%w: %s is hidden in %s by another method of that name; write %s",
			ErrNotHandler, what, s.typ, expression(s.typ.String(), rm.Name))
	default:
		e.err = t.unpublished(rm.Name)
	}
	for _, pc := range pcs {
		t.groups[pc] = e
	}
}
