package transport

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// outboxLimit is how many bytes wait for the connection before those who send
// requests, replies and chunks wait too. What must not wait has as much again.
const outboxLimit = 256 << 10

// keepBuffer is the largest buffer that is kept for the next message.
const keepBuffer = 64 << 10

// pieceSize is the most bytes of a message that are sent at once. The peer
// counts each piece as a sign of life, so a slow network may carry large
// messages.
const pieceSize = 256 << 10

// What the first byte of each piece says.
const (
	pieceLast = 0
	pieceMore = 1
)

var errNotRead = errors.New("the peer does not read")

// outbox gathers frames while the connection is busy and sends those that wait
// as one message. When little is going on, whoever adds a frame sends it
// himself; otherwise it is left to the goroutine in run, which lets others add
// theirs first.
type outbox struct {
	conn   Conn
	pieces atomic.Uint64 // sent so far
	said   atomic.Bool   // something was sent since the last tick
	kick   chan struct{} // to run: there is something to send
	gone   chan struct{} // closed by fail

	mu      sync.Mutex
	buf     []byte
	urgent  int // bytes in buf that did not wait for room
	spare   []byte
	turn    uint64 // of the message that buf becomes
	taken   uint64 // of the last message handed to the connection
	sending bool
	waiting []*waiter
	granted int // bytes that waiters were told to add
	err     error
}

func newOutbox(c Conn) *outbox {
	return &outbox{conn: c, kick: make(chan struct{}, 1), gone: make(chan struct{}), turn: 1}
}

// put adds a frame and returns the turn of the message that it is in. It waits
// for room, until ctx ends; after an error the frame was not and will not be
// sent. With direct, it sends the frame itself when the connection is free.
func (o *outbox) put(ctx context.Context, direct bool, k kind, number uint64, head, body []byte) (uint64, error) {
	size := maxHeader + len(head) + len(body)
	o.mu.Lock()
	if o.err == nil && (len(o.waiting) > 0 || !o.fits(size)) {
		if err := o.wait(ctx, size); err != nil {
			o.mu.Unlock()
			return 0, err
		}
	}
	if o.err != nil {
		defer o.mu.Unlock()
		return 0, o.err
	}
	turn := o.add(k, number, head, body)
	if o.sending {
		o.mu.Unlock()
		return turn, nil
	}
	if !direct {
		o.mu.Unlock()
		o.wake()
		return turn, nil
	}
	o.send()
	more := len(o.buf) > 0
	o.mu.Unlock()
	if more {
		o.wake()
	}
	return turn, nil
}

// waiter is a put that waits for room.
type waiter struct {
	size int
	ok   chan struct{} // closed when there is room for it
}

// fits reports whether a frame may be added now: any if there is none.
func (o *outbox) fits(size int) bool {
	used := len(o.buf) + o.granted
	return used == 0 || used+size <= outboxLimit
}

// wait waits for room, first come, first served: small frames would else keep
// large ones out for ever. It is called, and returns, with mu held.
func (o *outbox) wait(ctx context.Context, size int) error {
	w := &waiter{size: size, ok: make(chan struct{})}
	o.waiting = append(o.waiting, w)
	o.mu.Unlock()
	var err error
	select {
	case <-w.ok:
	case <-o.gone:
	case <-ctx.Done():
		err = ctx.Err()
	}
	o.mu.Lock()
	if i := slices.Index(o.waiting, w); i >= 0 {
		o.waiting = slices.Delete(o.waiting, i, i+1)
	} else {
		o.granted -= size
	}
	if err != nil {
		o.grant() // what was meant for it
	}
	return err
}

// grant lets waiters add their frames. It is called with mu held.
func (o *outbox) grant() {
	for len(o.waiting) > 0 && o.fits(o.waiting[0].size) {
		w := o.waiting[0]
		o.waiting = slices.Delete(o.waiting, 0, 1)
		o.granted += w.size
		close(w.ok)
	}
}

// urge adds a frame without waiting. It fails when too much waits already,
// which is what a peer brings about that does not read.
func (o *outbox) urge(k kind, number uint64, head []byte) error {
	size := maxHeader + len(head)
	o.mu.Lock()
	err := o.err
	if err == nil && o.urgent > 0 && o.urgent+size > outboxLimit {
		err = errNotRead
	}
	if err != nil {
		o.mu.Unlock()
		return err
	}
	o.urgent += size
	o.add(k, number, head, nil)
	o.mu.Unlock()
	o.wake()
	return nil
}

func (o *outbox) add(k kind, number uint64, head, body []byte) uint64 {
	if o.buf == nil {
		o.buf, o.spare = append(o.spare[:0], pieceLast), nil
	}
	o.buf = appendFrame(o.buf, k, number, head, body)
	return o.turn
}

// send hands buf to the connection. It is called, and returns, with mu held.
func (o *outbox) send() {
	msg := o.buf
	o.buf, o.urgent, o.sending = nil, 0, true
	o.taken = o.turn
	o.turn++
	o.grant()
	o.mu.Unlock()
	err := o.transmit(msg)
	o.mu.Lock()
	o.sending = false
	if cap(msg) <= keepBuffer {
		o.spare = msg
	}
	if err != nil && o.err == nil {
		o.err = err
		_ = o.conn.Close() // the reader finds out and ends the session
	}
}

// transmit sends a message, whose first byte is free, in pieces. The first byte
// of each overwrites the last one of the piece before.
func (o *outbox) transmit(msg []byte) error {
	for len(msg) > 1+pieceSize {
		msg[0] = pieceMore
		if err := o.conn.Send(msg[:1+pieceSize]); err != nil {
			return err
		}
		o.pieces.Add(1)
		o.said.Store(true)
		msg = msg[pieceSize:]
	}
	msg[0] = pieceLast
	o.pieces.Add(1)
	o.said.Store(true)
	return o.conn.Send(msg)
}

func (o *outbox) wake() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// run sends what others leave to it, until fail is called.
func (o *outbox) run() {
	for {
		select {
		case <-o.kick:
		case <-o.gone:
			return
		}
		runtime.Gosched()
		o.mu.Lock()
		for len(o.buf) > 0 && !o.sending && o.err == nil {
			o.send()
		}
		o.mu.Unlock()
	}
}

// sent reports whether the message of a turn was handed to the connection.
func (o *outbox) sent(turn uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return turn <= o.taken
}

// stuck returns a number for the piece that the connection is busy with, 0 for
// none.
func (o *outbox) stuck() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sending {
		return 1 + o.pieces.Load()
	}
	return 0
}

// fail refuses all further frames and ends run. It is called once.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	o.buf = nil
	o.mu.Unlock()
	close(o.gone)
}
