package codec_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/codec"
)

func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	js := codec.JSON()
	in := fullOrder()
	in.Notes = map[string]string{"b": "2", "a": "<&>"}
	trip(t, js, in)
	trip(t, js, order{})
	trip(t, js, page[item]{Items: []item{{"a", 1}}, Next: &item{"b", 2}})
	trip(t, js, struct{}{})
	trip(t, js, []byte{0, 255})
	trip(t, js, jsonOnly{7})
	trip(t, js, drawing{[]shape{square(1)}})
	trip(t, js, []drawing{{[]shape{square(1)}}})
	trip(t, js, map[string]*drawing{"d": {[]shape{square(1)}}})
	trip(t, js, [1]struct{ D drawing }{{drawing{[]shape{square(1)}}}})
	trip(t, js, big.NewInt(1<<62))
	trip(t, js, time.Duration(5))
	trip(t, js, node{Kids: []node{{Map: map[string]node{"x": {Name: "y"}}}}})
}

func TestJSONBytes(t *testing.T) {
	t.Parallel()
	data, err := codec.JSON().Marshal(map[string]any{"b": "<&>", "a": item{"s", 0}})
	if want := `{"a":{"SKU":"s"},"b":"<&>"}`; err != nil || string(data) != want {
		t.Errorf("got %s, %v; want %s", data, err, want)
	}
}

func TestJSONLooseNumbers(t *testing.T) {
	t.Parallel()
	type holder struct {
		X any
		M map[string]any
		L []any
		P *any
		N map[string]*node
		I map[string][]map[int]any
		Z [1]any
		audit
		T int
	}
	const in = `{"X":5,"M":{"a":1.5,"b":{"c":[9223372036854775808,-1]}},"L":[1e3,null,"x",true,{"d":2}],"P":7,"N":{"n":{"Name":"x"}},"I":{"i":[{"1":3}]},"Z":[4],"By":"b","T":6}`
	var p any = int64(7)
	want := holder{
		X: int64(5), M: map[string]any{"a": 1.5, "b": map[string]any{"c": []any{uint64(1 << 63), int64(-1)}}},
		L: []any{1000.0, nil, "x", true, map[string]any{"d": int64(2)}}, P: &p, N: map[string]*node{"n": {Name: "x"}},
		I: map[string][]map[int]any{"i": {{1: int64(3)}}}, Z: [1]any{int64(4)}, audit: audit{By: "b"}, T: 6,
	}
	var got holder
	if err := codec.JSON().Unmarshal([]byte(in), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpOpts, cmp.AllowUnexported(holder{})); d != "" {
		t.Error(d)
	}
}

