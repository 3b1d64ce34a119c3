package handler

import (
	"fmt"
	"reflect"
)

// markKind is one of the four kinds of markers.
type markKind uint8

const (
	markEntity markKind = iota
	markRPC
	markWorkflow
	markActivity
)

func (k markKind) String() string {
	return [...]string{"cruster.Entity", "cruster.RPC", "cruster.Workflow", "cruster.Activity"}[k]
}

// marks is what the markers of one struct say.
type marks struct {
	kinds    [4]int // number of markers per kind
	name     string // of the Entity or Workflow marker
	headTag  bool   // that marker has a tag
	entity   EntityOptions
	workflow WorkflowOptions
	methods  []methodTag
	problems []string
}

// methodTag is one RPC or Activity marker with a tag.
type methodTag struct {
	kind    markKind
	method  string
	options MethodOptions
}

// any reports whether the struct carries a marker.
func (m *marks) any() bool { return m.kinds != [4]int{} }

// private reports whether a tag of the struct makes the method private.
func (m *marks) private(method string) bool {
	for _, t := range m.methods {
		if t.method == method {
			return t.options.Visibility == Private
		}
	}
	return false
}

// kindOf returns which marker t is.
func (m *Markers) kindOf(t reflect.Type) (markKind, bool) {
	for k, mt := range [...]reflect.Type{m.Entity, m.RPC, m.Workflow, m.Activity} {
		if mt != nil && t == mt {
			return markKind(k), true
		}
	}
	return 0, false
}

// is reports whether t is a marker.
func (m *Markers) is(t reflect.Type) bool {
	_, ok := m.kindOf(t)
	return ok
}

// readMarks reads the markers of a struct type, not of what it embeds.
func readMarks(t reflect.Type, m *Markers) *marks {
	ms := &marks{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup(TagKey)
		kind, ok := m.kindOf(f.Type)
		switch {
		case ok:
			ms.read(f, kind, tag, tagged)
		case f.Type.Kind() == reflect.Pointer && m.is(f.Type.Elem()):
			kind, _ := m.kindOf(f.Type.Elem())
			ms.problem("has a marker of type *%s: write _ %s without the pointer", kind, kind)
		case tagged:
			ms.problem("has the tag cruster:%q on field %s, which is no marker: put it on a field _ %s or _ %s", tag, f.Name, markRPC, markActivity)
		}
	}
	return ms
}

func (ms *marks) problem(format string, args ...any) {
	ms.problems = append(ms.problems, fmt.Sprintf(format, args...))
}

func (ms *marks) read(f reflect.StructField, kind markKind, tag string, tagged bool) {
	ms.kinds[kind]++
	if !tagged && f.Tag != "" {
		ms.problem("has a %s marker with the tag %q, which has no value under the key cruster: write `cruster:\"name,option=value\"`", kind, string(f.Tag))
		return
	}
	var name string
	var problems []string
	var opts MethodOptions
	switch kind {
	case markEntity, markWorkflow:
		if ms.kinds[kind] > 1 {
			ms.problem("has %d %s markers: one is enough", ms.kinds[kind], kind)
			return
		}
		if kind == markEntity {
			name, ms.entity, problems = parseEntityTag(tag)
		} else {
			name, ms.workflow, problems = parseWorkflowTag(tag)
		}
		ms.name, ms.headTag = name, tag != ""
		if name != "" {
			if err := CheckName(name); err != nil {
				problems = append(problems, fmt.Sprintf("has a bad name: %v", err))
			}
		}
	case markRPC:
		name, opts, problems = parseRPCTag(tag)
	case markActivity:
		name, opts, problems = parseActivityTag(tag)
	}
	for _, p := range problems {
		ms.problem("the %s tag %q %s", kind, tag, p)
	}
	if kind == markEntity || kind == markWorkflow || tag == "" {
		return
	}
	if name == "" {
		if len(problems) == 0 {
			ms.problem("the %s tag %q names no method: its first item is the method", kind, tag)
		}
		return
	}
	for _, t := range ms.methods {
		if t.method == name {
			ms.problem("has two tags for the method %q: join their options in one", name)
			return
		}
	}
	ms.methods = append(ms.methods, methodTag{kind: kind, method: name, options: opts})
}
