package codec

import (
	"fmt"
	"reflect"
)

// Hook changes encoded payloads: compression, encryption, signing. It is safe for concurrent use. Both methods may return their argument
// but neither may change or keep it. Decode sees untrusted bytes: it must bound what it produces and must not panic.
type Hook interface {
	// Name becomes part of the codec's name, which is stored with every payload.
	Name() string
	// Encode changes a freshly encoded payload.
	Encode(data []byte) ([]byte, error)
	// Decode undoes Encode.
	Decode(data []byte) ([]byte, error)
}

// Wrap returns c with hooks around it: Marshal runs them in order over what c wrote, Unmarshal undoes them in reverse order. The name is
// c's followed by theirs, such as "msgpack+gzip+aes". An empty payload is still the zero value and passes no hook.
//
// A nil hook or an unfit name cannot be reported here: such a codec refuses all work and [NewRegistry] refuses it, so that forgotten
// encryption never passes for encryption.
func Wrap(c Codec, hooks ...Hook) Codec {
	w := &wrapped{inner: c, hooks: append([]Hook(nil), hooks...)}
	if c == nil || isNilPointer(c) {
		w.name, w.broken = "nil", fmt.Errorf("codec: wrap: the codec is nil")
		return w
	}
	w.name = c.Name()
	for i, h := range w.hooks {
		if h == nil || isNilPointer(h) {
			w.broken = fmt.Errorf("codec: wrap %q: hook %d is nil", c.Name(), i)
			return w
		}
		if reason := badName(h.Name(), ""); reason != "" {
			w.broken = fmt.Errorf("codec: wrap %q: hook name %q %s", c.Name(), h.Name(), reason)
			return w
		}
		w.name += "+" + h.Name()
	}
	return w
}

// wrapped is a codec inside hooks.
type wrapped struct {
	inner  Codec
	hooks  []Hook
	name   string
	broken error // why it can do no work
}

var (
	_ Codec       = (*wrapped)(nil)
	_ TypeChecker = (*wrapped)(nil)
)

// Name implements [Codec].
func (w *wrapped) Name() string { return w.name }

// Marshal implements [Codec].
func (w *wrapped) Marshal(v any) ([]byte, error) {
	if w.broken != nil {
		return nil, w.broken
	}
	data, err := w.inner.Marshal(v)
	if err != nil {
		return nil, err
	}
	for _, h := range w.hooks {
		if data, err = h.Encode(data); err != nil {
			return nil, fmt.Errorf("codec: hook %q: encode: %w", h.Name(), err)
		}
	}
	return data, nil
}

// Unmarshal implements [Codec].
func (w *wrapped) Unmarshal(data []byte, v any) error {
	if w.broken != nil {
		return w.broken
	}
	if len(data) == 0 {
		return w.inner.Unmarshal(nil, v)
	}
	var err error
	for i := len(w.hooks) - 1; i >= 0; i-- {
		if data, err = w.hooks[i].Decode(data); err != nil {
			// Not ErrMalformed: a key service that is away makes a payload unreadable for now, not for ever.
			return fmt.Errorf("codec: hook %q: decode: %w", w.hooks[i].Name(), err)
		}
	}
	return w.inner.Unmarshal(data, v)
}

// CheckType implements [TypeChecker] by the inner codec's rules.
func (w *wrapped) CheckType(t reflect.Type) error {
	if w.broken != nil {
		return w.broken
	}
	return CheckTypeFor(w.inner, t)
}
