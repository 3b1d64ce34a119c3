package codec

import (
	"bytes"
	"reflect"
	"sync"
)

// op is how a type is encoded; decided once per type.
type op uint8

const (
	opBool op = iota
	opInt
	opUint
	opFloat32
	opFloat64
	opString
	opBytes
	opByteArray
	opSlice
	opArray
	opMap
	opStruct
	opPointer
	opAny
	opTime
	opCustom
)

// plan is everything the encoder, the decoder and the digest need to know about one type. Plans are immutable once published.
type plan struct {
	op     op
	custom customKind
	typ    reflect.Type
	size   int64 // bytes of one value in memory
	elem   *plan // slice, array, map, pointer
	key    *plan // map
	fields []field
	byName map[string]int // encoded names and aliases to fields
	plain  bool           // no field of the struct is ever left out
	hasAny bool           // JSON has to look for numbers of unknown type

	zeroOnce sync.Once
	zeroForm []byte // what the zero value of a custom type encodes to; nil if it cannot be
}

var plans sync.Map // reflect.Type -> *plan

// planOf returns the plan of t, or why t cannot travel.
func planOf(t reflect.Type) (*plan, error) {
	if p, ok := plans.Load(t); ok {
		return p.(*plan), nil
	}
	if err := CheckType(t); err != nil {
		return nil, err
	}
	b := planner{done: make(map[reflect.Type]*plan)}
	p := b.plan(t)
	b.markAny()
	for t, p := range b.done {
		plans.LoadOrStore(t, p)
	}
	return p, nil
}

// planner builds the plans of one type and all it refers to. The types have passed CheckType.
type planner struct {
	done map[reflect.Type]*plan
}

func (b *planner) plan(t reflect.Type) *plan {
	if p, ok := b.done[t]; ok {
		return p // maybe unfinished: a recursive type
	}
	p := &plan{typ: t, size: int64(t.Size())}
	b.done[t] = p
	if t == timeType {
		p.op = opTime
		return p
	}
	if p.custom = customOf(t); p.custom != customNone {
		p.op = opCustom
		return p
	}
	switch t.Kind() {
	case reflect.Bool:
		p.op = opBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.op = opInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.op = opUint
	case reflect.Float32:
		p.op = opFloat32
	case reflect.Float64:
		p.op = opFloat64
	case reflect.String:
		p.op = opString
	case reflect.Slice:
		p.op = opBytes
		if t.Elem().Kind() != reflect.Uint8 {
			p.op, p.elem = opSlice, b.plan(t.Elem())
		}
	case reflect.Array:
		p.op = opByteArray
		if t.Elem().Kind() != reflect.Uint8 {
			p.op, p.elem = opArray, b.plan(t.Elem())
		}
	case reflect.Map:
		p.op, p.key, p.elem = opMap, b.keyPlan(t.Key()), b.plan(t.Elem())
	case reflect.Pointer:
		p.op, p.elem = opPointer, b.plan(t.Elem())
	case reflect.Interface:
		p.op = opAny
	case reflect.Struct:
		p.op = opStruct
		b.structPlan(p)
	}
	return p
}

// keyPlan prefers text, which every reader can hold as a map key.
func (b *planner) keyPlan(t reflect.Type) *plan {
	if isTextType(t) {
		return &plan{op: opCustom, custom: customText, typ: t, size: int64(t.Size())}
	}
	return b.plan(t)
}

func (b *planner) structPlan(p *plan) {
	p.fields, _ = msgpackDialect.structFields(p.typ)
	p.byName = make(map[string]int, len(p.fields))
	p.plain = true
	for i := range p.fields {
		f := &p.fields[i]
		f.plan = b.plan(f.typ)
		p.plain = p.plain && !f.omitEmpty && !f.omitZero && f.embedded == 0
		p.byName[f.name] = i
		for _, alias := range f.aliases {
			p.byName[alias] = i
		}
	}
}

// markAny sets hasAny on every plan from which an any can be reached.
func (b *planner) markAny() {
	for changed := true; changed; {
		changed = false
		for _, p := range b.done {
			if p.hasAny {
				continue
			}
			has := p.op == opAny || p.elem != nil && p.elem.hasAny || p.key != nil && p.key.hasAny
			for i := range p.fields {
				has = has || p.fields[i].plan.hasAny
			}
			if has {
				p.hasAny, changed = true, true
			}
		}
	}
}

// find returns the field of that encoded name. Payloads mostly hold the fields in the order of the struct, so it tries hint first.
func (p *plan) find(name []byte, hint int) (int, bool) {
	if hint < len(p.fields) && p.fields[hint].name == string(name) {
		return hint, true
	}
	i, ok := p.byName[string(name)]
	return i, ok
}

// value returns the field of struct v, or false when an embedded pointer on the way is nil.
func (f *field) value(v reflect.Value) (reflect.Value, bool) {
	if len(f.index) == 1 {
		return v.Field(f.index[0]), true
	}
	for _, i := range f.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return reflect.Value{}, false
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v, true
}

// target is value for decoding: it makes what embedded pointers on the way point to.
func (f *field) target(v reflect.Value) reflect.Value {
	for _, i := range f.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}

// omitted reports whether the field's tag leaves the value out.
func (f *field) omitted(v reflect.Value) bool {
	return f.omitEmpty && isEmpty(v) || f.omitZero && isZero(v)
}

// isEmpty is what encoding/json calls empty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

// isZero asks the value's own IsZero method, if there is one.
func isZero(v reflect.Value) bool {
	if v.IsZero() {
		return true
	}
	type zeroer interface{ IsZero() bool }
	if v.CanAddr() {
		if z, ok := v.Addr().Interface().(zeroer); ok {
			return z.IsZero()
		}
	}
	z, ok := v.Interface().(zeroer)
	return ok && z.IsZero()
}

// isZeroForm reports whether data is what the zero value of a custom type encodes to: some types have several values that mean zero.
func (p *plan) isZeroForm(data []byte) bool {
	p.zeroOnce.Do(func() {
		p.zeroForm, _ = p.custom.customBytes(reflect.New(p.typ).Elem())
	})
	return p.zeroForm != nil && bytes.Equal(p.zeroForm, data)
}
