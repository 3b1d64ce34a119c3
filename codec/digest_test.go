package codec_test

import (
	"encoding/hex"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/cruster-go/cruster/codec"
)

func digest(t *testing.T, v any) string {
	t.Helper()
	d, err := codec.Digest(v)
	if err != nil {
		t.Fatalf("Digest(%T): %v", v, err)
	}
	return hex.EncodeToString(d[:])
}

// spelling is an IsZero that differs from Go's zero.
type spelling struct{ S string }

func (s spelling) IsZero() bool { return s.S == "" || s.S == "none" }

func TestDigestEqual(t *testing.T) {
	t.Parallel()
	type ab struct {
		A int
		B string
	}
	type ba struct {
		B   string
		New *int
		A   uint8
		X   any
		At  time.Time
		L   []ab
		Sub struct{ S [2]string }
		M   map[string]int
		C   currency
		D   secret
		Z   spelling `msgpack:",omitzero"`
	}
	type tagged struct {
		First int    `msgpack:"A"`
		B     []any  `json:"-"`
		C     string `json:"B"`
	}
	one := 1
	for _, tc := range []struct {
		name string
		a, b any
	}{
		{"field order, width, new fields", ab{1, "x"}, ba{A: 1, B: "x"}},
		{"names from tags", ab{1, "x"}, tagged{First: 1, C: "x"}},
		{"pointer", ab{1, "x"}, &ab{1, "x"}},
		{"pointer to pointer", 1, func() **int { p := &one; return &p }()},
		{"empty collections", ba{L: []ab{}, M: map[string]int{}}, ba{}},
		{"nil and empty top level", []int(nil), []int{}},
		{"nil and empty element", [][]int{nil}, [][]int{{}}},
		{"nil and empty bytes", []byte(nil), []byte{}},
		{"negative zero", struct{ F float64 }{math.Copysign(0, -1)}, struct{}{}},
		{"whole float", 5, 5.0},
		{"float width", 0.5, float32(0.5)},
		{"large whole float", uint64(1 << 63), float64(1 << 63)},
		{"negative whole float", int64(math.MinInt64), -float64(1 << 63)},
		{"NaN", math.NaN(), math.Float64frombits(math.Float64bits(math.NaN()) ^ 1)},
		{"instant", instant, instant.UTC()},
		{"zero time", ba{At: time.Time{}.In(time.FixedZone("X", 3600))}, ba{}},
		{"omitted by IsZero", ba{Z: spelling{"none"}}, ba{}},
		{"flattened", struct {
			audit
			A int
		}{audit{"x"}, 1}, struct {
			A  int
			By string
		}{1, "x"}},
		{"slice and array", []int{1, 2}, [2]int{1, 2}},
		{"bytes and array", []byte{1, 2}, [2]byte{1, 2}},
		{"any and its decoded form", any([]any{ab{0, ""}, &ab{1, "x"}, map[int]currency{1: 1}, [2]byte{}}), []any{
			map[string]any{"A": int64(0), "B": ""}, map[string]any{"A": int64(1), "B": "x"}, map[any]any{int64(1): "USD"}, []byte{0, 0},
		}},
		{"text key", map[currency]int{1: 1}, map[string]int{"USD": 1}},
		{"bytes key in any", []any{map[[2]byte]int{{65, 66}: 1, {67, 68}: 2}}, []any{map[string]any{"AB": 1, "CD": 2}}},
		{"stream and its value", point{1, 2}, []int{1, 2}},
		{"stream in order", greedier{map[string]any{"b": 1, "a": []any{nil, "", 1.5, true, instant}}}, map[string]any{"a": []any{nil, "", 1.5, true, instant}, "b": 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if a, b := digest(t, tc.a), digest(t, tc.b); a != b {
				t.Errorf("%s != %s\n%s\n%s", a, b, codec.Describe(tc.a, 0), codec.Describe(tc.b, 0))
			}
		})
	}
}

