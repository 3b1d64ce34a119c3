// Package transport is what runners say to each other.
//
// An [Envelope] is one request on its way: who is asked what, with the encoded
// body, the time that is left, and what its receiver checks before it decodes
// the body. The encoding is compact and versioned; decoding bounds what it
// allocates by the bytes at hand and refuses everything it does not understand.
package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// Version is the version of the encoding that this package writes, and the only
// one that it reads.
const Version = 1

// ErrMalformed reports bytes that are no envelope.
var ErrMalformed = errors.New("malformed envelope")

// Envelope is one request between runners.
type Envelope struct {
	ID      crustertype.RequestID
	Address crustertype.Address
	Method  string
	Epoch   int64 // of the shard, as the sender knows it; the receiver refuses an older one
	// Timeout is the time that is left, 0: no deadline. It is relative, because
	// clocks differ; it is cut to microseconds.
	Timeout  time.Duration
	Persist  bool // to be stored before it is run
	OneWay   bool // no reply is wanted
	Internal bool // sent from inside a handler or workflow
	Codec    string
	Payload  []byte
	Meta     []byte // encoded crustertype.Meta
}

const (
	flagPersist = 1 << iota
	flagOneWay
	flagInternal
	flagsKnown = 1<<iota - 1
)

// Encode appends the encoded envelope to b.
func (e *Envelope) Encode(b []byte) []byte {
	var flags byte
	for _, f := range []struct {
		set bool
		bit byte
	}{{e.Persist, flagPersist}, {e.OneWay, flagOneWay}, {e.Internal, flagInternal}} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, Version, flags)
	b = append(b, e.ID[:]...)
	b = binary.AppendUvarint(b, uint64(e.Epoch))
	b = binary.AppendUvarint(b, uint64(max(0, e.Timeout)/time.Microsecond))
	for _, s := range []string{e.Address.Type, e.Address.ID, e.Method, e.Codec} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = append(binary.AppendUvarint(b, uint64(len(e.Meta))), e.Meta...)
	return append(b, e.Payload...)
}

// Decode reads what [Envelope.Encode] wrote. Payload and Meta alias b. The error
// wraps [ErrMalformed] and names the field.
func Decode(b []byte) (Envelope, error) {
	var e Envelope
	if len(b) < 2+len(e.ID) {
		return e, fmt.Errorf("%w: %d bytes are too few", ErrMalformed, len(b))
	}
	if b[0] != Version {
		return e, fmt.Errorf("%w: version %d, want %d: the sender runs another version of cruster", ErrMalformed, b[0], Version)
	}
	flags := b[1]
	if flags&^flagsKnown != 0 {
		return e, fmt.Errorf("%w: unknown flags %#x", ErrMalformed, flags&^flagsKnown)
	}
	e.Persist, e.OneWay, e.Internal = flags&flagPersist != 0, flags&flagOneWay != 0, flags&flagInternal != 0
	copy(e.ID[:], b[2:])
	r := reader{b: b[2+len(e.ID):]}
	epoch := r.uvarint("epoch")
	micros := r.uvarint("timeout")
	e.Address.Type, e.Address.ID = r.text("entity type", crustertype.MaxNameLen), r.text("entity ID", crustertype.MaxIDLen)
	e.Method, e.Codec = r.text("method", crustertype.MaxNameLen), r.text("codec", crustertype.MaxNameLen)
	e.Meta = r.bytes("metadata", len(r.b))
	e.Payload = r.b
	switch {
	case r.err != nil:
		return Envelope{}, r.err
	case epoch > 1<<63-1:
		return Envelope{}, fmt.Errorf("%w: epoch %d is out of range", ErrMalformed, epoch)
	case micros > maxMicros:
		return Envelope{}, fmt.Errorf("%w: timeout of %d µs is out of range", ErrMalformed, micros)
	}
	e.Epoch, e.Timeout = int64(epoch), time.Duration(micros)*time.Microsecond
	return e, nil
}

// reader takes fields off b; after the first error it yields zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uvarint(field string) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err = fmt.Errorf("%w: %s is cut off", ErrMalformed, field)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(field string, most int) []byte {
	n := r.uvarint(field)
	switch {
	case r.err != nil:
		return nil
	case n > uint64(len(r.b)):
		r.err = fmt.Errorf("%w: %s has %d bytes, %d are there", ErrMalformed, field, n, len(r.b))
		return nil
	case n > uint64(most):
		r.err = fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrMalformed, field, n, most)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) text(field string, most int) string { return string(r.bytes(field, most)) }
