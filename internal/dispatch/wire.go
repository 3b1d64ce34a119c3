package dispatch

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
)

// What runners ask of each other. Numbers are never reused.
const (
	OpVolatile  transport.Op = 1  // a best-effort request: Envelope; answered with an outcome
	OpPost      transport.Op = 2  // the same without an answer, accepted when it is in the mailbox
	OpStream    transport.Op = 3  // a stream: Envelope; chunks are outcomes
	OpCall      transport.Op = 4  // a persisted request: answered with its outcome
	OpSend      transport.Op = 5  // the same, answered when it is durable
	OpAwait     transport.Op = 6  // the outcome of a stored request
	OpJoin      transport.Op = 7  // the outcome of an execution
	OpCancel    transport.Op = 8  // cancel an execution
	OpTerminate transport.Op = 9  // terminate an execution
	OpRetry     transport.Op = 10 // retry an execution
	OpNudge     transport.Op = 11 // work for the receiver is in storage
	OpGranted   transport.Op = 12 // shards were handed over to the receiver
	OpGoodbye   transport.Op = 13 // the sender has left the cluster
	OpPing                   = transport.PingOp
	OpDraining  transport.Op = 15 // the sender gives its shards away
	OpMembers   transport.Op = 16 // who the members are, for clients
	OpStart     transport.Op = 17 // start an execution, for clients
	OpPoll      transport.Op = 18 // the outcome of an execution, if it has one, for clients
)

var errMalformed = crustertype.Errorf(crustertype.CodeInvalid, "malformed request: the sender runs another version of cruster")

// request is a persisted request on its way to the owner of its shard: flags,
// key, digest and times, then an envelope.
func encodeMessage(m *crustertype.Message) []byte {
	var flags byte
	if m.Uninterrupted {
		flags |= 1
	}
	b := make([]byte, 0, 96+len(m.Key)+len(m.Meta)+len(m.Payload))
	b = append(b, 1, flags)
	b = append(b, m.Digest[:]...)
	b = binary.AppendVarint(b, micros(m.CreatedAt))
	b = binary.AppendVarint(b, micros(m.DeliverAt))
	b = appendText(b, m.Key)
	e := transport.Envelope{ID: m.ID, Address: m.Address, Method: m.Method, Persist: true, Codec: m.Codec, Payload: m.Payload, Meta: m.Meta}
	return e.Encode(b)
}

func decodeMessage(b []byte) (crustertype.Message, error) {
	var m crustertype.Message
	if len(b) < 2+len(m.Digest) || b[0] != 1 || b[1] > 1 {
		return m, errMalformed
	}
	m.Uninterrupted = b[1]&1 != 0
	copy(m.Digest[:], b[2:])
	r := Fields{b: b[2+len(m.Digest):]}
	m.CreatedAt, m.DeliverAt = r.Time(), r.Time()
	m.Key = r.Text(crustertype.MaxIDLen)
	if r.err != nil {
		return m, r.err
	}
	e, err := transport.Decode(r.b)
	if err != nil {
		return m, crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	m.ID, m.Address, m.Method, m.Codec, m.Payload, m.Meta = e.ID, e.Address, e.Method, e.Codec, e.Payload, e.Meta
	m.State = crustertype.MessagePending
	return m, nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// encodeExecution is how an execution is named, with a text such as a reason.
func encodeExecution(ref crustertype.ExecutionRef, text string) []byte {
	return appendText(appendText(appendText([]byte{1}, ref.Type), ref.ID), text)
}

// maxText bounds a reason.
const maxText = 64 << 10

func decodeExecution(b []byte) (ref crustertype.ExecutionRef, text string, err error) {
	r := ReadFields(b)
	ref.Type, ref.ID, text = r.Text(crustertype.MaxNameLen), r.Text(crustertype.MaxIDLen), r.Text(maxText)
	return ref, text, r.End()
}

// Fields takes values off a body; after the first error it yields zero values.
type Fields struct {
	b   []byte
	err error
}

// ReadFields reads a body that begins with the version byte 1.
func ReadFields(b []byte) *Fields {
	r := &Fields{}
	if len(b) == 0 || b[0] != 1 {
		r.fail()
		return r
	}
	r.b = b[1:]
	return r
}

// Err returns the first error.
func (r *Fields) Err() error { return r.err }

func (r *Fields) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Time reads a time in microseconds, 0 for the zero time.
func (r *Fields) Time() time.Time {
	v := r.varint()
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMicro(v)
}

// Count reads a number that is at most most.
func (r *Fields) Count(most int) int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(most) {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

// Text reads a text of at most that many bytes.
func (r *Fields) Text(most int) string {
	n := r.Count(most)
	if n > len(r.b) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *Fields) fail() {
	r.b = nil
	if r.err == nil {
		r.err = errMalformed
	}
}

// End returns the first error; bytes that are left over are one.
func (r *Fields) End() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail()
	}
	return r.err
}

// ErrHere says that the shard which was to be asked elsewhere is owned here.
var ErrHere = errors.New("the shard is owned here")
