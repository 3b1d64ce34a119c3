package codec_test

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"math/rand"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/quick"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/cruster-go/cruster/codec"
)

func TestMsgpackRoundTrip(t *testing.T) {
	t.Parallel()
	mp := codec.Msgpack()
	trip(t, mp, fullOrder())
	trip(t, mp, order{})
	full := fullOrder()
	trip(t, mp, &full)
	trip(t, mp, []*order{&full, nil})
	trip(t, mp, page[item]{Items: []item{{"a", 1}}, Next: &item{"b", 2}})
	trip(t, mp, struct{}{})
	trip(t, mp, "")
	trip(t, mp, strings.Repeat("x", 70000))
	trip(t, mp, make([]int, 70000))
	trip(t, mp, []byte(nil))
	trip(t, mp, []byte{})
	trip(t, mp, make([]byte, 70000))
	trip(t, mp, [3]bool{true, false, true})
	trip(t, mp, map[string][]string{"a": nil, "b": {}, "c": {"x"}})
	trip(t, mp, map[netip.Addr]int{netip.MustParseAddr("::1"): 1})
	trip(t, mp, map[[2]byte]int{{1, 2}: 1})
	trip(t, mp, map[bool]float32{true: 0.1})
	trip(t, mp, map[currency]string{1: "x"})
	trip(t, mp, secret{"s"})
	trip(t, mp, map[string]secret{"k": {"s"}})
	trip(t, mp, point{1, -70000})
	trip(t, mp, []point{{1, 2}, {3, 4}})
	trip(t, mp, raw{instant})
	trip(t, mp, jsonOnly{7})
	trip(t, mp, onlyHalf(3))
	trip(t, mp, map[string]drawing{"d": {[]shape{square(1), square(2)}}})
	trip(t, mp, big.NewInt(1<<62))
	trip(t, mp, mustURL("http://a/b?c=d"))
	trip(t, mp, wide{A0: 1, B9: 2})
	trip(t, mp, node{Name: "n", Next: &node{Name: "m"}, Kids: []node{{Name: "k"}}, Map: map[string]node{"x": {}}})
	trip(t, mp, time.Time{})
	trip(t, mp, time.Unix(1<<34, 5))
	trip(t, mp, time.Unix(1<<32-1, 0))
	trip(t, mp, time.Unix(1<<32, 0))
	trip(t, mp, time.Unix(-1, 999999999))
	trip(t, mp, time.Duration(math.MinInt64))
	trip(t, mp, math.NaN())
	trip(t, mp, float32(math.Inf(-1)))
	for _, i := range []int64{0, 127, 128, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64, -1, -32, -33, -128, -129, -32768, -32769, math.MinInt32, math.MinInt32 - 1, math.MinInt64} {
		trip(t, mp, i)
		trip(t, mp, any(i))
	}
	trip(t, mp, uint64(math.MaxUint64))
	trip(t, mp, any(uint64(math.MaxUint64)))
}

func TestMsgpackRoundTripProperty(t *testing.T) {
	t.Parallel()
	type everything struct {
		A int8
		B uint16
		C float32
		D string
		E []byte
		F []int32
		G map[string]int64
		H map[int16]string
		I *uint64
		J [3]uint32
		K struct{ X, Y bool }
		L []struct{ S string }
		M map[uint8][]string
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewSource(int64(seed)))
	for range 300 {
		v, ok := quick.Value(reflect.TypeFor[everything](), rng)
		if !ok {
			t.Fatal("quick.Value cannot make the type")
		}
		e := v.Interface().(everything)
		data := trip(t, codec.Msgpack(), e)
		if err := codec.Check(data); err != nil {
			t.Fatalf("seed %d: Check refuses what Marshal wrote: %v", seed, err)
		}
		trip(t, codec.JSON(), e)
		before, err := codec.Digest(e)
		if err != nil {
			t.Fatal(err)
		}
		var back everything
		if err := codec.Msgpack().Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if after, _ := codec.Digest(back); after != before {
			t.Fatalf("seed %d: the digest changed on the way", seed)
		}
	}
}

