package transport_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
)

func example() transport.Envelope {
	return transport.Envelope{
		ID: crustertype.NewRequestID(), Address: crustertype.Address{Type: "counter", ID: "c-1"}, Method: "Increment", Epoch: 7,
		Timeout: 1500 * time.Millisecond, Persist: true, Internal: true, Codec: "msgpack", Payload: []byte{0x81}, Meta: []byte{1, 0, 0, 0, 0, 0},
	}
}

func TestEnvelopeRoundTrip(t *testing.T) {
	t.Parallel()
	bare := transport.Envelope{OneWay: true, Meta: []byte{}, Payload: []byte{}}
	for _, e := range []transport.Envelope{example(), bare} {
		got, err := transport.Decode(e.Encode(nil))
		if err != nil {
			t.Fatalf("Decode(Encode(%+v)) = %v", e, err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("envelope changed on the way (-sent +received):\n%s", diff)
		}
	}
}

func TestEveryPrefixIsRefusedOrWhole(t *testing.T) {
	t.Parallel()
	e := example()
	whole := e.Encode(nil)
	for n := range len(whole) - len(e.Payload) {
		if _, err := transport.Decode(whole[:n]); !errors.Is(err, transport.ErrMalformed) {
			t.Errorf("the first %d of %d bytes decode to %v, want ErrMalformed", n, len(whole), err)
		}
	}
}

func TestDecodeNamesTheFault(t *testing.T) {
	t.Parallel()
	e := example()
	long := e
	long.Method = strings.Repeat("m", crustertype.MaxNameLen+1)
	version, flags := e.Encode(nil), e.Encode(nil)
	version[0], flags[1] = 9, 0x80
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty": {nil, "too few"}, "version": {version, "version 9, want 1"}, "flags": {flags, "unknown flags 0x80"},
		"long name": {long.Encode(nil), "method has 129 bytes, at most 128"},
		"bomb":      {append(bytes.Repeat([]byte{1, 0}, 9), 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f), "entity type has"},
	} {
		_, err := transport.Decode(c.b)
		if !errors.Is(err, transport.ErrMalformed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	e := example()
	f.Add(e.Encode(nil))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := transport.Decode(b)
		if err != nil {
			if !errors.Is(err, transport.ErrMalformed) {
				t.Errorf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		again, err := transport.Decode(e.Encode(nil))
		if err != nil {
			t.Fatalf("own encoding of %+v is refused: %v", e, err)
		}
		if diff := cmp.Diff(e, again); diff != "" {
			t.Errorf("envelope changed (-first +second):\n%s", diff)
		}
	})
}

func BenchmarkEnvelope(b *testing.B) {
	e := example()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = e.Encode(buf[:0])
		if _, err := transport.Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
}
