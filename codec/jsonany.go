package codec

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

var anyHolders sync.Map // reflect.Type -> bool

// holdsAny reports whether a value of type t can hold an any that encoding/json would fill.
func holdsAny(t reflect.Type) bool {
	if v, ok := anyHolders.Load(t); ok {
		return v.(bool)
	}
	holds := reachesAny(t, make(map[reflect.Type]bool))
	anyHolders.Store(t, holds)
	return holds
}

func reachesAny(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] || jsonCustomOf(t) != customNone {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return reachesAny(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if reachesAny(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// checkHeld checks the types of what the anys inside v hold, as the msgpack encoder does on its way.
func checkHeld(v reflect.Value, depth int) error {
	if !holdsAny(v.Type()) {
		return nil
	}
	if depth > maxHops {
		return unsupported("nested deeper than %d: does the value contain itself?", MaxDepth)
	}
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() {
			return nil
		}
		held := v.Elem()
		if err := jsonHeldChecks.check(held.Type()); err != nil {
			return &valueError{kind: ErrUnsupported, reason: "holds a " + held.Type().String(), cause: err}
		}
		return checkHeld(held, depth+1)
	case reflect.Pointer:
		if !v.IsNil() {
			return checkHeld(v.Elem(), depth+1)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := checkHeld(v.Index(i), depth+1); err != nil {
				return under(err, indexStep(i))
			}
		}
	case reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			if err := checkHeld(iter.Value(), depth+1); err != nil {
				return under(err, keyStep(iter.Key()))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if sf := v.Type().Field(i); (sf.IsExported() || sf.Anonymous) && sf.Tag.Get("json") != "-" {
				if err := checkHeld(v.Field(i), depth+1); err != nil {
					return under(err, "."+sf.Name)
				}
			}
		}
	}
	return nil
}

// looseNumbers replaces every json.Number inside an any by the number it is. V is settable or a pointer, slice or map.
func looseNumbers(v reflect.Value, depth int) error {
	if depth > 3*MaxDepth || !holdsAny(v.Type()) {
		return nil
	}
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() || !v.CanSet() {
			return nil
		}
		x, err := looseNumber(v.Interface())
		if err == nil && x != nil {
			v.Set(reflect.ValueOf(x))
		}
		return err
	case reflect.Pointer:
		if !v.IsNil() {
			return looseNumbers(v.Elem(), depth+1)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := looseNumbers(v.Index(i), depth+1); err != nil {
				return under(err, indexStep(i))
			}
		}
	case reflect.Map:
		ev := reflect.New(v.Type().Elem()).Elem()
		for iter := v.MapRange(); iter.Next(); {
			ev.SetIterValue(iter)
			if err := looseNumbers(ev, depth+1); err != nil {
				return under(err, keyStep(iter.Key()))
			}
			v.SetMapIndex(iter.Key(), ev)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if sf := v.Type().Field(i); sf.IsExported() || sf.Anonymous {
				if err := looseNumbers(v.Field(i), depth+1); err != nil {
					return under(err, "."+sf.Name)
				}
			}
		}
	}
	return nil
}

// looseNumber converts what encoding/json puts into an any. Lists and maps are changed in place.
func looseNumber(x any) (any, error) {
	switch x := x.(type) {
	case json.Number:
		return parseNumber(string(x))
	case []any:
		for i := range x {
			n, err := looseNumber(x[i])
			if err != nil {
				return nil, under(err, indexStep(i))
			}
			x[i] = n
		}
	case map[string]any:
		for k := range x {
			n, err := looseNumber(x[k])
			if err != nil {
				return nil, under(err, keyStep(reflect.ValueOf(k)))
			}
			x[k] = n
		}
	}
	return x, nil
}

func parseNumber(s string) (any, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return u, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !strings.ContainsAny(s, ".eE") { // an integer that long would be rounded
		return nil, mismatch("%s does not fit an integer or float64", clip(s, 40))
	}
	return f, nil
}
