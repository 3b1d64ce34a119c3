package crustertype

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxChain bounds the chain of awaited callers that travels with a request.
const MaxChain = 16

const (
	outcomeVersion = 1
	metaVersion    = 1
)

var errShort = errors.New("record ends too early")

// EncodeOutcome returns the compact form of o that storage and the wire keep.
func EncodeOutcome(o Outcome) []byte {
	b := make([]byte, 0, 16+len(o.Codec)+len(o.Payload))
	b = append(b, outcomeVersion)
	if o.Failure == nil {
		b = append(b, 0)
		b = appendString(b, o.Codec)
		return append(b, o.Payload...)
	}
	flags := byte(1)
	if o.Failure.Permanent {
		flags |= 2
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(o.Failure.Code))
	b = appendString(b, o.Failure.Name)
	return appendString(b, o.Failure.Message)
}

// DecodeOutcome reads what [EncodeOutcome] wrote. Empty input is the zero
// Outcome. The payload aliases b.
func DecodeOutcome(b []byte) (Outcome, error) {
	if len(b) == 0 {
		return Outcome{}, nil
	}
	if len(b) < 2 {
		return Outcome{}, fmt.Errorf("outcome: %w", errShort)
	}
	if b[0] != outcomeVersion {
		return Outcome{}, fmt.Errorf("outcome: version %d is unknown: written by a newer cruster", b[0])
	}
	flags, r := b[1], reader{b: b[2:]}
	if flags&1 == 0 {
		codec := r.string()
		if r.err != nil {
			return Outcome{}, fmt.Errorf("outcome: %w", r.err)
		}
		return Outcome{Codec: codec, Payload: r.b}, nil
	}
	f := &Failure{Permanent: flags&2 != 0}
	code := r.uvarint()
	if code > 0xffff {
		return Outcome{}, fmt.Errorf("outcome: failure code %d is out of range", code)
	}
	f.Code, f.Name, f.Message = Code(code), r.string(), r.string()
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return Outcome{}, fmt.Errorf("outcome: %w", r.err)
	}
	return Outcome{Failure: f}, nil
}

// EncodeMeta returns the compact form of m; nil when m says nothing.
func EncodeMeta(m Meta) []byte {
	if len(m.Chain) == 0 && m.TraceParent == "" && m.TraceState == "" && m.Caller == "" && !m.Internal {
		return nil
	}
	b := []byte{metaVersion, 0}
	if m.Internal {
		b[1] = 1
	}
	b = binary.AppendUvarint(b, uint64(len(m.Chain)))
	for _, a := range m.Chain {
		b = appendString(appendString(b, a.Type), a.ID)
	}
	return appendString(appendString(appendString(b, m.TraceParent), m.TraceState), m.Caller)
}

// DecodeMeta reads what [EncodeMeta] wrote.
func DecodeMeta(b []byte) (Meta, error) {
	if len(b) == 0 {
		return Meta{}, nil
	}
	if len(b) < 2 {
		return Meta{}, fmt.Errorf("meta: %w", errShort)
	}
	if b[0] != metaVersion {
		return Meta{}, fmt.Errorf("meta: version %d is unknown: written by a newer cruster", b[0])
	}
	m, r := Meta{Internal: b[1]&1 != 0}, reader{b: b[2:]}
	n := r.uvarint()
	if n > MaxChain {
		return Meta{}, fmt.Errorf("meta: chain of %d addresses: at most %d are allowed", n, MaxChain)
	}
	for range n {
		m.Chain = append(m.Chain, Address{Type: r.string(), ID: r.string()})
	}
	m.TraceParent, m.TraceState, m.Caller = r.string(), r.string(), r.string()
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return Meta{}, fmt.Errorf("meta: %w", r.err)
	}
	return m, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes fields off b; after the first error it yields zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err = errShort
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string {
	n := r.uvarint()
	if r.err != nil {
		return ""
	}
	if n > uint64(len(r.b)) {
		r.err = errShort
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
