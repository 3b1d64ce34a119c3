package codec_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/cruster-go/cruster/codec"
)

// order uses most of what a request may hold.
type order struct {
	ID       string
	Amount   int64
	Rate     float64
	Paid     bool
	Items    []item
	Notes    map[string]string
	ByLine   map[int]*item
	Token    []byte
	Hash     [4]byte
	At       time.Time
	Wait     time.Duration
	Parent   *order
	Extra    any
	Currency currency
	audit
	*Origin
	_ [0]func()
}

type item struct {
	SKU string `msgpack:"sku"`
	Qty int8   `json:"qty,omitempty"`
}

type audit struct{ By string }

// Origin is embedded by pointer.
type Origin struct {
	Host netip.Addr
	Port uint16
}

type page[T any] struct {
	Items []T
	Next  *T
}

// currency travels as text.
type currency int

func (c currency) MarshalText() ([]byte, error) { return []byte([]string{"EUR", "USD"}[c]), nil }

func (c *currency) UnmarshalText(b []byte) error {
	switch string(b) {
	case "EUR":
		*c = 0
	case "USD":
		*c = 1
	default:
		return fmt.Errorf("no currency %q", b)
	}
	return nil
}

// onlyHalf has no UnmarshalText, so its MarshalText is not used.
type onlyHalf int

func (onlyHalf) MarshalText() ([]byte, error) { return []byte("half"), nil }

// secret has no exported state but the binary pair, with pointer receivers.
type secret struct{ v string }

func (s *secret) MarshalBinary() ([]byte, error) { return []byte("v1:" + s.v), nil }

func (s *secret) UnmarshalBinary(b []byte) error {
	v, ok := strings.CutPrefix(string(b), "v1:")
	if !ok {
		return errors.New("bad prefix")
	}
	s.v = v
	return nil
}

// streamed writes itself with the encoder of vmihailenco/msgpack.
type streamed struct {
	at   time.Time
	tags map[string]any
}

func (s streamed) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeMulti(s.at, s.tags) }

func (s *streamed) DecodeMsgpack(d *msgpack.Decoder) error { return d.DecodeMulti(&s.at, &s.tags) }

// point is one msgpack array.
type point struct{ x, y int }

func (p point) EncodeMsgpack(e *msgpack.Encoder) error {
	if err := e.EncodeArrayLen(2); err != nil {
		return err
	}
	return e.EncodeMulti(p.x, p.y)
}

func (p *point) DecodeMsgpack(d *msgpack.Decoder) error {
	if _, err := d.DecodeArrayLen(); err != nil {
		return err
	}
	return d.DecodeMulti(&p.x, &p.y)
}

// raw is the Marshaler pair of vmihailenco/msgpack.
type raw struct{ at time.Time }

func (r raw) MarshalMsgpack() ([]byte, error) { return msgpack.Marshal(r.at) }

func (r *raw) UnmarshalMsgpack(b []byte) error {
	return msgpack.NewDecoder(strings.NewReader(string(b))).Decode(&r.at)
}

// jsonOnly hides its state and has the JSON pair alone.
type jsonOnly struct{ n int }

func (j jsonOnly) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `{"n":%d}`, j.n), nil }

func (j *jsonOnly) UnmarshalJSON(b []byte) error {
	_, err := fmt.Sscanf(string(b), `{"n":%d}`, &j.n)
	return err
}

// shape is an interface, drawing a type that knows how to send one.
type shape interface{ Area() float64 }

type square float64

func (s square) Area() float64 { return float64(s * s) }

type drawing struct{ Shapes []shape }

func (d *drawing) MarshalJSON() ([]byte, error) {
	var sides []float64
	for _, s := range d.Shapes {
		sides = append(sides, float64(s.(square)))
	}
	return json.Marshal(sides)
}

func (d *drawing) UnmarshalJSON(b []byte) error {
	var sides []float64
	err := json.Unmarshal(b, &sides)
	for _, s := range sides {
		d.Shapes = append(d.Shapes, square(s))
	}
	return err
}

// web is cyclic with two ways on from everywhere.
type web struct {
	A, B *web
	X    any
}

// panicky panics in both directions.
type panicky struct{}

func (panicky) MarshalText() ([]byte, error) { panic("no text today") }

func (*panicky) UnmarshalText([]byte) error { panic(errors.New("no text today")) }

// node is recursive in every way.
type node struct {
	Name string
	Next *node
	Kids []node
	Map  map[string]node
}

type embedsTime struct {
	time.Time
	Label string
}

type wide struct {
	A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, B0, B1, B2, B3, B4, B5, B6, B7, B8, B9 int `msgpack:",omitempty"`
}

var instant = time.Date(2026, 3, 29, 1, 30, 0, 123456789, time.FixedZone("X", 3600))

func fullOrder() order {
	return order{
		ID: "o-1", Amount: -1 << 40, Rate: 0.1, Paid: true,
		Items: []item{{"a-1", 2}, {"", 0}}, Notes: map[string]string{"b": "2", "a": "1", "": "\xff"},
		ByLine: map[int]*item{300: {"x", -1}, -1: nil}, Token: []byte{0, 1}, Hash: [4]byte{1, 2, 3, 4},
		At: instant, Wait: 1500 * time.Millisecond, Parent: &order{ID: "o-0", Items: []item{}},
		Extra: map[string]any{"n": int64(7), "l": []any{"x", nil, 1.5, true}}, Currency: 1,
		audit: audit{By: "me"}, Origin: &Origin{Host: netip.MustParseAddr("10.0.0.1"), Port: 80},
	}
}

var cmpOpts = cmp.Options{
	cmp.AllowUnexported(order{}, audit{}, secret{}, streamed{}, point{}, raw{}, jsonOnly{}),
	cmpopts.IgnoreFields(order{}, "_"),
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b *big.Int) bool { return a == b || a != nil && b != nil && a.Cmp(b) == 0 }),
	cmpopts.EquateNaNs(),
}

// trip encodes v, decodes it into a fresh T and compares.
func trip[T any](t *testing.T, c codec.Codec, v T) []byte {
	t.Helper()
	data, err := c.Marshal(v)
	if err != nil {
		t.Fatalf("Marshal(%T): %v", v, err)
	}
	var got T
	if err := c.Unmarshal(data, &got); err != nil {
		t.Fatalf("Unmarshal(%T): %v\npayload %x", v, err, data)
	}
	if d := cmp.Diff(v, got, cmpOpts); d != "" {
		t.Fatalf("%T changed on its way (-sent +received):\n%s", v, d)
	}
	return data
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}
