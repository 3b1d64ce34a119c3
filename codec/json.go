package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"sync"
)

// JSON returns the codec named "json", for payloads that people or other languages read. It is encoding/json with its rules for tags and
// types, with three differences: HTML characters are not escaped, numbers in a field of type any become int64, uint64 or float64 as with
// [Msgpack], and input is limited to the same depth and number of elements and must be one value with nothing behind it.
//
// Some losses are encoding/json's own: bytes of a string that are not UTF-8 become U+FFFD, an integer beyond 2^53 that meets a float field
// is rounded, and in a field of type any, times and []byte come back as strings.
func JSON() Codec { return jsonCodec{} }

type jsonCodec struct{}

var (
	_ Codec       = jsonCodec{}
	_ TypeChecker = jsonCodec{}
)

// Name implements [Codec].
func (jsonCodec) Name() string { return "json" }

var jsonBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Marshal implements [Codec].
func (jsonCodec) Marshal(v any) (data []byte, err error) {
	t := reflect.TypeOf(v)
	if err := jsonChecks.check(t); err != nil {
		return nil, err
	}
	defer recovered(&err, ErrUnsupported, t, "a marshal method")
	if t != nil {
		rv := reflect.ValueOf(v)
		if holdsAny(t) {
			if err := checkHeld(rv, 0); err != nil {
				return nil, rooted(err, t)
			}
		}
		if t.Kind() == reflect.Struct || t.Kind() == reflect.Array || t.NumMethod() != reflect.PointerTo(t).NumMethod() {
			p := reflect.New(t) // encoding/json calls methods of pointer receivers only on what has an address
			p.Elem().Set(rv)
			v = p.Interface()
		}
	}
	buf := jsonBuffers.Get().(*bytes.Buffer)
	buf.Reset()
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, &valueError{kind: ErrUnsupported, reason: "encode " + t.String() + " as json", cause: err}
	}
	out := bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})
	if err := checkJSON(out); err != nil {
		return nil, &valueError{kind: ErrUnsupported, reason: "encode " + t.String() + " as json", cause: err}
	}
	data = bytes.Clone(out)
	if buf.Cap() <= maxPooled {
		jsonBuffers.Put(buf)
	}
	return data, nil
}

// Unmarshal implements [Codec].
func (jsonCodec) Unmarshal(data []byte, v any) (err error) {
	rv, err := target(v, len(data) == 0 || string(bytes.TrimSpace(data)) == "null")
	if err != nil || !rv.IsValid() {
		return err
	}
	if len(data) == 0 {
		rv.SetZero()
		return nil
	}
	if err := checkJSON(data); err != nil {
		return err
	}
	t := rv.Type()
	if err := jsonChecks.check(t); err != nil {
		return err
	}
	defer recovered(&err, ErrMismatch, t, "an unmarshal method")
	rv.SetZero()
	if !holdsAny(t) {
		return jsonError(json.Unmarshal(data, v), t)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return jsonError(err, t)
	}
	if rest := bytes.TrimSpace(data[dec.InputOffset():]); len(rest) > 0 {
		return malformed("json", int(dec.InputOffset()), "%d bytes follow the value", len(rest))
	}
	return rooted(looseNumbers(rv, 0), t)
}

// CheckType implements [TypeChecker]: like [CheckType], but only `json` tags count, only MarshalJSON and MarshalText with their inverses
// make up for unexported fields, and map keys must be strings, integers, times or text.
func (jsonCodec) CheckType(t reflect.Type) error { return jsonChecks.check(t) }

// jsonError sorts what encoding/json reports into our sentinels.
func jsonError(err error, t reflect.Type) error {
	var (
		syntax  *json.SyntaxError
		badType *json.UnmarshalTypeError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return malformed("json", int(syntax.Offset), "%s", syntax.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return malformed("json", 0, "the text ends early")
	case errors.As(err, &badType):
		want := badType.Type
		ve := mismatch("got %s, want %s", badType.Value, want)
		if n, ok := strings.CutPrefix(badType.Value, "number "); ok && isNumber(want) {
			ve.reason = n + " does not fit " + want.String()
		}
		ve.root = typeName(t)
		if badType.Field != "" {
			ve.path = []string{"." + badType.Field}
		}
		return ve
	}
	return &valueError{kind: ErrMismatch, reason: "decode " + t.String() + " from json", cause: err}
}

func isNumber(t reflect.Type) bool {
	return t != nil && t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64
}

// checkJSON bounds depth and elements of a JSON text without parsing it: encoding/json checks the syntax, but allows 10,000 levels.
func checkJSON(data []byte) error {
	depth, elements := 0, 0
	inString := false
	for i := 0; i < len(data); i++ {
		c := data[i]
		if inString {
			switch c {
			case '\\':
				i++
			case '"':
				inString = false
			}
			continue
		}
		switch c {
		case '"':
			inString = true
		case '[', '{':
			if depth++; depth > MaxDepth {
				return malformed("json", i, "nested deeper than %d", MaxDepth)
			}
			elements++
		case ']', '}':
			depth--
		case ',', ':':
			elements++
		}
		if elements > MaxElements {
			return malformed("json", i, "more than %d elements", MaxElements)
		}
	}
	return nil
}
