package codec_test

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/cruster-go/cruster/codec"
)

func TestCheckAccepts(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"\xc0", "\xc2", "\xc3", "\x00", "\x7f", "\xe0", "\xff", "\xcc\xff", "\xcd\xff\xff", "\xce\xff\xff\xff\xff", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
		"\xd0\x80", "\xd1\x80\x00", "\xd2\x80\x00\x00\x00", "\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "\xca\x7f\xc0\x00\x00", "\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
		"\xa0", "\xa1\xff", "\xd9\x01a", "\xda\x00\x01a", "\xdb\x00\x00\x00\x01a", "\xc4\x00", "\xc5\x00\x01a", "\xc6\x00\x00\x00\x01a",
		"\x90", "\x92\x01\x90", "\xdc\x00\x01\x01", "\xdd\x00\x00\x00\x00", "\x80", "\x81\xa1a\x80", "\xde\x00\x01\x01\x01", "\xdf\x00\x00\x00\x00",
		"\xd6\xff\xff\xff\xff\xff", "\xd7\xff\xee\x6b\x27\xff\xff\xff\xff\xff", "\xc7\x0c\xff\x3b\x9a\xc9\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"\xc8\x00\x04\xff\x00\x00\x00\x01", "\xc9\x00\x00\x00\x08\xff\x00\x00\x00\x00\x00\x00\x00\x01",
		strings.Repeat("\x91", codec.MaxDepth) + "\x01", strings.Repeat("\x91", codec.MaxDepth-1) + "\x90",
		strings.Repeat("\x92\x90", codec.MaxDepth-1) + "\x92\x01\x02",
	} {
		if err := codec.Check([]byte(s)); err != nil {
			t.Errorf("Check(%x): %v", s, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	many := "\xdd\x00\x10\x00\x01" + strings.Repeat("\xc0", codec.MaxElements+1)
	sum := "\x92\xdd\x00\x08\x00\x00" + strings.Repeat("\xc0", 1<<19) + "\xdf\x00\x04\x00\x00" + strings.Repeat("\xc0", 1<<19)
	for _, tc := range []struct{ in, want string }{
		{"", "0: the bytes end where a value is due"},
		{"\x92\x01", "0: array declares 2 elements, too many for the 1 bytes left"},
		{"\x91", "0: array declares 1 elements, too many for the 0 bytes left"},
		{"\x81\x01", "0: map declares 2 elements, too many for the 1 bytes left"},
		{"\x92\x92\x01\x01", "1: array declares 2 elements, too many for the 2 bytes left"},
		{"\x92\xa1a", "3: the bytes end where a value is due"},
		{"\xdd\xff\xff\xff\xff", "0: more than 1048576 elements"},
		{"\xdf\x80\x00\x00\x00", "0: more than 1048576 elements"},
		{"\xdd\x00\x00\xff\xff\x01", "0: array declares 65535 elements, too many for the 1 bytes left"},
		{"\xdc\xff\xff\x01", "0: array declares 65535 elements, too many for the 1 bytes left"},
		{"\xdb\xff\xff\xff\xff", "0: string declares 4294967295 bytes, 0 are left"},
		{"\xc6\xff\xff\xff\xffab", "0: bytes declares 4294967295 bytes, 2 are left"},
		{"\xc9\xff\xff\xff\xff\xff", "0: ext declares 4294967295 bytes, 0 are left"},
		{"\xa2a", "0: string declares 2 bytes, 1 are left"},
		{"\xcd\x01", "0: the bytes end inside a header"},
		{"\x91\xcb\x01", "1: the bytes end inside a header"},
		{"\xd4", "0: the bytes end inside a header"},
		{"\xc7\x01", "0: the bytes end inside a header"},
		{"\xc1", "0: code 0xc1 is reserved"},
		{"\x01\x02", "1: 1 bytes follow the value"},
		{"\x91\x01\xc0\xc0", "2: 2 bytes follow the value"},
		{strings.Repeat("\x91", codec.MaxDepth+1) + "\x01", "64: nested deeper than 64"},
		{strings.Repeat("\x91", codec.MaxDepth) + "\x90", "64: nested deeper than 64"},
		{strings.Repeat("\x81\x01", codec.MaxDepth+1) + "\x01", "128: nested deeper than 64"},
		{strings.Repeat("\x91", 100000) + "\x01", "64: nested deeper than 64"},
		{many, "0: more than 1048576 elements"},
		{sum, "524294: more than 1048576 elements"},
		{"\xd4\x05\x01", "0: ext type 5 is not supported, only timestamps (type -1) are"},
		{"\xd4\x80\x01", "0: ext type -128 is not supported, only timestamps (type -1) are"},
		{"\xd4\xff\x01", "0: timestamp is not 4, 8 or 12 bytes long"},
		{"\xd7\xff\xee\x6b\x28\x00\x00\x00\x00\x00", "0: timestamp has more than 999999999 nanoseconds"},
		{"\xc7\x0c\xff\x3b\x9a\xca\x00\x00\x00\x00\x00\x00\x00\x00\x00", "0: timestamp has more than 999999999 nanoseconds"},
	} {
		err := codec.Check([]byte(tc.in))
		if want := "codec: malformed payload: msgpack at byte " + tc.want; err == nil || err.Error() != want || !errors.Is(err, codec.ErrMalformed) {
			t.Errorf("Check(%.20x):\n got %v\nwant %s", tc.in, err, want)
		}
		if tc.in == "" {
			continue
		}
		var x any
		if uerr := codec.Msgpack().Unmarshal([]byte(tc.in), &x); uerr == nil || uerr.Error() != err.Error() {
			t.Errorf("Unmarshal(%.20x) does not call Check: %v", tc.in, uerr)
		}
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	data, err := codec.Msgpack().Marshal(fullOrder())
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = codec.Check(data) }); n != 0 {
		t.Errorf("Check allocates %v times", n)
	}
}

// allocated returns the bytes f allocates. Not for parallel tests.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// greedy hands its bytes to the library's decoder, which believes every length.
type greedy struct{ m map[string]any }

func (g *greedy) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeMapSorted(g.m) }

