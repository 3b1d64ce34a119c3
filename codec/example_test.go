package codec_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/cruster-go/cruster/codec"
)

type Payment struct {
	OrderID string
	Amount  int64
	Tags    map[string]string `msgpack:",omitempty"`
}

func Example() {
	c := codec.Msgpack()
	data, err := c.Marshal(Payment{OrderID: "o-1", Amount: 300})
	if err != nil {
		fmt.Println(err)
		return
	}
	var same Payment
	fmt.Println(c.Unmarshal(data, &same), same.OrderID, same.Amount)

	// A narrower type on the other side is an error, not another number.
	var narrow struct{ Amount int8 }
	err = c.Unmarshal(data, &narrow)
	fmt.Println(errors.Is(err, codec.ErrMismatch), err)
	// Output:
	// <nil> o-1 300
	// true codec: field struct { Amount int8 }.Amount: 300 does not fit int8
}

func ExampleCheckType() {
	type Order struct {
		ID   string
		Done chan bool
	}
	fmt.Println(codec.CheckType(reflect.TypeFor[Order]()))
	// Output:
	// codec: field Order.Done: chan cannot travel: use a plain value, or leave it out with `msgpack:"-"`
}

func ExampleCheck() {
	bomb := []byte{0xdd, 0x7f, 0xff, 0xff, 0xff, 0xc0} // an array of two thousand million elements, it says
	fmt.Println(codec.Check(bomb))
	fmt.Println(codec.Check([]byte{0x92, 0x01, 0x02}))
	// Output:
	// codec: malformed payload: msgpack at byte 0: more than 1048576 elements
	// <nil>
}

func ExampleDigest() {
	type Old struct{ ID, Note string }
	type New struct {
		Note   string
		Urgent bool // added later
		ID     string
	}
	a, _ := codec.Digest(Old{ID: "o-1", Note: "x"})
	b, _ := codec.Digest(New{ID: "o-1", Note: "x"})
	c, _ := codec.Digest(New{ID: "o-1", Note: "x", Urgent: true})
	fmt.Println(a == b, b == c)
	// Output: true false
}

func ExampleDescribe() {
	p := Payment{OrderID: "o-1", Amount: 5, Tags: map[string]string{"b": "2", "a": "1"}}
	fmt.Println(codec.Describe(p, 0))
	fmt.Println(codec.Describe(p, 30))
	// Output:
	// {Amount: 5, OrderID: "o-1", Tags: {a: "1", b: "2"}}
	// {Amount: 5, OrderID: "o-1",…
}

func ExampleDiff() {
	c := codec.JSON()
	recorded, _ := c.Marshal(Payment{OrderID: "o-1", Amount: 5})
	requested, _ := c.Marshal(Payment{OrderID: "o-1", Amount: 7})
	fmt.Println(codec.Diff(recorded, requested, c.Name()))
	// Output: Amount: 5 -> 7
}

// gzipHook compresses. It bounds what it inflates to.
type gzipHook struct{ max int64 }

func (gzipHook) Name() string { return "gzip" }

func (gzipHook) Encode(data []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func (h gzipHook) Decode(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, h.max+1))
	if err == nil && int64(len(out)) > h.max {
		err = fmt.Errorf("inflates to more than %d bytes", h.max)
	}
	return out, err
}

func ExampleWrap() {
	c := codec.Wrap(codec.Msgpack(), gzipHook{max: 4 << 20})
	registry, err := codec.NewRegistry(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(registry.Names())

	data, _ := c.Marshal(Payment{OrderID: "o-1", Amount: 5})
	reader, _ := registry.Lookup("msgpack+gzip") // the name stored beside the payload
	var p Payment
	fmt.Println(reader.Unmarshal(data, &p), p.Amount)
	// Output:
	// [json msgpack msgpack+gzip]
	// <nil> 5
}