// What we write, the library that everybody uses reads, and the other way round.
func TestMsgpackInterop(t *testing.T) {
	t.Parallel()
	type plain struct {
		S string
		I int
		N int8
		U uint64
		F float32
		G float64
		B []byte
		T time.Time
		D time.Duration
		L []string
		M map[string]string
		P *int
		X any
		Z struct{ A int }
	}
	seven := 7
	in := plain{"s", -5, 3, 1 << 63, 0.5, 1.5, []byte{1}, instant.UTC(), time.Second, []string{"a"}, map[string]string{"k": "v"}, &seven, "any", struct{ A int }{1}}
	ours, err := codec.Msgpack().Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got plain
	if err := msgpack.NewDecoder(bytes.NewReader(ours)).Decode(&got); err != nil {
		t.Fatalf("the library cannot read ours: %v", err)
	}
	if d := cmp.Diff(in, got, cmpOpts); d != "" {
		t.Error("the library reads ours differently:\n" + d)
	}
	theirs, err := msgpack.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	got = plain{}
	if err := codec.Msgpack().Unmarshal(theirs, &got); err != nil {
		t.Fatalf("we cannot read the library's: %v", err)
	}
	if d := cmp.Diff(in, got, cmpOpts); d != "" {
		t.Error("we read the library's differently:\n" + d)
	}
}

func TestMsgpackBytes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		in   any
		want string
	}{
		{"nil", nil, "\xc0"},
		{"empty struct", struct{}{}, "\x80"},
		{"field names", item{"a", 1}, "\x82\xa3sku\xa1a\xa3qty\x01"},
		{"omitempty", item{"a", 0}, "\x81\xa3sku\xa1a"},
		{"bytes are bin", []byte{7}, "\xc4\x01\x07"},
		{"sorted keys", map[string]int{"b": 2, "aa": 3, "a": 1}, "\x83\xa1a\x01\xa2aa\x03\xa1b\x02"},
		{"sorted integer keys", map[int]bool{3: true, 1: false}, "\x82\x01\xc2\x03\xc3"},
		{"text key", map[currency]int{1: 1}, "\x81\xa3USD\x01"},
		{"omitempty of every kind", struct {
			A [0]int          `msgpack:",omitempty"`
			B map[string]int  `msgpack:",omitempty"`
			C struct{ X int } `msgpack:",omitempty"`
			D *int            `msgpack:",omitempty"`
			E any             `json:",omitempty"`
			F bool            `json:"f,omitempty"`
		}{}, "\x81\xa1C\x81\xa1X\x00"},
		{"nil map", map[string]int(nil), "\xc0"},
		{"short time", time.Unix(1, 0), "\xd6\xff\x00\x00\x00\x01"},
		{"nil embedded pointer adds nothing", struct {
			*Origin
			A int
		}{A: 1}, "\x81\xa1A\x01"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for range 5 { // map order
				got, err := codec.Msgpack().Marshal(tc.in)
				if err != nil || string(got) != tc.want {
					t.Fatalf("Marshal = %q, %v; want %q", got, err, tc.want)
				}
			}
		})
	}
}

