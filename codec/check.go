package codec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	timeType  = reflect.TypeFor[time.Time]()
	errorType = reflect.TypeFor[error]()
)

// maxFaults bounds how many faults one error lists.
const maxFaults = 20

// CheckType reports whether values of type t can travel under [Msgpack]: no chan, func, pointer to code or memory, complex number or
// interface other than any, no unexported field and no hidden one, in any field, element or key of it. The error wraps [ErrUnsupported]
// and lists every fault with its path, such as
//
//	codec: field Order.Items[].done: chan cannot travel: ...
//
// Marshal, Unmarshal and [Digest] refuse the same types, so checking at registration turns a late surprise into an early one. Recursive
// types are fine. Fields named _, fields tagged "-", unexported fields of size zero, and the insides of types with a pair of marshal
// methods are not looked at; nor is what an any may hold, which is checked when it is encoded. Verdicts are cached; safe for concurrent use.
func CheckType(t reflect.Type) error { return msgpackChecks.check(t) }

// CheckTypeFor is [CheckType] by the rules of codec c, if it is a [TypeChecker]; other codecs are taken to follow those of [Msgpack].
func CheckTypeFor(c Codec, t reflect.Type) error {
	if tc, ok := c.(TypeChecker); ok {
		return tc.CheckType(t)
	}
	return CheckType(t)
}

var (
	msgpackChecks  = &checkCache{dialect: msgpackDialect}
	jsonChecks     = &checkCache{dialect: jsonDialect}
	jsonHeldChecks = &checkCache{dialect: jsonDialect, held: true} // of what an any holds
)

// checkCache remembers the verdict on each type. It is bounded by the number of types in the program.
type checkCache struct {
	*dialect
	held     bool     // values have no address
	verdicts sync.Map // reflect.Type -> error or nil
}

func (c *checkCache) check(t reflect.Type) error {
	if t == nil {
		return nil
	}
	if v, ok := c.verdicts.Load(t); ok {
		err, _ := v.(error)
		return err
	}
	w := &typeWalk{dialect: c.dialect, seen: make(map[visit]bool)}
	w.walk(t, typeName(t), !c.held)
	var err error
	if len(w.faults) > 0 {
		err = &typeError{faults: w.faults}
	}
	v, _ := c.verdicts.LoadOrStore(t, err)
	err, _ = v.(error)
	return err
}

// typeError lists everything that keeps a type from travelling.
type typeError struct {
	faults []fault
}