func TestJSONErrors(t *testing.T) {
	t.Parallel()
	type small struct {
		N   int8
		U   uint
		F   float32
		L   []struct{ S string }
		C   currency
		X   any
		Map map[string]any
	}
	long := strings.Repeat("9", 25)
	for _, tc := range []struct {
		in     string
		target any
		kind   error
		want   string
	}{
		{`{"N":300}`, new(small), codec.ErrMismatch, "codec: field small.N: 300 does not fit int8"},
		{`{"N":1.5}`, new(small), codec.ErrMismatch, "codec: field small.N: 1.5 does not fit int8"},
		{`{"U":-1}`, new(small), codec.ErrMismatch, "codec: field small.U: -1 does not fit uint"},
		{`{"F":1e300}`, new(small), codec.ErrMismatch, "codec: field small.F: 1e300 does not fit float32"},
		{`{"L":[{"S":5}]}`, new(small), codec.ErrMismatch, "codec: field small.L.S: got number, want string"},
		{`{"N":"x"}`, new(small), codec.ErrMismatch, "codec: field small.N: got string, want int8"},
		{`{"C":"GBP"}`, new(small), codec.ErrMismatch, `codec: decode codec_test.small from json: no currency "GBP"`},
		{`{"X":[` + long + `]}`, new(small), codec.ErrMismatch, "codec: field small.X[0]: " + long + " does not fit an integer or float64"},
		{`{"Map":{"k":1e999}}`, new(small), codec.ErrMismatch, `codec: field small.Map["k"]: 1e999 does not fit an integer or float64`},
		{`[1]`, new(small), codec.ErrMismatch, "codec: got array, want codec_test.small"},
		{`{"N":1} x`, new(small), codec.ErrMalformed, "codec: malformed payload: json at byte 7: 1 bytes follow the value"},
		{`1 2`, new(int), codec.ErrMalformed, "codec: malformed payload: json at byte 3: invalid character '2' after top-level value"},
		{`{"N":`, new(small), codec.ErrMalformed, "codec: malformed payload: json at byte 0: the text ends early"},
		{`{"N":`, new(item), codec.ErrMalformed, "codec: malformed payload: json at byte 5: unexpected end of JSON input"},
		{` `, new(small), codec.ErrMalformed, "codec: malformed payload: json at byte 0: the text ends early"},
		{`{]`, new(small), codec.ErrMalformed, "codec: malformed payload: json at byte 2: invalid character ']' looking for beginning of object key string"},
		{strings.Repeat("[", 65), new(any), codec.ErrMalformed, "codec: malformed payload: json at byte 64: nested deeper than 64"},
		{strings.Repeat(`{"a":`, 1e6), new(any), codec.ErrMalformed, "codec: malformed payload: json at byte 320: nested deeper than 64"},
		{"[" + strings.Repeat("1,", codec.MaxElements) + "1]", new(any), codec.ErrMalformed, "codec: malformed payload: json at byte 2097152: more than 1048576 elements"},
	} {
		err := codec.JSON().Unmarshal([]byte(tc.in), tc.target)
		if err == nil || err.Error() != tc.want || !errors.Is(err, tc.kind) {
			t.Errorf("%.40s:\n got %v\nwant %s", tc.in, err, tc.want)
		}
	}
	var x any
	for _, ok := range []string{strings.Repeat("[", 64) + strings.Repeat("]", 64), `"[[{{\"[["`, "\t 1 \n", strings.Repeat("[[],", 32) + "1" + strings.Repeat("]", 32)} {
		if err := codec.JSON().Unmarshal([]byte(ok), &x); err != nil {
			t.Errorf("%.40s: %v", ok, err)
		}
	}
}

func TestJSONMarshalErrors(t *testing.T) {
	t.Parallel()
	loop := &node{}
	loop.Next = loop
	tangle := &web{}
	tangle.A, tangle.B = tangle, tangle
	deep := any(1)
	for range codec.MaxDepth + 1 {
		deep = []any{deep}
	}
	for _, tc := range []struct {
		in   any
		want string
	}{
		{make(chan int), "codec: type chan int: chan cannot travel: use a plain value, or leave it out with `json:\"-\"`"},
		{map[string]any{"f": func() {}}, "codec: field map[string]interface {}[\"f\"]: holds a func(): codec: type func(): func cannot travel: use a plain value, or leave it out with `json:\"-\"`"},
		{order{Extra: []any{&secret{"x"}}}, "codec: field order.Extra[0]: holds a *codec_test.secret: codec: field secret.v: unexported field would be lost: export it, leave it out with `json:\"-\"`, or give secret MarshalJSON and UnmarshalJSON"},
		{order{Extra: drawing{}}, "codec: field order.Extra: holds a codec_test.drawing: codec: type drawing: MarshalJSON of codec_test.drawing has a pointer receiver, which encoding/json does not call here: use *codec_test.drawing, or give it a value receiver"},
		{map[string]drawing{}, "codec: field map[string]codec_test.drawing[]: MarshalJSON of codec_test.drawing has a pointer receiver, which encoding/json does not call here: use *codec_test.drawing, or give it a value receiver"},
		{tangle, "nested deeper than 64: does the value contain itself?"},
		{deep, "codec: encode []interface {} as json: codec: malformed payload: json at byte 64: nested deeper than 64"},
		{make([]int, codec.MaxElements+1), "codec: encode []int as json: codec: malformed payload: json at byte 2097152: more than 1048576 elements"},
	} {
		_, err := codec.JSON().Marshal(tc.in)
		if err == nil || !strings.HasSuffix(err.Error(), tc.want) || !errors.Is(err, codec.ErrUnsupported) {
			t.Errorf(" got %v\nwant %s", err, tc.want)
		}
	}
	if _, err := codec.JSON().Marshal(loop); !errors.Is(err, codec.ErrUnsupported) {
		t.Errorf("a cycle: %v", err)
	}
}
