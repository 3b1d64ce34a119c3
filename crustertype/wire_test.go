package crustertype_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/crustertype"
)

func TestOutcomeRoundTrip(t *testing.T) {
	t.Parallel()
	for _, o := range []crustertype.Outcome{
		{},
		{Codec: "msgpack", Payload: []byte{1, 2, 3}},
		{Failure: &crustertype.Failure{Code: crustertype.CodeUser, Name: "no_stock", Message: "no stock", Permanent: true}},
		{Failure: &crustertype.Failure{Code: crustertype.CodePanic}},
	} {
		got, err := crustertype.DecodeOutcome(crustertype.EncodeOutcome(o))
		if err != nil {
			t.Fatalf("DecodeOutcome(EncodeOutcome(%+v)) = %v", o, err)
		}
		if len(got.Payload) == 0 {
			got.Payload = nil
		}
		if diff := cmp.Diff(o, got); diff != "" {
			t.Errorf("outcome changed on the way (-want +got):\n%s", diff)
		}
	}
}

func TestMetaRoundTrip(t *testing.T) {
	t.Parallel()
	m := crustertype.Meta{
		Chain:       []crustertype.Address{{Type: "a", ID: "1"}, {Type: "b", ID: ""}},
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Caller: "order/7", Internal: true,
	}
	got, err := crustertype.DecodeMeta(crustertype.EncodeMeta(m))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("meta changed on the way (-want +got):\n%s", diff)
	}
	if b := crustertype.EncodeMeta(crustertype.Meta{}); b != nil {
		t.Errorf("EncodeMeta of nothing = %v, want nil: an empty column costs nothing", b)
	}
}

func TestKeyedIDsDoNotCollideByConcatenation(t *testing.T) {
	t.Parallel()
	ab := crustertype.KeyedRequestID(crustertype.Address{Type: "ab", ID: "c"}, "m", "k")
	a := crustertype.KeyedRequestID(crustertype.Address{Type: "a", ID: "bc"}, "m", "k")
	if ab == a {
		t.Error(`("ab","c") and ("a","bc") give one ID: the parts must be kept apart`)
	}
	const zeros = "\x00\x00\x00\x00\x00\x00\x00\x00" // what would separate the parts if their lengths did not
	left := crustertype.KeyedRequestID(crustertype.Address{Type: "t", ID: "x" + zeros + "y"}, "z", "k")
	right := crustertype.KeyedRequestID(crustertype.Address{Type: "t", ID: "x"}, "y"+zeros+"z", "k")
	if left == right {
		t.Error("parts that contain a separator give one ID: they must be length-prefixed")
	}
}

func TestNewRequestIDIncreases(t *testing.T) {
	t.Parallel()
	prev := crustertype.NewRequestID()
	for range 20_000 {
		id := crustertype.NewRequestID()
		if string(id[:]) <= string(prev[:]) {
			t.Fatalf("%v was made after %v but does not sort behind it", id, prev)
		}
		prev = id
	}
	back, err := crustertype.ParseRequestID(prev.String())
	if err != nil || back != prev {
		t.Errorf("ParseRequestID(%q) = %v, %v", prev.String(), back, err)
	}
}

func TestErrorIsMatchesSentinelByCode(t *testing.T) {
	t.Parallel()
	err := crustertype.Errorf(crustertype.CodeMailboxFull, "100 requests wait").At("call counter.Get", crustertype.Address{Type: "counter", ID: "1"})
	if !errors.Is(err, crustertype.ErrMailboxFull) {
		t.Errorf("errors.Is(%v, ErrMailboxFull) = false", err)
	}
	if errors.Is(err, crustertype.ErrNotOwner) {
		t.Errorf("errors.Is(%v, ErrNotOwner) = true", err)
	}
	if want := "call counter.Get: counter/1: 100 requests wait"; err.Error() != want {
		t.Errorf("Error() = %q, want %q", err.Error(), want)
	}
}

func FuzzDecodeOutcome(f *testing.F) {
	f.Add(crustertype.EncodeOutcome(crustertype.Outcome{Codec: "msgpack", Payload: []byte("x")}))
	f.Add(crustertype.EncodeOutcome(crustertype.Outcome{Failure: &crustertype.Failure{Code: 1, Name: "n", Message: "m"}}))
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := crustertype.DecodeOutcome(b)
		if err != nil {
			return
		}
		again, err := crustertype.DecodeOutcome(crustertype.EncodeOutcome(o))
		if err != nil {
			t.Fatalf("own encoding of %+v is refused: %v", o, err)
		}
		if diff := cmp.Diff(o, again); diff != "" && len(o.Payload)+len(again.Payload) > 0 {
			t.Errorf("outcome changed (-first +second):\n%s", diff)
		}
	})
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(crustertype.EncodeMeta(crustertype.Meta{Chain: []crustertype.Address{{Type: "a", ID: "b"}}, Internal: true}))
	f.Add([]byte{1, 0, 0xff, 0xff, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := crustertype.DecodeMeta(b)
		if err != nil {
			return
		}
		again, err := crustertype.DecodeMeta(crustertype.EncodeMeta(m))
		if err != nil {
			t.Fatalf("own encoding of %+v is refused: %v", m, err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Errorf("meta changed (-first +second):\n%s", diff)
		}
	})
}