// Error has one line for each fault.
func (e *typeError) Error() string {
	var b strings.Builder
	for i, f := range e.faults {
		if i == maxFaults {
			fmt.Fprintf(&b, "\nand %d more", len(e.faults)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		what := "type"
		if strings.ContainsAny(f.goPath, ".[") {
			what = "field"
		}
		fmt.Fprintf(&b, "codec: %s %s: %s", what, f.goPath, f.reason)
	}
	return b.String()
}

// Unwrap exposes the sentinel.
func (e *typeError) Unwrap() error { return ErrUnsupported }

// typeWalk collects the faults of a type. Each type is entered once, under the first path that leads to it.
type typeWalk struct {
	*dialect
	seen   map[visit]bool
	faults []fault
}

// visit is a type, and whether its values have an address where it is used.
type visit struct {
	typ  reflect.Type
	addr bool
}

func (w *typeWalk) fault(path, format string, args ...any) {
	w.faults = append(w.faults, fault{path, fmt.Sprintf(format, args...)})
}

func (w *typeWalk) walk(t reflect.Type, path string, addr bool) {
	at := visit{t, addr || !w.json} // only encoding/json cares
	if t == timeType || w.seen[at] {
		return
	}
	w.seen[at] = true
	if k := w.custom(t); k != customNone {
		if !at.addr && needsAddress(t, k) {
			w.fault(path, "%s of %s has a pointer receiver, which encoding/json does not call here: use *%s, or give it a value receiver", k.method(), t, t)
		}
		w.promoted(t, k, path)
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		if pointsToItself(t) {
			w.fault(path, "pointer type %s points to nothing but itself: put a struct in between", t)
			return
		}
		w.walk(t.Elem(), path, true)
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			w.walk(t.Elem(), path+"[]", true)
		}
	case reflect.Array:
		if t.Elem().Kind() != reflect.Uint8 {
			w.walk(t.Elem(), path+"[]", addr)
		}
	case reflect.Map:
		w.key(t.Key(), path+"[key]")
		w.walk(t.Elem(), path+"[]", false)
	case reflect.Struct:
		fields, faults := w.structFields(t)
		for _, f := range faults {
			w.fault(path+"."+f.goPath, "%s", f.reason)
		}
		for _, f := range fields {
			w.walk(f.typ, path+"."+f.goPath, addr || f.embedded > 0)
		}
	case reflect.Interface:
		switch {
		case t.NumMethod() == 0:
		case t == errorType:
			w.fault(path, "error cannot travel inside a value: return it from the method, or use a string for its text")
		default:
			w.fault(path, "interface %s cannot travel, decoding knows no concrete type for it: use a concrete type, or any for plain data", t)
		}
	case reflect.Chan, reflect.Func:
		w.fault(path, "%s cannot travel: use a plain value, or leave it out with %s", t.Kind(), w.skipTag())
	case reflect.UnsafePointer, reflect.Uintptr:
		w.fault(path, "%s cannot travel, an address means nothing elsewhere: use uint64 for a number, or leave it out with %s", t, w.skipTag())
	case reflect.Complex64, reflect.Complex128:
		w.fault(path, "%s cannot travel: use two floats", t)
	}
}

// key accepts what both the wire and a Go map take as a key without losing its identity.
func (w *typeWalk) key(t reflect.Type, path string) {
	if isTextType(t) && (!w.json || t.Implements(textEncoder)) || t == timeType {
		return
	}
	switch k := t.Kind(); {
	case k == reflect.String, k >= reflect.Int && k <= reflect.Int64, k >= reflect.Uint && k <= reflect.Uint64:
		if c := w.custom(t); c == customNone || !w.json {
			return
		}
	case !w.json && (w.custom(t) == customBinary || k == reflect.Bool || k == reflect.Float32 || k == reflect.Float64):
		return
	case !w.json && k == reflect.Array && t.Elem().Kind() == reflect.Uint8 && w.custom(t) == customNone:
		return
	case !w.json && k == reflect.Interface && t.NumMethod() == 0:
		return
	}
	w.fault(path, "%s cannot be a map key here: use a string or integer key, or give it MarshalText and UnmarshalText", t)
}

// promoted refuses a struct that has its pair of marshal methods only from an embedded field: they encode that field alone, and the
// others would be lost. time.Time is the usual one.
func (w *typeWalk) promoted(t reflect.Type, k customKind, path string) {
	if t.Kind() != reflect.Struct || !isPromoted(t, k) {
		return
	}
	var embedded, others []string
	for i := range t.NumField() {
		switch sf := t.Field(i); {
		case sf.Anonymous:
			embedded = append(embedded, sf.Name)
		case sf.Name != "_" && sf.Type.Size() > 0:
			others = append(others, sf.Name)
		}
	}
	if len(others) > 0 || len(embedded) > 1 {
		w.fault(path, "%s comes from embedded field %s and would drop %s: name the embedded field, or give %s that method",
			k.method(), strings.Join(embedded, " or "), orNone(others), typeName(t))
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "the other"
	}
	return strings.Join(names, ", ")
}

// pointsToItself finds type P *P.
func pointsToItself(t reflect.Type) bool {
	var chain []reflect.Type
	for ; t.Kind() == reflect.Pointer; t = t.Elem() {
		if slices.Contains(chain, t) {
			return true
		}
		chain = append(chain, t)
	}
	return false
}
