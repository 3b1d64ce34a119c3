package codec_test

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cruster-go/cruster/codec"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   any
		max  int
		want string
	}{
		{nil, 0, "nil"},
		{5, 0, "5"},
		{5.0, 0, "5.0"},
		{math.NaN(), 0, "NaN"},
		{math.Inf(1), 0, "+Inf"},
		{1e300, 0, "1e+300"},
		{uint64(math.MaxUint64), 0, "18446744073709551615"},
		{"a\n", 0, `"a\n"`},
		{[]byte{1, 0xff}, 0, "0x01ff"},
		{make([]byte, 20), 0, "0x00000000000000000000000000000000… (20 bytes)"},
		{instant, 0, "2026-03-29T00:30:00.123456789Z"},
		{[]any{true, nil}, 0, "[true, nil]"},
		{struct{}{}, 0, "{}"},
		{item{"a-1", 2}, 0, `{qty: 2, sku: "a-1"}`},
		{map[string]int{"b c": 2, "": 1, "a-1_B": 3}, 0, `{"": 1, a-1_B: 3, "b c": 2}`},
		{map[any]any{"a": 1, 2: 3, 10: 4, true: nil}, 0, `{true: nil, 2: 3, 10: 4, "a": 1}`},
		{[]int{1, 2, 3, 4, 5, 6}, 12, "[1, 2, 3,…"},
		{strings.Repeat("é", 100), 10, `"ééé…`},
		{strings.Repeat("x", 1000), 0, `"` + strings.Repeat("x", 252) + "…"},
		{1234567, 2, ""},
		{make(chan int), 80, "chan int (cannot be shown: codec: type chan int: chan cannot travel: use a pl…"},
	} {
		if got := codec.Describe(tc.in, tc.max); got != tc.want {
			t.Errorf("Describe(%T, %d):\n got %s\nwant %s", tc.in, tc.max, got, tc.want)
		}
	}
	for max := range 200 {
		if got := codec.Describe(fullOrder(), max+1); len(got) > max+1 || !utf8.ValidString(got) {
			t.Errorf("Describe(order, %d) = %d bytes %q", max+1, len(got), got)
		}
	}
}

