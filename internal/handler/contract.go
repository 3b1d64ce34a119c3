package handler

import (
	"fmt"
	"reflect"
	"strings"
)

// Spec is what the markers of a spec struct say: the part of a contract that an
// interface cannot carry.
type Spec struct {
	Type    reflect.Type
	Name    string // empty if the tag gives none
	Options EntityOptions
	Methods map[string]MethodOptions // the tagged ones
}

// Contract is an entity type as its callers know it: an interface and a spec.
// Its methods are not bound.
type Contract struct {
	*Table
	Options EntityOptions
}

// ScanSpec reads a spec, a struct with one Entity marker and RPC markers, which
// may stand in structs that it embeds. spec is such a struct or a pointer to one.
func ScanSpec(spec any, m Markers) (*Spec, error) {
	t := reflect.TypeOf(spec)
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil, single(fmt.Sprint(t), "a struct with a field _ cruster.Entity", "it is no spec")
	}
	s := newScanner(reflect.PointerTo(t), reflect.Value{}, &m, markEntity)
	h := s.head()
	sp := &Spec{Type: t, Options: h.entity, Methods: make(map[string]MethodOptions)}
	if h.given {
		sp.Name = h.name
	}
	depth := make(map[string]int)
	for _, n := range s.nodes {
		if !n.open {
			continue
		}
		for _, tag := range n.marks.methods {
			if d, ok := depth[tag.method]; ok && d <= n.depth() || tag.kind != markRPC {
				continue
			}
			depth[tag.method], sp.Methods[tag.method] = n.depth(), tag.options
		}
	}
	if err := s.faults.err(); err != nil {
		return nil, err
	}
	return sp, nil
}

// ScanInterface reads a contract: an interface type, and the spec that its
// implementation embeds. Without a spec the entity is named like the interface
// and all its methods are best effort.
func ScanInterface(iface reflect.Type, spec *Spec, m Markers) (*Contract, error) {
	if iface == nil || iface.Kind() != reflect.Interface {
		return nil, single(fmt.Sprint(iface), "an interface type, such as counterapi.Counter", "it is no interface")
	}
	if spec == nil {
		spec = &Spec{}
	}
	f := faults{typ: iface.String()}
	name := spec.Name
	if name == "" {
		name = iface.Name()
		if err := CheckName(name); err != nil {
			f.add(iface.String(), "", "%v; give one in the tag of the %s marker of a spec", err, markEntity)
		}
	}
	var methods []*Method
	var skipped []Skip
	var names []string
	for i := range iface.NumMethod() {
		rm := iface.Method(i)
		if !rm.IsExported() {
			continue
		}
		opts, tagged := spec.Methods[rm.Name]
		lead := leads(rm.Type, 0, contextType)
		if lead {
			names = append(names, rm.Name)
		}
		if !lead && !tagged {
			continue
		}
		if opts.Visibility == Private {
			skipped = append(skipped, Skip{Name: rm.Name, Reason: "it is tagged private", Visibility: Private})
			continue
		}
		sig, problems := classify(rm.Type, 0, contextType)
		if len(problems) > 0 {
			f.method(iface.String(), rm.Name, position{}, wantSignature("", rm.Name, contextType.String(), sig), "%s", strings.Join(problems, ", and "))
			continue
		}
		if sig.kind == Stream && opts.Persisted {
			f.method(iface.String(), rm.Name, position{}, "", "is persisted and returns a stream: a stream cannot be stored")
		}
		for _, p := range sig.checkTravel(m.CheckType) {
			f.method(iface.String(), rm.Name, position{}, "", "%s", p)
		}
		methods = append(methods, &Method{
			MethodOptions: opts, Tagged: tagged, Name: rm.Name, Kind: sig.kind, In: sig.in, Out: sig.out, owner: iface.String(),
		})
	}
	for _, tag := range sortedKeys(spec.Methods) {
		// A spec may speak of methods that this interface leaves out, but not
		// of misspelled ones.
		if _, ok := iface.MethodByName(tag); !ok {
			if near := nearest(tag, names); near != "" && !tagNames(spec, near) {
				f.add(spec.Type.String(), "", "the %s tag %q names no method of %s; did you mean %q?", markRPC, tag, iface, near)
			}
		}
	}
	if len(methods) == 0 && len(f.list) == 0 {
		f.add(iface.String(), "a method such as Get(context.Context, In) (Out, error)", "it has no handler")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return &Contract{Table: newTable(iface, name, methods, skipped), Options: spec.Options}, nil
}

func tagNames(s *Spec, method string) bool {
	_, ok := s.Methods[method]
	return ok
}
