package codec_test

import (
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/cruster-go/cruster/codec"
)

type ptrToItself *ptrToItself

type sliceOfItself []sliceOfItself

type iface interface{ Do() }

type embedsSelf struct {
	*EmbedsSelf2
	A int
}

// EmbedsSelf2 embeds itself.
type EmbedsSelf2 struct {
	*EmbedsSelf2
	B int
}

type hiddenBy struct {
	audit
	By string
}

type (
	left  struct{ X int }
	right struct{ X int }
	both  struct {
		left
		right
	}
)

type bad struct {
	Items  []struct{ cb func() }
	ByKey  map[string]*badDeep
	Conn   io.Reader
	Err    error
	C      complex128
	U      uintptr
	P      unsafe.Pointer
	Ch     chan<- int
	mu     sync.Mutex
	Keys   map[*int]string
	Struct map[struct{ A int }]string
	Fine   int
}

type badDeep struct {
	Self *badDeep
	F    [2]func()
}

func TestCheckTypeAccepts(t *testing.T) {
	t.Parallel()
	type ignored struct {
		_    func()
		_    chan int
		mark struct{}
		zero [0]func()
		Skip chan int `msgpack:"-"`
		also func()   `json:"-"`
		A    int
	}
	for _, typ := range []reflect.Type{
		nil,
		reflect.TypeFor[order](), reflect.TypeFor[*order](), reflect.TypeFor[struct{}](), reflect.TypeFor[any](), reflect.TypeFor[ignored](),
		reflect.TypeFor[node](), reflect.TypeFor[sliceOfItself](), reflect.TypeFor[page[page[int]]](), reflect.TypeFor[time.Time](),
		reflect.TypeFor[struct{ time.Time }](), reflect.TypeFor[big.Int](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[secret](),
		reflect.TypeFor[streamed](), reflect.TypeFor[raw](), reflect.TypeFor[jsonOnly](), reflect.TypeFor[map[time.Time]int](),
		reflect.TypeFor[map[any]any](), reflect.TypeFor[msgpack.RawMessage](), reflect.TypeFor[http.Header](), reflect.TypeFor[wide](),
	} {
		if err := codec.CheckType(typ); err != nil {
			t.Errorf("CheckType(%v): %v", typ, err)
		}
	}
}

func TestCheckTypeRefuses(t *testing.T) {
	t.Parallel()
	type tagged struct {
		A int `msgpack:"a,as_array,inline"`
		B int `msgpack:"b,alias:a"`
		C int `json:"b,string"`
	}
	type embeds struct{ *audit }
	type embedsInt struct{ onlyHalf }
	for _, tc := range []struct {
		typ  reflect.Type
		want []string
	}{
		{reflect.TypeFor[bad](), []string{
			"field bad.mu: unexported field would be lost: export it, leave it out with `msgpack:\"-\"`, or give bad MarshalBinary and UnmarshalBinary",
			"field bad.Items[].cb: unexported field would be lost: export it, leave it out with `msgpack:\"-\"`, or give struct { cb func() } MarshalBinary and UnmarshalBinary",
			"field bad.ByKey[].F[]: func cannot travel: use a plain value, or leave it out with `msgpack:\"-\"`",
			"field bad.Conn: interface io.Reader cannot travel, decoding knows no concrete type for it: use a concrete type, or any for plain data",
			"field bad.Err: error cannot travel inside a value: return it from the method, or use a string for its text",
			"field bad.C: complex128 cannot travel: use two floats",
			"field bad.U: uintptr cannot travel, an address means nothing elsewhere: use uint64 for a number, or leave it out with `msgpack:\"-\"`",
			"field bad.P: unsafe.Pointer cannot travel, an address means nothing elsewhere: use uint64 for a number, or leave it out with `msgpack:\"-\"`",
			"field bad.Ch: chan cannot travel: use a plain value, or leave it out with `msgpack:\"-\"`",
			"field bad.Keys[key]: *int cannot be a map key here: use a string or integer key, or give it MarshalText and UnmarshalText",
			"field bad.Struct[key]: struct { A int } cannot be a map key here: use a string or integer key, or give it MarshalText and UnmarshalText",
		}},
		{reflect.TypeFor[[]func()](), []string{"field []func()[]: func cannot travel: use a plain value, or leave it out with `msgpack:\"-\"`"}},
		{reflect.TypeFor[iface](), []string{"type iface: interface codec_test.iface cannot travel, decoding knows no concrete type for it: use a concrete type, or any for plain data"}},
		{reflect.TypeFor[ptrToItself](), []string{"type ptrToItself: pointer type codec_test.ptrToItself points to nothing but itself: put a struct in between"}},
		{reflect.TypeFor[embedsSelf](), []string{"field embedsSelf.EmbedsSelf2.EmbedsSelf2: EmbedsSelf2 embeds itself: name the field"}},
		{reflect.TypeFor[hiddenBy](), []string{"field hiddenBy.By: has the encoded name \"By\" of field audit.By, so one of them would be lost: give one another name in its tag, or leave it out with `msgpack:\"-\"`"}},
		{reflect.TypeFor[both](), []string{"field both.right.X: has the encoded name \"X\" of field left.X, so one of them would be lost: give one another name in its tag, or leave it out with `msgpack:\"-\"`"}},
		{reflect.TypeFor[tagged](), []string{
			"field tagged.A: tag option \"inline\" is not supported: use omitempty, omitzero or alias:NAME",
			"field tagged.B: has the encoded name \"a\" of field A, so one of them would be lost: give one another name in its tag, or leave it out with `msgpack:\"-\"`",
			"field tagged.C: has the encoded name \"b\" of field B, so one of them would be lost: give one another name in its tag, or leave it out with `msgpack:\"-\"`",
		}},
		{reflect.TypeFor[embeds](), []string{"field embeds.audit: embedded pointer to an unexported struct cannot be set when decoding: embed the struct itself, or export audit"}},
		{reflect.TypeFor[embedsInt](), []string{"field embedsInt.onlyHalf: unexported field would be lost: export it, leave it out with `msgpack:\"-\"`, or give embedsInt MarshalBinary and UnmarshalBinary"}},
		{reflect.TypeFor[embedsTime](), []string{"type embedsTime: MarshalBinary comes from embedded field Time and would drop Label: name the embedded field, or give embedsTime that method"}},
		{reflect.TypeFor[struct{ In *embedsTime }](), []string{"field struct { In *codec_test.embedsTime }.In: MarshalBinary comes from embedded field Time and would drop Label: name the embedded field, or give embedsTime that method"}},
		{reflect.TypeFor[struct{ L [25]struct{ F func() } }](), []string{"field struct { L [25]struct { F func() } }.L[].F: func cannot travel: use a plain value, or leave it out with `msgpack:\"-\"`"}},
	} {
		for range 2 { // the second verdict comes from the cache
			err := codec.CheckType(tc.typ)
			if err == nil || !errors.Is(err, codec.ErrUnsupported) {
				t.Fatalf("CheckType(%v) = %v, want ErrUnsupported", tc.typ, err)
			}
			if d := cmp.Diff("codec: "+strings.Join(tc.want, "\ncodec: "), err.Error()); d != "" {
				t.Errorf("CheckType(%v) (-want +got):\n%s", tc.typ, d)
			}
		}
		if tc.typ.Kind() == reflect.Interface {
			continue
		}
		v := reflect.New(tc.typ)
		if _, err := codec.Msgpack().Marshal(v.Interface()); !errors.Is(err, codec.ErrUnsupported) {
			t.Errorf("Marshal(%v): %v", tc.typ, err)
		}
		if err := codec.Msgpack().Unmarshal([]byte{0x80}, v.Interface()); !errors.Is(err, codec.ErrUnsupported) {
			t.Errorf("Unmarshal(%v): %v", tc.typ, err)
		}
		if _, err := codec.Digest(v.Interface()); !errors.Is(err, codec.ErrUnsupported) {
			t.Errorf("Digest(%v): %v", tc.typ, err)
		}
	}
}

func TestCheckTypeManyFaults(t *testing.T) {
	t.Parallel()
	fields := make([]reflect.StructField, 25)
	for i := range fields {
		fields[i] = reflect.StructField{Name: "F" + string(rune('A'+i)), Type: reflect.TypeFor[error]()}
		fields[i].Type = reflect.MapOf(reflect.TypeFor[string](), reflect.ChanOf(reflect.BothDir, reflect.ArrayOf(i+1, reflect.TypeFor[int]())))
	}
	err := codec.CheckType(reflect.StructOf(fields))
	if err == nil || strings.Count(err.Error(), "\n") != 20 || !strings.HasSuffix(err.Error(), "\nand 5 more") {
		t.Errorf("got %v", err)
	}
}

func TestCheckTypeFor(t *testing.T) {
	t.Parallel()
	type split struct {
		A int `json:"-" msgpack:"a"`
		B int `msgpack:"a2" json:"b"`
		c int `msgpack:"-"`
	}
	_ = split{}.c
	for _, tc := range []struct {
		typ  reflect.Type
		want string
	}{
		{reflect.TypeFor[order](), ""},
		{reflect.TypeFor[map[time.Time]item](), ""},
		{reflect.TypeFor[map[netip.Addr]item](), ""},
		{reflect.TypeFor[jsonOnly](), ""},
		{reflect.TypeFor[secret](), "codec: field secret.v: unexported field would be lost: export it, leave it out with `json:\"-\"`, or give secret MarshalJSON and UnmarshalJSON"},
		{reflect.TypeFor[split](), "codec: field split.c: unexported field would be lost: export it, leave it out with `json:\"-\"`, or give split MarshalJSON and UnmarshalJSON"},
		{reflect.TypeFor[map[bool]int](), "codec: field map[bool]int[key]: bool cannot be a map key here: use a string or integer key, or give it MarshalText and UnmarshalText"},
		{reflect.TypeFor[map[any]int](), "codec: field map[interface {}]int[key]: interface {} cannot be a map key here: use a string or integer key, or give it MarshalText and UnmarshalText"},
		{reflect.TypeFor[embedsTime](), "codec: type embedsTime: MarshalJSON comes from embedded field Time and would drop Label: name the embedded field, or give embedsTime that method"},
	} {
		err := codec.CheckTypeFor(codec.JSON(), tc.typ)
		if got := ""; err != nil {
			got = err.Error()
			if got != tc.want {
				t.Errorf("%v:\n got %s\nwant %s", tc.typ, got, tc.want)
			}
		} else if tc.want != "" {
			t.Errorf("%v: accepted, want %s", tc.typ, tc.want)
		}
		if tc.want != "" && tc.typ.Kind() == reflect.Struct {
			if _, err := codec.JSON().Marshal(reflect.New(tc.typ).Interface()); !errors.Is(err, codec.ErrUnsupported) {
				t.Errorf("JSON Marshal(%v): %v", tc.typ, err)
			}
		}
	}
	if err := codec.CheckTypeFor(named{codec.JSON(), "x"}, reflect.TypeFor[func()]()); !errors.Is(err, codec.ErrUnsupported) {
		t.Errorf("a codec without rules of its own: %v", err)
	}
}