func TestDigestDiffers(t *testing.T) {
	t.Parallel()
	zero := 0
	seen := map[string]int{}
	for i, v := range []any{
		nil, 0, "", false, true, "0", []int{0}, []string{""}, []bool{false}, 1, -1, 1.5, "a", []byte("a"), []string{"a"}, []string{"a", ""},
		[]string{"", "a"}, [][]string{{"a"}, {}}, [][]string{{}, {"a"}}, [][]string{{"a", ""}}, []any{nil}, []any{nil, nil},
		map[string]int{"a": 0}, map[string]int{"b": 0}, map[string]int{"a": 1}, map[string]int{"a": 1, "b": 0}, map[string]string{"a": "b", "c": "d"},
		map[string]string{"a": "bc", "": "d"}, map[string]string{"a": "d", "c": "b"}, map[int]int{0: 0}, map[any]any{nil: nil}, []map[string]int{{"a": 1}, {"b": 2}},
		[]map[string]int{{"a": 1, "b": 2}}, struct{}{}, struct{ P *int }{&zero}, struct{ X any }{0}, struct{ X any }{""}, struct{ X any }{false},
		struct{ X any }{map[string]any{"a": 0}}, instant, instant.Add(1), time.Time{}, time.Unix(0, 0), math.Inf(1), math.Inf(-1), math.NaN(), 1e300,
		uint64(math.MaxUint64), int64(math.MinInt64), currency(1), netip.MustParseAddr("1.2.3.4"),
		struct{ A, B string }{"ab", "A"}, struct{ A, B string }{"bA", "a"}, struct{ A []struct{ B int } }{[]struct{ B int }{{0}}}, struct{ A []struct{ B int } }{[]struct{ B int }{{0}, {0}}},
	} {
		d := digest(t, v)
		if j, dup := seen[d]; dup {
			t.Errorf("value %d (%s) has the digest of value %d", i, codec.Describe(v, 0), j)
		}
		seen[d] = i
	}
}

// Digests are stored: these must never change.
func TestDigestGolden(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		v    any
		want string
	}{
		{nil, "19041ad672875015bc4041c24b581eaf"},
		{struct{}{}, "1ab15c94acd2c4ad7ae000895130a9a2"},
		{5, "ad1322853435d64eefbecae6d2124a04"},
		{"order", "adcb1a5c6279b6fd3432d6d72d8e724d"},
		{item{"a-1", 2}, "d03bfc420d3f1e9452ae7a4f19033daf"},
		{fullOrder(), "cffd06b36e6c443400a9e381899e34e6"},
		{[]any{true, -1.5, []byte{1}, instant, map[any]any{2: "b", "a": nil}}, "c09b321b8c53f170ff509fe3d479ce10"},
	} {
		if got := digest(t, tc.v); got != tc.want {
			t.Errorf("Digest(%s) = %s, want %s", codec.Describe(tc.v, 60), got, tc.want)
		}
	}
}

func TestDigestSurvivesTheTrip(t *testing.T) {
	t.Parallel()
	in := fullOrder()
	in.Extra = map[string]any{"o": &order{ID: "inner", Token: []byte{}, Items: []item{}}, "s": item{}, "p": point{1, 2}, "c": currency(1), "t": instant, "h": [2]byte{1}, "e": struct{}{}}
	want := digest(t, in)
	for range 3 {
		data, err := codec.Msgpack().Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		in = order{}
		if err := codec.Msgpack().Unmarshal(data, &in); err != nil {
			t.Fatal(err)
		}
		if got := digest(t, in); got != want {
			t.Fatalf("the digest changed on the way: %s", codec.Describe(in, 2000))
		}
	}
	in = fullOrder()
	in.Extra = nil
	in.Notes = nil // not UTF-8
	want = digest(t, in)
	data, err := codec.JSON().Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got order
	if err := codec.JSON().Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if digest(t, got) != want {
		t.Error("the digest changed on the way through json")
	}
}