func TestMsgpackEvolution(t *testing.T) {
	t.Parallel()
	type v1 struct {
		A int
		B string
		C []any
	}
	type v2 struct {
		B    string
		New  *int
		Was  int `msgpack:"Is,alias:A"`
		More time.Time
	}
	data, err := codec.Msgpack().Marshal(v1{1, "b", []any{map[string]any{"x": []any{1}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := v2{New: new(int), More: instant} // what was there is overwritten
	if err := codec.Msgpack().Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(v2{B: "b", Was: 1}, got); d != "" {
		t.Error(d)
	}
}

func TestEmptyPayloads(t *testing.T) {
	t.Parallel()
	for _, c := range []codec.Codec{codec.Msgpack(), codec.JSON(), codec.Wrap(codec.Msgpack(), xor(1))} {
		for _, data := range [][]byte{nil, {}} {
			var e struct{}
			if err := c.Unmarshal(data, &e); err != nil {
				t.Errorf("%s: empty struct: %v", c.Name(), err)
			}
			o := fullOrder()
			if err := c.Unmarshal(data, &o); err != nil || !reflect.ValueOf(o).IsZero() {
				t.Errorf("%s: order is not zero after an empty payload (%v)", c.Name(), err)
			}
			p := &o
			if err := c.Unmarshal(data, &p); err != nil || p != nil {
				t.Errorf("%s: pointer is not nil after an empty payload (%v)", c.Name(), err)
			}
			if err := c.Unmarshal(data, nil); err != nil {
				t.Errorf("%s: nothing into nothing: %v", c.Name(), err)
			}
		}
		data, err := c.Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := "x"
		if err := c.Unmarshal(data, &s); err != nil || s != "" {
			t.Errorf("%s: nil decodes to %q, %v", c.Name(), s, err)
		}
		if err := c.Unmarshal(data, nil); err != nil {
			t.Errorf("%s: nil into nothing: %v", c.Name(), err)
		}
	}
}

func TestUnmarshalErrors(t *testing.T) {
	t.Parallel()
	type small struct {
		I8   int8
		U8   uint8
		U    uint
		I    int
		I64  int64
		F    float64
		G    float32
		S    string
		B    bool
		At   time.Time
		L    []struct{ N int16 }
		M    map[string]uint8
		K    map[int8]int
		H    [2]byte
		R    [2]int
		C    currency
		Sec  secret
		Deep *struct {
			X struct{ Y uint16 }
		}
	}
	m := func(k string, v any) map[string]any { return map[string]any{k: v} }
	for _, tc := range []struct {
		in   any
		want string
	}{
		{m("I8", 300), "codec: field small.I8: 300 does not fit int8"},
		{m("I8", -129), "codec: field small.I8: -129 does not fit int8"},
		{m("U8", 256), "codec: field small.U8: 256 does not fit uint8"},
		{m("U", -1), "codec: field small.U: -1 does not fit uint"},
		{m("I", 1.0), "codec: field small.I: 1.0 does not fit int"},
		{m("I", 1.5), "codec: field small.I: 1.5 does not fit int"},
		{m("U", float32(0.5)), "codec: field small.U: 0.5 does not fit uint"},
		{m("I64", uint64(1<<63)), "codec: field small.I64: 9223372036854775808 does not fit int64"},
		{m("F", int64(1<<53+1)), "codec: field small.F: 9007199254740993 does not fit float64"},
		{m("F", uint64(math.MaxUint64)), "codec: field small.F: 18446744073709551615 does not fit float64"},
		{m("F", int64(math.MaxInt64)), "codec: field small.F: 9223372036854775807 does not fit float64"},
		{m("G", 1<<24+1), "codec: field small.G: 16777217 does not fit float32"},
		{m("G", 0.1), "codec: field small.G: 0.1 does not fit float32"},
		{m("G", 1e300), "codec: field small.G: 1e+300 does not fit float32"},
		{m("I", "7"), `codec: field small.I: got string "7", want int`},
		{m("S", 7), "codec: field small.S: got integer 7, want string"},
		{m("S", []any{1}), "codec: field small.S: got array of 1, want string"},
		{m("B", 1), "codec: field small.B: got integer 1, want bool"},
		{m("At", "2026"), `codec: field small.At: got string "2026", want time.Time`},
		{m("I", instant), "codec: field small.I: got timestamp, want int"},
		{m("L", []any{m("N", 1), m("N", 40000)}), "codec: field small.L[1].N: 40000 does not fit int16"},
		{m("L", m("a", 1)), "codec: field small.L: got map of 1, want []struct { N int16 }"},
		{m("M", map[string]int{"a b": 256}), `codec: field small.M["a b"]: 256 does not fit uint8`},
		{m("K", map[int]int{200: 1}), "codec: field small.K[key]: 200 does not fit int8"},
		{m("H", []byte{1}), "codec: field small.H: 1 bytes do not fit [2]uint8"},
		{m("R", []int{1}), "codec: field small.R: 1 elements do not fit [2]int"},
		{m("C", "GBP"), `codec: field small.C: UnmarshalText of codec_test.currency: no currency "GBP"`},
		{m("C", 1), "codec: field small.C: got integer 1, want codec_test.currency"},
		{m("Sec", []byte("v2")), "codec: field small.Sec: UnmarshalBinary of codec_test.secret: bad prefix"},
		{m("Deep", m("X", m("Y", 65536))), "codec: field small.Deep.X.Y: 65536 does not fit uint16"},
		{m("Deep", m("X", true)), "codec: field small.Deep.X: got bool true, want struct { Y uint16 }"},
		{map[int]int{1: 2}, "codec: got integer for the name of a field of small"},
		{[]int{1}, "codec: got array of 1, want codec_test.small"},
		{strings.Repeat("é", 50), `codec: got string "` + strings.Repeat("é", 18) + `…", want codec_test.small`},
		{[]byte("abc"), "codec: got 3 bytes, want codec_test.small"},
	} {
		data, err := codec.Msgpack().Marshal(tc.in)
		if err != nil {
			t.Fatal(err)
		}
		var s small
		err = codec.Msgpack().Unmarshal(data, &s)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%v:\n got %v\nwant %s", tc.in, err, tc.want)
		}
		if !errors.Is(err, codec.ErrMismatch) || errors.Is(err, codec.ErrMalformed) {
			t.Errorf("%v: %v is not ErrMismatch alone", tc.in, err)
		}
	}
}

func TestUnmarshalTargets(t *testing.T) {
	t.Parallel()
	for _, c := range []codec.Codec{codec.Msgpack(), codec.JSON()} {
		data, err := c.Marshal(7)
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			target any
			want   string
		}{
			{nil, "codec: there is a value but no target: pass a pointer to decode into"},
			{7, "codec: cannot decode into int: pass a non-nil pointer"},
			{(*int)(nil), "codec: cannot decode into a nil *int: pass a non-nil pointer"},
		} {
			if err := c.Unmarshal(data, tc.target); err == nil || err.Error() != tc.want {
				t.Errorf("%s: got %v, want %s", c.Name(), err, tc.want)
			}
		}
		var x any = "before"
		if err := c.Unmarshal(data, &x); err != nil || x != any(int64(7)) {
			t.Errorf("%s: any became %T %v, %v", c.Name(), x, x, err)
		}
	}
}

func TestMarshalErrors(t *testing.T) {
	t.Parallel()
	loop := &node{}
	loop.Next = loop
	var self any
	self = &self
	tangle := &web{}
	tangle.A, tangle.B = tangle, tangle
	for _, tc := range []struct {
		name string
		in   any
		want string
	}{
		{"cycle", loop, "nested deeper than 64: does the value contain itself?"},
		{"tangle", tangle, "nested deeper than 64: does the value contain itself?"},
		{"any in itself", self, "pointers nested deeper than 256: does the value contain itself?"},
		{"too many", make([]int, codec.MaxElements+1), "codec: more than 1048576 elements in one payload: send it in parts, or numbers packed into []byte"},
		{"chan", make(chan int), "codec: type chan int: chan cannot travel: use a plain value, or leave it out with `msgpack:\"-\"`"},
		{"func inside any", order{Extra: []any{func() {}}}, "codec: field order.Extra[0]: holds a func(): codec: type func(): func cannot travel: use a plain value, or leave it out with `msgpack:\"-\"`"},
		{"panic", panicky{}, "codec: MarshalText of codec_test.panicky panicked: no text today"},
		{"too deep through a method", nest(greedier{map[string]any{"k": 1}}, codec.MaxDepth), "nested deeper than 64"},
		{"too many through a method", []any{make([]int, codec.MaxElements-4), greedier{map[string]any{"k": 1, "l": 2}}}, "send it in parts, or numbers packed into []byte"},
		{"two values", streamed{tags: map[string]any{}}, "codec: EncodeMsgpack of codec_test.streamed: codec: malformed payload: msgpack at byte 15: 1 bytes follow the value"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := codec.Msgpack().Marshal(tc.in)
			if err == nil || !strings.HasSuffix(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
			if !errors.Is(err, codec.ErrUnsupported) {
				t.Errorf("%v is not ErrUnsupported", err)
			}
			if _, err := codec.Digest(tc.in); err == nil {
				t.Error("Digest accepts what Marshal refuses")
			}
			if d := codec.Describe(tc.in, 80); len(d) > 80 || !strings.Contains(d, "cannot be shown") {
				t.Errorf("Describe = %q", d)
			}
		})
	}
}

// nest puts v into n slices.
func nest(v any, n int) any {
	for range n {
		v = []any{v}
	}
	return v
}

func TestUnmarshalPanics(t *testing.T) {
	t.Parallel()
	var p panicky
	want := "codec: UnmarshalText of codec_test.panicky panicked: no text today"
	if err := codec.Msgpack().Unmarshal([]byte("\xa1x"), &p); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := codec.JSON().Unmarshal([]byte(`"x"`), &p); !errors.Is(err, codec.ErrMismatch) {
		t.Errorf("json: got %v", err)
	}
	if _, err := codec.JSON().Marshal(p); !errors.Is(err, codec.ErrUnsupported) {
		t.Errorf("json: got %v", err)
	}
}

func TestConcurrentFirstUse(t *testing.T) {
	t.Parallel()
	type a struct {
		N *a
		M map[string]page[a]
		X any
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			v := a{N: &a{}, M: map[string]page[a]{"k": {Items: []a{{}}}}, X: page[int]{}}
			if err := codec.CheckType(reflect.TypeFor[a]()); err != nil {
				t.Error(err)
			}
			data, err := codec.Msgpack().Marshal(v)
			if err != nil {
				t.Error(err)
			}
			var got a
			if err := codec.Msgpack().Unmarshal(data, &got); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
