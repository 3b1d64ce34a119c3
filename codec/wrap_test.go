package codec_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cruster-go/cruster/codec"
)

// xor is a hook that hides nothing from nobody.
type xor byte

func (x xor) Name() string { return "xor" }

func (x xor) Encode(b []byte) ([]byte, error) {
	out := slices.Clone(b)
	for i := range out {
		out[i] ^= byte(x)
	}
	return out, nil
}

func (x xor) Decode(b []byte) ([]byte, error) { return x.Encode(b) }

// tail appends a byte and insists on finding it.
type tail struct{ name string }

func (h *tail) Name() string { return h.name }

func (h *tail) Encode(b []byte) ([]byte, error) {
	if len(b) > 1000 {
		return nil, errTail
	}
	return append(slices.Clone(b), '!'), nil
}

func (h *tail) Decode(b []byte) ([]byte, error) {
	if len(b) == 0 || b[len(b)-1] != '!' {
		return nil, errTail
	}
	return b[:len(b)-1], nil
}

var errTail = errors.New("tail is off")

func TestWrap(t *testing.T) {
	t.Parallel()
	c := codec.Wrap(codec.JSON(), xor(0x55), &tail{"tail"})
	if c.Name() != "json+xor+tail" {
		t.Errorf("Name = %q", c.Name())
	}
	data := trip(t, c, item{"a", 1})
	if data[0] != '{'^0x55 || data[len(data)-1] != '!' {
		t.Errorf("hooks ran in the wrong order: %q", data)
	}
	var it item
	err := c.Unmarshal(data[:3], &it)
	if !errors.Is(err, errTail) || err.Error() != `codec: hook "tail": decode: tail is off` || errors.Is(err, codec.ErrMalformed) {
		t.Errorf("got %v", err)
	}
	_, err = c.Marshal(strings.Repeat("x", 1000))
	if !errors.Is(err, errTail) || err.Error() != `codec: hook "tail": encode: tail is off` {
		t.Errorf("got %v", err)
	}
	if _, err = c.Marshal(make(chan int)); !errors.Is(err, codec.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if err := codec.CheckTypeFor(c, reflect.TypeFor[map[bool]int]()); err == nil {
		t.Error("the wrapped codec does not check by the rules of json")
	}
	if _, err := codec.NewRegistry(c); err != nil {
		t.Error(err)
	}
}

func TestWrapBroken(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]codec.Codec{
		`codec: wrap: the codec is nil`:                                  codec.Wrap(nil),
		`codec: wrap "msgpack": hook 1 is nil`:                           codec.Wrap(codec.Msgpack(), xor(1), nil),
		`codec: wrap "json": hook 0 is nil`:                              codec.Wrap(codec.JSON(), (*tail)(nil)),
		`codec: wrap "msgpack": hook name "" must be 1 to 64 bytes long`: codec.Wrap(codec.Msgpack(), &tail{}),
		`codec: wrap "msgpack": hook name "a+b" must not contain '+': use lower-case letters, digits, "-", "_" and "."`: codec.Wrap(codec.Msgpack(), &tail{"a+b"}),
	} {
		_, err := c.Marshal(1)
		var i int
		_, regErr := codec.NewRegistry(c)
		for _, err := range []error{err, c.Unmarshal([]byte{1}, &i), c.Unmarshal(nil, &i), regErr, codec.CheckTypeFor(c, reflect.TypeFor[int]())} {
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		}
	}
}

type named struct {
	codec.Codec
	name string
}

func (n named) Name() string { return n.name }

func TestRegistry(t *testing.T) {
	t.Parallel()
	mine := named{codec.JSON(), "mine"}
	r, err := codec.NewRegistry(mine, codec.Wrap(codec.Msgpack(), xor(1)))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.Names(), " "); got != "json mine msgpack msgpack+xor" {
		t.Errorf("Names = %s", got)
	}
	for _, name := range r.Names() {
		if c, err := r.Lookup(name); err != nil || c.Name() != name {
			t.Errorf("Lookup(%q) = %v, %v", name, c, err)
		}
	}
	_, err = r.Lookup("cbor")
	if want := `unknown codec "cbor": known are json, mine, msgpack, msgpack+xor; add it to the registry`; !errors.Is(err, codec.ErrUnknownCodec) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	var none *codec.Registry
	if c, err := none.Lookup("msgpack"); err != nil || c != codec.Msgpack() {
		t.Errorf("nil registry: %v, %v", c, err)
	}
	for _, tc := range []struct {
		extra []codec.Codec
		want  string
	}{
		{[]codec.Codec{nil}, "codec: codec 0 of the registry is nil"},
		{[]codec.Codec{codec.JSON()}, `codec: name "json" of codec.jsonCodec is taken: give it another name, such as "json-2"`},
		{[]codec.Codec{mine, mine}, `codec: name "mine" of codec_test.named is taken: give it another name, such as "mine-2"`},
		{[]codec.Codec{named{codec.JSON(), ""}}, `codec: name "" of codec_test.named must be 1 to 64 bytes long`},
		{[]codec.Codec{named{codec.JSON(), "A"}}, `codec: name "A" of codec_test.named must not contain 'A': use lower-case letters, digits, "-", "_" and "."`},
	} {
		if _, err := codec.NewRegistry(tc.extra...); err == nil || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
}
