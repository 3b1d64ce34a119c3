package codec

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// maxName bounds a codec's name: it is stored with every row and sent with every frame.
const maxName = 64

// Registry finds codecs by name. It always holds the built-in ones, never changes, and is safe for concurrent use. A nil *Registry holds
// the built-in ones only.
type Registry struct {
	byName map[string]Codec
}

// builtin is what every registry starts from.
var builtin = map[string]Codec{
	Msgpack().Name(): Msgpack(),
	JSON().Name():    JSON(),
}

// NewRegistry returns a registry of the built-in codecs and extra. It refuses a nil or misbuilt codec, an unfit name, and a name twice:
// a stored payload must never meet another codec than the one that wrote it.
func NewRegistry(extra ...Codec) (*Registry, error) {
	r := &Registry{byName: maps.Clone(builtin)}
	for i, c := range extra {
		if c == nil || isNilPointer(c) {
			return nil, fmt.Errorf("codec: codec %d of the registry is nil", i)
		}
		if w, ok := c.(*wrapped); ok && w.broken != nil {
			return nil, w.broken
		}
		name := c.Name()
		if reason := badName(name, "+"); reason != "" {
			return nil, fmt.Errorf("codec: name %q of %T %s", name, c, reason)
		}
		if _, dup := r.byName[name]; dup {
			return nil, fmt.Errorf("codec: name %q of %T is taken: give it another name, such as %q", name, c, name+"-2")
		}
		r.byName[name] = c
	}
	return r, nil
}

// Lookup returns the codec of that name, or an error that wraps [ErrUnknownCodec] and lists the known ones.
func (r *Registry) Lookup(name string) (Codec, error) {
	if c, ok := r.codecs()[name]; ok {
		return c, nil
	}
	return nil, fmt.Errorf("%w %q: known are %s; add it to the registry", ErrUnknownCodec, name, strings.Join(r.Names(), ", "))
}

// Names returns the names of all codecs, sorted.
func (r *Registry) Names() []string {
	return slices.Sorted(maps.Keys(r.codecs()))
}

func (r *Registry) codecs() map[string]Codec {
	if r == nil || r.byName == nil {
		return builtin
	}
	return r.byName
}

// badName says why a codec's or a hook's name is unfit, or nothing. Letters, digits, "-", "_", "." and the runes of more are allowed.
func badName(name, more string) string {
	if name == "" || len(name) > maxName {
		return fmt.Sprintf("must be 1 to %d bytes long", maxName)
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-_."+more, c) {
			return fmt.Sprintf("must not contain %q: use lower-case letters, digits, %q, %q and %q", c, "-", "_", ".")
		}
	}
	return ""
}

// isNilPointer reports a nil pointer inside an interface.
func isNilPointer(v any) bool {
	rv := reflect.ValueOf(v)
	return rv.Kind() == reflect.Pointer && rv.IsNil()
}
