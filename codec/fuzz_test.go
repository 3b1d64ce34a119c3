package codec_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/cruster-go/cruster/codec"
)

// fuzzTargets are types that together reach every branch of the decoder.
func fuzzTargets() []any {
	return []any{
		new(any), new(order), new(*node), new(map[string]any), new(map[any]any), new([]string), new([]byte), new([4]byte), new(string), new(int8), new(uint16),
		new(float32), new(float64), new(bool), new(time.Time), new(currency), new(secret), new(streamed), new(point), new(greedy), new(greedier), new(raw),
		new(jsonOnly), new(msgpack.RawMessage), new(map[currency]time.Duration), new(map[[2]byte]*int), new([3]page[any]), new(wide), new(panicky), new(struct{}),
	}
}

func seeds(f *testing.F, c codec.Codec) {
	f.Helper()
	for _, v := range []any{nil, 1, -1.5, "x", []byte{1}, fullOrder(), instant, []any{1, "a", nil, map[string]any{"k": instant}}, point{1, 2}, node{Kids: []node{{}}}} {
		data, err := c.Marshal(v)
		if err != nil && c != codec.JSON() { // which cannot carry a point
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// FuzzCheck: what the guard accepts, the library everybody uses can skip to the very end; the guard never panics and never allocates.
func FuzzCheck(f *testing.F) {
	seeds(f, codec.Msgpack())
	f.Add([]byte("\xdd\xff\xff\xff\xff\xc0"))
	f.Add([]byte("\xd6\xff\xdf\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := codec.Check(data)
		if err != nil {
			if !errors.Is(err, codec.ErrMalformed) {
				t.Fatalf("not ErrMalformed: %v", err)
			}
			return
		}
		r := bytes.NewReader(data)
		if err := msgpack.NewDecoder(r).Skip(); err != nil || r.Len() != 0 {
			t.Fatalf("the library disagrees: %v, %d bytes left", err, r.Len())
		}
	})
}

// FuzzMsgpack: no payload panics, and what decodes travels on unchanged.
func FuzzMsgpack(f *testing.F) {
	seeds(f, codec.Msgpack())
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, target := range fuzzTargets() {
			err := codec.Msgpack().Unmarshal(data, target)
			if err != nil {
				if !errors.Is(err, codec.ErrMalformed) && !errors.Is(err, codec.ErrMismatch) {
					t.Fatalf("%T: neither malformed nor a mismatch: %v", target, err)
				}
				continue
			}
			again(t, codec.Msgpack(), target)
		}
		codec.DescribePayload(data, codec.Msgpack(), 50)
		codec.Diff(data, append([]byte{0x91}, data...), "msgpack")
	})
}

// again sends *target around twice. The digest stays the same, and so do the bytes once a struct inside an any has become a map.
func again(t *testing.T, c codec.Codec, target any) {
	t.Helper()
	var before []byte
	for range 3 {
		data, err := c.Marshal(target)
		if err != nil {
			if errors.Is(err, codec.ErrUnsupported) {
				return // a method of the type refuses what another accepted
			}
			t.Fatalf("%T: %v", target, err)
		}
		fresh := reflect.New(reflect.TypeOf(target).Elem()).Interface()
		if err := c.Unmarshal(data, fresh); err != nil {
			t.Fatalf("%T: cannot read what was written: %v\n%x", target, err, data)
		}
		d1, err1 := codec.Digest(target)
		d2, err2 := codec.Digest(fresh)
		if err1 != nil || err2 != nil || d1 != d2 {
			t.Fatalf("%T: digest %x (%v) became %x (%v)\n%x", target, d1, err1, d2, err2, data)
		}
		if target = fresh; before == nil {
			before = []byte{}
			continue
		}
		if len(before) > 0 && !bytes.Equal(before, data) {
			t.Fatalf("%T changed on its way:\n%x\n%x", target, before, data)
		}
		before = data
	}
}

// FuzzJSON: the same for JSON.
func FuzzJSON(f *testing.F) {
	seeds(f, codec.JSON())
	f.Add([]byte(`[[[[{"a":[1e3,18446744073709551616]}]]]] `))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, target := range []any{new(any), new(order), new(node), new(map[string]any), new([]byte), new(int8), new(float32), new(jsonOnly), new(page[any])} {
			err := codec.JSON().Unmarshal(data, target)
			if err != nil {
				if !errors.Is(err, codec.ErrMalformed) && !errors.Is(err, codec.ErrMismatch) {
					t.Fatalf("%T: neither malformed nor a mismatch: %v", target, err)
				}
				continue
			}
			again(t, codec.JSON(), target)
		}
		codec.DescribePayload(data, codec.JSON(), 50)
	})
}

// FuzzDigest: the digest of a value built from the input survives both codecs, and sees every change.
func FuzzDigest(f *testing.F) {
	f.Add("a", int64(5), 1.5, []byte{1}, int64(0), uint8(0))
	f.Add("", int64(-1<<63), math.Copysign(0, -1), []byte{}, int64(-62135596800), uint8(7))
	f.Fuzz(func(t *testing.T, s string, i int64, x float64, b []byte, sec int64, n uint8) {
		type value struct {
			S string
			I int64
			X float64
			B []byte
			T time.Time
			M map[string]int64
			L []map[int64]string
			P *value
			A any
		}
		v := value{S: s, I: i, X: x, B: b, T: time.Unix(sec%(1<<40), i&0xfffff), M: map[string]int64{s: i, "k": 1}, P: &value{S: s}}
		for k := range n % 8 {
			v.L = append(v.L, map[int64]string{int64(k): s})
		}
		v.A = []any{s, i, x, b, v.T, value{I: i}}
		again(t, codec.Msgpack(), &v)
		want, err := codec.Digest(v)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*value){
			"S": func(v *value) { v.S += "x" },
			"I": func(v *value) { v.I++ },
			"B": func(v *value) { v.B = append(bytes.Clone(v.B), 0) },
			"T": func(v *value) { v.T = v.T.Add(1) },
			"M": func(v *value) { v.M = nil },
			"L": func(v *value) { v.L = append(v.L[:len(v.L):len(v.L)], nil) },
			"P": func(v *value) { v.P = &value{S: s, P: &value{}} },
			"A": func(v *value) { v.A = nil },
		} {
			w := v
			change(&w)
			if got, err := codec.Digest(w); err != nil || got == want {
				t.Fatalf("a change of %s does not show (%v)", name, err)
			}
		}
	})
}
