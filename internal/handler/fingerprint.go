package handler

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ErrMismatch is wrapped by the error of [Fingerprint.Check].
var ErrMismatch = errors.New("contract mismatch")

// Fingerprint is what a caller and the owner of an entity type must agree on.
// It is made of plain values, so that it can travel.
type Fingerprint struct {
	Name       string
	ShardGroup string // empty if the marker names none
	Methods    []MethodFingerprint
}

// MethodFingerprint is the part of a [Fingerprint] about one method. Retries
// and timeouts are the owner's business and no part of it.
type MethodFingerprint struct {
	Name       string
	Kind       string
	In         string // full type name, with package path
	Out        string // empty for a method that returns only an error
	Visibility string
	Persisted  bool
}

// Fingerprint returns the fingerprint of the registered type.
func (e *Entity) Fingerprint() Fingerprint { return fingerprint(e.Table, e.Options) }

// Fingerprint returns the fingerprint of the contract.
func (c *Contract) Fingerprint() Fingerprint { return fingerprint(c.Table, c.Options) }

// Check compares the contract with an implementation, see [Fingerprint.Check].
func (c *Contract) Check(e *Entity) error { return c.Fingerprint().Check(e.Fingerprint()) }

func fingerprint(t *Table, o EntityOptions) Fingerprint {
	f := Fingerprint{Name: t.name, ShardGroup: o.ShardGroup.V}
	for _, m := range t.methods {
		mf := MethodFingerprint{Name: m.Name, Kind: m.Kind.String(), In: typeName(m.In), Visibility: m.Visibility.String(), Persisted: m.Persisted}
		if m.Out != nil {
			mf.Out = typeName(m.Out)
		}
		f.Methods = append(f.Methods, mf)
	}
	return f
}

// Check compares f, the caller's view, with that of the owner. The owner may
// have more methods. The error wraps [ErrMismatch] and lists all differences.
func (f Fingerprint) Check(owner Fingerprint) error {
	var diffs []string
	differ := func(what, caller, owner string) {
		if caller != owner {
			diffs = append(diffs, fmt.Sprintf("%s: the caller has %q, the owner %q", what, caller, owner))
		}
	}
	differ("name", f.Name, owner.Name)
	differ("shard_group", f.ShardGroup, owner.ShardGroup)
	byName := make(map[string]MethodFingerprint, len(owner.Methods))
	for _, m := range owner.Methods {
		byName[m.Name] = m
	}
	methods := slices.Clone(f.Methods)
	slices.SortFunc(methods, func(a, b MethodFingerprint) int { return cmp.Compare(a.Name, b.Name) })
	for _, m := range methods {
		o, ok := byName[m.Name]
		if !ok {
			diffs = append(diffs, fmt.Sprintf("method %s: the owner has none%s", m.Name, hint(m.Name, sortedKeys(byName))))
			continue
		}
		differ("kind of "+m.Name, m.Kind, o.Kind)
		differ("request of "+m.Name, m.In, o.In)
		differ("result of "+m.Name, m.Out, o.Out)
		differ("visibility of "+m.Name, m.Visibility, o.Visibility)
		differ("persisted of "+m.Name, fmt.Sprint(m.Persisted), fmt.Sprint(o.Persisted))
	}
	if len(diffs) == 0 {
		return nil
	}
	if len(diffs) == 1 {
		return fmt.Errorf("%w for %q: %s", ErrMismatch, f.Name, diffs[0])
	}
	return fmt.Errorf("%w for %q: %d differences\n\t%s", ErrMismatch, f.Name, len(diffs), strings.Join(diffs, "\n\t"))
}

// typeName spells a type with the full paths of the packages in it.
func typeName(t reflect.Type) string {
	if t.Name() != "" {
		if t.PkgPath() == "" {
			return t.Name()
		}
		return t.PkgPath() + "." + t.Name()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + typeName(t.Elem())
	case reflect.Slice:
		return "[]" + typeName(t.Elem())
	case reflect.Array:
		return fmt.Sprintf("[%d]%s", t.Len(), typeName(t.Elem()))
	case reflect.Map:
		return "map[" + typeName(t.Key()) + "]" + typeName(t.Elem())
	}
	return t.String()
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
