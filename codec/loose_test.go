package codec_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/cruster-go/cruster/codec"
)

func TestLooseAny(t *testing.T) {
	t.Parallel()
	in := map[string]any{
		"small": 5, "byte": 200, "big": uint64(1 << 63), "neg": -200, "f": float32(0.5), "b": []byte{1}, "t": instant,
		"keys": map[int]string{1: "x"}, "mixed": map[any]any{"a": 1, int8(2): "b", [2]byte{65, 66}: 3}, "nil": nil, "struct": item{"s", 1},
	}
	want := map[string]any{
		"small": int64(5), "byte": int64(200), "big": uint64(1 << 63), "neg": int64(-200), "f": 0.5, "b": []byte{1}, "t": instant,
		"keys": map[any]any{int64(1): "x"}, "mixed": map[any]any{"a": int64(1), int64(2): "b", "AB": int64(3)}, "nil": nil,
		"struct": map[string]any{"sku": "s", "qty": int64(1)},
	}
	data, err := codec.Msgpack().Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := codec.Msgpack().Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(any(want), got, cmpOpts); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"\x81\x90\x01", "\x81\x80\x01"} {
		var m map[any]any
		if err := codec.Msgpack().Unmarshal([]byte(bad), &m); !errors.Is(err, codec.ErrMismatch) {
			t.Errorf("%x as a map[any]any: %v", bad, err)
		}
		if err := codec.Msgpack().Unmarshal([]byte(bad), &got); !errors.Is(err, codec.ErrMismatch) {
			t.Errorf("%x as any: %v", bad, err)
		}
	}
}

func TestResultSharesNothing(t *testing.T) {
	t.Parallel()
	type holder struct {
		B []byte
		S string
		X any
		R msgpack.RawMessage
	}
	in := holder{[]byte("bytes"), "string", []byte("any"), msgpack.RawMessage("\xa3raw")}
	data, err := codec.Msgpack().Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got holder
	if err := codec.Msgpack().Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	clear(data)
	if d := cmp.Diff(in, got); d != "" {
		t.Error("the result changed with the payload:\n" + d)
	}
}