func TestDescribePayload(t *testing.T) {
	t.Parallel()
	if got, want := codec.DescribePayload([]byte(`{"a":1}`), codec.JSON(), 0), "{a: 1}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := codec.DescribePayload(nil, codec.Msgpack(), 0), "nil"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := "1 bytes (cannot be shown: codec: malformed payload: msgpack at byte 0: code 0xc1 is reserved)"
	if got := codec.DescribePayload([]byte{0xc1}, codec.Msgpack(), 0); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	type charge struct {
		Amount int
		Items  []item
		Note   string
		At     time.Time
		Tags   map[string]string
		By     map[int]int
	}
	type charge2 struct {
		charge
		New  []string
		Sub  struct{ X int }
		Rate float64
	}
	base := charge{Amount: 5, Items: []item{{"a", 1}, {"b", 2}}, At: instant}
	with := func(change func(*charge)) charge {
		c := base
		c.Items = append([]item(nil), base.Items...)
		change(&c)
		return c
	}
	for _, tc := range []struct {
		name string
		a, b any
		want string
	}{
		{"nothing", base, base, ""},
		{"scalar", base, with(func(c *charge) { c.Amount = 7 }), "Amount: 5 -> 7"},
		{"nested", base, with(func(c *charge) { c.Items[1].SKU = "x" }), `Items[1].sku: "b" -> "x"`},
		{"omitted", base, with(func(c *charge) { c.Items[1].Qty = 0 }), "Items[1].qty: 2 -> (none)"},
		{"longer", base, with(func(c *charge) { c.Items = append(c.Items, item{"c", 3}) }), `Items[2]: (none) -> {qty: 3, sku: "c"}`},
		{"longer by a zero", []int{1}, []int{1, 0}, "[1]: (none) -> 0"},
		{"time", base, with(func(c *charge) { c.At = instant.Add(time.Second) }), "At: 2026-03-29T00:30:00.123456789Z -> 2026-03-29T00:30:01.123456789Z"},
		{"time zone", base, with(func(c *charge) { c.At = instant.UTC() }), ""},
		{"map keys", with(func(c *charge) { c.Tags = map[string]string{"a b": "1", "c": "2"}; c.By = map[int]int{3: 1} }), with(func(c *charge) { c.Tags = map[string]string{"a b": "2"}; c.By = map[int]int{3: 2} }), `By[3]: 1 -> 2; Tags["a b"]: "1" -> "2"; Tags.c: "2" -> (none)`},
		{"new zero fields and more", base, charge2{charge: with(func(c *charge) { c.Amount = 7 })}, "Amount: 5 -> 7"},
		{"new zero fields alone", base, charge2{charge: base}, "New: (none) -> nil; Rate: (none) -> 0.0; Sub: (none) -> {X: 0}"},
		{"new field", base, charge2{charge: base, Rate: 1.5}, "Rate: (none) -> 1.5"},
		{"nil and empty", with(func(c *charge) { c.Items = nil }), with(func(c *charge) { c.Items = []item{} }), "Items: nil -> []"},
		{"nil and empty and more", with(func(c *charge) { c.Items = nil }), with(func(c *charge) { c.Items = []item{}; c.Amount = 7 }), "Amount: 5 -> 7"},
		{"only zeros in a map", map[string]int{"a": 0}, map[string]int{}, "a: 0 -> (none)"},
		{"widths", 5, 5.0, ""},
		{"types", 5, "5", `5 -> "5"`},
		{"top level", []any{}, map[string]any{"a": 1}, "[] -> {a: 1}"},
		{"many", []int{1, 2, 3, 4, 5, 6, 7, 8}, []int{8, 7, 6, 5, 4, 3, 2, 1}, "[0]: 1 -> 8; [1]: 2 -> 7; [2]: 3 -> 6; [3]: 4 -> 5; [4]: 5 -> 4; and 3 more"},
		{"long", strings.Repeat("a", 100), strings.Repeat("b", 100), `"` + strings.Repeat("a", 56) + `… -> "` + strings.Repeat("b", 56) + "…"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range []codec.Codec{codec.Msgpack(), codec.JSON()} {
				a, err := c.Marshal(tc.a)
				if err != nil {
					t.Fatal(err)
				}
				b, err := c.Marshal(tc.b)
				if err != nil {
					t.Fatal(err)
				}
				want := tc.want
				if c.Name() == "json" {
					want = strings.ReplaceAll(want, "0.0", "0")
					switch tc.name {
					case "time", "time zone", "map keys": // times are strings there, and integer keys are strings
						continue
					}
					want = strings.ReplaceAll(want, "sku", "SKU")
					want = strings.ReplaceAll(want, `{qty: 3, SKU: "c"}`, `{SKU: "c", qty: 3}`)
				}
				if got := codec.Diff(a, b, c.Name()); got != want {
					t.Errorf("%s:\n got %s\nwant %s", c.Name(), got, want)
				}
			}
		})
	}
}

func TestDiffOfTheUnreadable(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ a, b, codec, want string }{
		{"ab", "ab", "msgpack", ""},
		{"ab", "ab", "cbor", ""},
		{"ab", "acd", "cbor", `2 bytes -> 3 bytes, different from byte 1 (contents cannot be shown: unknown codec "cbor": known are json, msgpack; add it to the registry)`},
		{"\xc1", "\x01", "msgpack", "1 bytes -> 1 bytes, different from byte 0 (contents cannot be shown: codec: malformed payload: msgpack at byte 0: code 0xc1 is reserved)"},
		{"\x01", "\x01\x02", "msgpack", "1 bytes -> 2 bytes, different from byte 1 (contents cannot be shown: codec: malformed payload: msgpack at byte 1: 1 bytes follow the value)"},
		{"", "\x01", "msgpack", "nil -> 1"},
		{"", "\x00", "msgpack", "nil -> 0"},
	} {
		if got := codec.Diff([]byte(tc.a), []byte(tc.b), tc.codec); got != tc.want {
			t.Errorf("Diff(%q, %q, %s):\n got %s\nwant %s", tc.a, tc.b, tc.codec, got, tc.want)
		}
	}
	c := codec.Wrap(codec.JSON(), xor(7))
	a, _ := c.Marshal(item{"a", 1})
	b, _ := c.Marshal(item{"b", 1})
	if got, want := codec.DiffPayloads(a, b, c), `SKU: "a" -> "b"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
