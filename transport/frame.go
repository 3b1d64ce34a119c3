package transport

import (
	"encoding/binary"
	"fmt"
)

// kind is the first byte of a frame.
type kind byte

// The kinds of frames. DESIGN.md has the table; numbers are never reused.
const (
	kindHello   kind = 1  // who I am; the first frame either way
	kindRefuse  kind = 2  // a failure; the sender closes the connection
	kindRequest kind = 3  // op, flags, timeout, window, body
	kindReply   kind = 4  // the body of the answer
	kindError   kind = 5  // a failure, in place of an answer or as the end of a stream
	kindChunk   kind = 6  // the next part of a stream
	kindEnd     kind = 7  // the stream is complete
	kindCredit  kind = 8  // so much more may be sent on a stream
	kindCancel  kind = 9  // the answer is no longer wanted
	kindPing    kind = 10 // answered with a pong of the same number
	kindPong    kind = 11
	kindGoodbye kind = 12 // send no new requests on this connection
	kindLast    kind = 13 // I send none and wait for none
)

var kindNames = [...]string{
	kindHello: "hello", kindRefuse: "refuse", kindRequest: "request", kindReply: "reply", kindError: "error", kindChunk: "chunk",
	kindEnd: "end", kindCredit: "credit", kindCancel: "cancel", kindPing: "ping", kindPong: "pong", kindGoodbye: "goodbye", kindLast: "last",
}

func (k kind) known() bool { return k >= kindHello && int(k) < len(kindNames) }

func (k kind) String() string {
	if k.known() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// frame is one frame of a message; payload aliases the message.
type frame struct {
	kind    kind
	number  uint64 // of the request, counted by the side that asks
	payload []byte
}

// maxHeader is the most bytes in front of a payload.
const maxHeader = 1 + 2*binary.MaxVarintLen64

// appendFrame appends a frame whose payload is head and body together.
func appendFrame(b []byte, k kind, number uint64, head, body []byte) []byte {
	b = append(b, byte(k))
	b = binary.AppendUvarint(b, number)
	b = binary.AppendUvarint(b, uint64(len(head)+len(body)))
	return append(append(b, head...), body...)
}

// nextFrame takes the first frame off a message.
func nextFrame(b []byte) (frame, []byte, error) {
	if len(b) == 0 {
		return frame{}, nil, fmt.Errorf("%w: empty frame", ErrMalformed)
	}
	f := frame{kind: kind(b[0])}
	if !f.kind.known() {
		return frame{}, nil, fmt.Errorf("%w: %v of frame is unknown", ErrMalformed, f.kind)
	}
	r := reader{b: b[1:]}
	f.number = r.uvarint("number of request")
	f.payload = r.bytes("frame", len(r.b))
	if r.err != nil {
		return frame{}, nil, r.err
	}
	return f, r.b, nil
}

const (
	requestStream = 1 << iota
	requestFlags  = 1<<iota - 1
)

// request is the payload of a frame of kindRequest.
type request struct {
	op     Op
	stream bool
	micros uint64 // time left, 0: no deadline
	window uint64 // of a stream
	body   []byte
}

// maxRequestHead is the most bytes of a request in front of its body.
const maxRequestHead = 2 + 2*binary.MaxVarintLen64

func (r *request) head(b []byte) []byte {
	b = append(b, byte(r.op), 0)
	if r.stream {
		b[len(b)-1] = requestStream
	}
	b = binary.AppendUvarint(b, r.micros)
	if r.stream {
		b = binary.AppendUvarint(b, r.window)
	}
	return b
}

func decodeRequest(b []byte) (request, error) {
	if len(b) < 2 {
		return request{}, fmt.Errorf("%w: request of %d bytes is too short", ErrMalformed, len(b))
	}
	if b[1]&^requestFlags != 0 {
		return request{}, fmt.Errorf("%w: unknown flags %#x of a request", ErrMalformed, b[1]&^requestFlags)
	}
	q := request{op: Op(b[0]), stream: b[1]&requestStream != 0}
	r := reader{b: b[2:]}
	q.micros = r.uvarint("timeout of request")
	if q.stream {
		q.window = r.uvarint("window of request")
	}
	if r.err != nil {
		return request{}, r.err
	}
	if q.micros > maxMicros {
		return request{}, fmt.Errorf("%w: timeout of %d µs is out of range", ErrMalformed, q.micros)
	}
	if q.window > maxWindow || q.stream && q.window == 0 {
		return request{}, fmt.Errorf("%w: window of %d bytes is out of range", ErrMalformed, q.window)
	}
	q.body = r.b
	return q, nil
}

const (
	maxMicros = uint64(1<<63-1) / 1000
	maxWindow = 1 << 30
)

// decodeCredit reads the payload of a frame of kindCredit.
func decodeCredit(b []byte) (int, error) {
	r := reader{b: b}
	n := r.uvarint("credit")
	switch {
	case r.err != nil:
		return 0, r.err
	case n > maxWindow || len(r.b) > 0:
		return 0, fmt.Errorf("%w: credit of %d bytes is out of range", ErrMalformed, n)
	}
	return int(n), nil
}