func (g *greedy) DecodeMsgpack(d *msgpack.Decoder) (err error) {
	g.m, err = d.DecodeMap()
	return err
}

// greedier does the same through the other pair.
type greedier struct{ M map[string]any }

func (g greedier) MarshalMsgpack() ([]byte, error) {
	var b bytes.Buffer
	err := msgpack.NewEncoder(&b).SetSortMapKeys(true).Encode(g.M)
	return b.Bytes(), err
}

func (g *greedier) UnmarshalMsgpack(b []byte) error {
	return msgpack.NewDecoder(strings.NewReader(string(b))).Decode(&g.M)
}

type large struct{ A [1 << 10]int64 }

type largePointer struct{ *large2 }

type large2 = Large2

// Large2 is embedded by pointer.
type Large2 struct {
	A [1 << 10]int64
	B int
}

// Bombs: short payloads that make careless decoders allocate gigabytes. Ours must refuse them, or decode them, in bounded memory.
func TestBombs(t *testing.T) {
	array := func(n int, elem string) string {
		return string([]byte{0xdd, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + strings.Repeat(elem, n)
	}
	// A map header inside a timestamp, for the decoder that reads on there.
	smuggled := "\xd6\xff\xdf\xff\xff\xff\xff"
	for _, tc := range []struct {
		name   string
		in     string
		target any
		refuse bool
	}{
		{"slice of any", "\xdd\xff\xff\xff\xff\xc0", new(any), true},
		{"map of any", "\xdf\x7f\xff\xff\xff\xc0", new(any), true},
		{"map[string]any", "\xdf\x7f\xff\xff\xff\xc0", new(map[string]any), true},
		{"typed map", "\xdf\x7f\xff\xff\xff\xc0", new(map[int]int), true},
		{"bytes", "\xc6\x7f\xff\xff\xff\xc0", new([]byte), true},
		{"string", "\xdb\x7f\xff\xff\xff\xc0", new(string), true},
		{"nested", strings.Repeat("\xdd\x00\x0f\xff\xff", 20), new(any), true},
		{"deep", strings.Repeat("\x91", 1<<20), new(any), true},
		{"nils into large structs", array(1<<20, "\xc0"), new([]large), true},
		{"empty maps into large structs", array(1<<17, "\x80"), new([]*large), true},
		{"empty maps into a map of large structs", "\xdf\x00\x01\x00\x00" + strings.Repeat("\xcd\x01\x01\x80", 1<<16), new(map[int]large), true},
		{"embedded pointers", array(1<<17, "\x81\xa1B\x01"), new([]largePointer), true},
		{"nils into any", array(1<<20, "\xc0"), new(any), false},
		{"empty maps into any", array(1<<20, "\x80"), new(any), false},
		{"ext as a map in a stream decoder", smuggled, new(greedy), true},
		{"ext as a map in a bytes decoder", smuggled, new(greedier), true},
		{"ext of nanoseconds as a map", "\xd7\xff\xdf\xff\xff\xff\xff\xff\xff\xff", new(greedy), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := []byte(tc.in)
			var err error
			got := allocated(func() { err = codec.Msgpack().Unmarshal(data, tc.target) })
			if (err != nil) != tc.refuse {
				t.Errorf("err = %v, want refusal: %v", err, tc.refuse)
			}
			if bound := uint64(80<<20 + 64*len(data)); got > bound {
				t.Errorf("%d bytes of payload took %d bytes of memory, more than %d", len(data), got, bound)
			}
		})
	}
}

func TestDisarmKeepsTimes(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{instant, {}, time.Unix(0xdf000000, 0), time.Unix(5, 939000000), time.Unix(1<<34, 1)} {
		type both struct {
			S *greedy
			R raw
		}
		in := both{&greedy{map[string]any{"at": at, "l": []any{"x", at}}}, raw{at}}
		data, err := codec.Msgpack().Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var got both
		if err := codec.Msgpack().Unmarshal(data, &got); err != nil {
			t.Fatalf("%v: %v", at, err)
		}
		if m, _ := got.S.m["at"].(time.Time); !m.Equal(at) || !got.R.at.Equal(at) {
			t.Errorf("%v became %v and %v", at, m, got.R.at)
		}
	}
}

func TestRoomIsNoLimitForHonestPayloads(t *testing.T) {
	t.Parallel()
	type row struct {
		A, B, C, D string    `msgpack:",omitempty"`
		T          time.Time `msgpack:",omitzero"`
		L          []int     `msgpack:",omitempty"`
	}
	rows := make([]row, 200_000)
	data, err := codec.Msgpack().Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	var got []row
	if err := codec.Msgpack().Unmarshal(data, &got); err != nil || len(got) != len(rows) {
		t.Errorf("%d rows, %v", len(got), err)
	}
}
