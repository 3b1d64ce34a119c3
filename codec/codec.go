package codec

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// MaxDepth is how deep arrays, maps and structs may nest, both ways and under both built-in codecs.
const MaxDepth = 64

// MaxElements is how many array elements, map keys and map values (a struct's fields count as map entries) one payload may hold.
const MaxElements = 1 << 20

// What goes wrong; test with [errors.Is].
var (
	// ErrMalformed reports bytes that are not exactly one well-formed value within the limits. Decoding them again cannot succeed.
	ErrMalformed = errors.New("malformed payload")

	// ErrMismatch reports a well-formed value that does not fit its target: another kind, or a number the target cannot hold exactly.
	ErrMismatch = errors.New("payload does not fit its target")

	// ErrUnsupported reports a type or a value that cannot travel.
	ErrUnsupported = errors.New("value cannot travel")

	// ErrUnknownCodec reports a codec name that a [Registry] does not hold.
	ErrUnknownCodec = errors.New("unknown codec")
)

// Codec turns values into payloads and back. Implementations are safe for concurrent use and do not keep the slices they are given.
type Codec interface {
	// Name is stored beside every payload, so it must never change its meaning. Lower case, at most 64 bytes.
	Name() string

	// Marshal encodes v. The result belongs to the caller.
	Marshal(v any) ([]byte, error)

	// Unmarshal decodes data into v, a non-nil pointer, and overwrites all of it. Empty data sets the zero value; then, and for an
	// encoded nil, v may be nil itself. Data may come from the network: it must not make an implementation panic or allocate without bound.
	Unmarshal(data []byte, v any) error
}

// TypeChecker is implemented by codecs that know which types survive them. [CheckTypeFor] asks it.
type TypeChecker interface {
	// CheckType returns an error wrapping ErrUnsupported that names every part of t that cannot travel.
	CheckType(t reflect.Type) error
}

// malformed builds an ErrMalformed that says where and why.
func malformed(format string, offset int, reason string, args ...any) error {
	return fmt.Errorf("codec: %w: %s at byte %d: %s", ErrMalformed, format, offset, fmt.Sprintf(reason, args...))
}

// valueError is an ErrMismatch or ErrUnsupported at one place inside a value. The path is collected while the error travels up.
type valueError struct {
	root   string   // name of the outermost type
	path   []string // innermost first
	reason string
	kind   error // the sentinel
	cause  error // what a user's method returned, or nil
}

func mismatch(format string, args ...any) *valueError {
	return &valueError{kind: ErrMismatch, reason: fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) *valueError {
	return &valueError{kind: ErrUnsupported, reason: fmt.Sprintf(format, args...)}
}

// Error renders `codec: field Order.Items[2].Qty: 300 does not fit int8`.
func (e *valueError) Error() string {
	var b strings.Builder
	b.WriteString("codec: ")
	if len(e.path) > 0 {
		b.WriteString("field ")
		b.WriteString(e.root)
		for i := len(e.path) - 1; i >= 0; i-- {
			b.WriteString(e.path[i])
		}
		b.WriteString(": ")
	}
	b.WriteString(e.reason)
	if e.cause != nil {
		b.WriteString(": ")
		b.WriteString(e.cause.Error())
	}
	return b.String()
}

// Unwrap exposes the sentinel and the cause.
func (e *valueError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// under adds one step to the path of err, if err is one of ours.
func under(err error, step string) error {
	if ve, ok := err.(*valueError); ok { //nolint:errorlint // only our own error, never a wrapped one, still collects its path
		ve.path = append(ve.path, step)
	}
	return err
}

// rooted names the outermost type of err's path.
func rooted(err error, t reflect.Type) error {
	if ve, ok := err.(*valueError); ok { //nolint:errorlint // see under
		ve.root = typeName(t)
	}
	return err
}

// typeName is the short name used in paths: Order, Page[pkg.Item], []int.
func typeName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer && t.Name() == "" {
		t = t.Elem()
	}
	if n := t.Name(); n != "" {
		return n
	}
	return t.String()
}
