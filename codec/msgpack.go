package codec

import (
	"math"
	"reflect"
	"slices"
)

// Msgpack returns the default codec, named "msgpack". See the package documentation for what it does with which type.
func Msgpack() Codec { return msgpackCodec{} }

type msgpackCodec struct{}

var (
	_ Codec       = msgpackCodec{}
	_ TypeChecker = msgpackCodec{}
)

// Name implements [Codec].
func (msgpackCodec) Name() string { return "msgpack" }

// Marshal implements [Codec].
func (msgpackCodec) Marshal(v any) ([]byte, error) {
	e := getEncoder()
	defer putEncoder(e)
	if err := e.top(v); err != nil {
		return nil, err
	}
	if uint64(len(e.buf)) > math.MaxUint32 {
		return nil, unsupported("%d bytes are more than a payload can hold", len(e.buf))
	}
	if cap(e.buf) > maxPooled { // would not be used again: no need to copy
		data := e.buf
		e.buf = nil
		return data, nil
	}
	return slices.Clone(e.buf), nil
}

// Unmarshal implements [Codec].
func (msgpackCodec) Unmarshal(data []byte, v any) error {
	rv, err := target(v, len(data) == 0 || len(data) == 1 && data[0] == 0xc0)
	if err != nil || !rv.IsValid() {
		return err
	}
	if len(data) == 0 {
		rv.SetZero()
		return nil
	}
	if err := Check(data); err != nil {
		return err
	}
	p, err := planOf(rv.Type())
	if err != nil {
		return err
	}
	d := decoder{data: data, room: room(len(data))}
	rv.SetZero()
	if err := d.value(p, rv); err != nil {
		return rooted(err, rv.Type())
	}
	return nil
}

// CheckType implements [TypeChecker].
func (msgpackCodec) CheckType(t reflect.Type) error { return CheckType(t) }

// target returns what v points to. A nil v is allowed when there is nothing to store; then the result is invalid.
func target(v any, nothing bool) (reflect.Value, error) {
	if v == nil {
		if nothing {
			return reflect.Value{}, nil
		}
		return reflect.Value{}, mismatch("there is a value but no target: pass a pointer to decode into")
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return reflect.Value{}, mismatch("cannot decode into %s: pass a non-nil pointer", describeTarget(rv))
	}
	return rv.Elem(), nil
}

func describeTarget(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		return "a nil " + v.Type().String()
	}
	return v.Type().String()
}
