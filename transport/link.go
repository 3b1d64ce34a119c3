package transport

import (
	"context"
	"log/slog"
	"time"
)

// Conn carries messages between two transports, in order and whole, until it
// ends. Send and Recv are called by one goroutine each, Close by any.
type Conn interface {
	// Send passes on a message and returns when it can take another one. It
	// does not use msg afterwards.
	Send(msg []byte) error

	// Recv returns the next message, in buf when that is large enough. The
	// message belongs to the caller.
	Recv(buf []byte) ([]byte, error)

	// Close ends the connection without waiting; Send and Recv then return
	// errors on both sides. What was sent before is best delivered. It is
	// idempotent.
	Close() error
}

// Link makes the connections of a transport.
type Link interface {
	// Listen begins to accept connections, if the link can, and passes each to
	// accept, which does not block. ctx bounds the call alone.
	Listen(ctx context.Context, accept func(Conn)) error

	// Address is where Dial of other links reaches this one, "" for nowhere.
	Address() string

	// Dial connects to the link at an address, within ctx. An error that is a
	// [*crustertype.Error] keeps its code; any other one means that the peer
	// cannot be reached.
	Dial(ctx context.Context, to string) (Conn, error)

	// Refuse ends accepting. Connections that are open go on.
	Refuse()

	// Close closes everything, and returns when nothing that the link started
	// runs any more. It is called once, after the connections were closed.
	Close() error
}

// Options are the limits and times of a transport. For each, zero means the
// default.
type Options struct {
	// MaxBody is the largest body of a request, a reply or a chunk. Default
	// 4 MiB and 64 KiB: a payload of the limit in its envelope.
	MaxBody int
	// MaxRequests is how many requests of one connection are answered at a
	// time; more are refused with CodeMailboxFull. Default 4096.
	MaxRequests int
	// MaxRequestBytes is how large their bodies are together. Default 64 MiB.
	MaxRequestBytes int
	// Window is how many bytes of a stream may wait for its consumer, who
	// may be one chunk behind it. Default 256 KiB.
	Window int
	// PingInterval is how long either side may be silent before this one sends a
	// ping. It belongs well below the Silence of the peers. Default 1 s, -1: never.
	PingInterval time.Duration
	// Silence is how long a peer may be silent before its connection is closed.
	// Default 4 s.
	Silence time.Duration
	// DialTimeout bounds how long it takes to make a connection, hello included,
	// for the side that dials and for the one that accepts. Default 5 s.
	DialTimeout time.Duration
	// MaxBackoff bounds the time, doubled with each failure, in which a peer
	// that could not be reached is not tried again: requests fail at once. It
	// begins at 20 ms. Default 500 ms.
	MaxBackoff time.Duration
	// Seed makes the jitter repeatable. 0: random.
	Seed uint64
	// Logger hears of connections that are refused or broken. Default
	// [slog.Default].
	Logger *slog.Logger
}

const minBackoff = 20 * time.Millisecond

func (o Options) withDefaults() Options {
	for _, f := range []struct {
		field *int
		value int
	}{{&o.MaxBody, 4<<20 + 64<<10}, {&o.MaxRequests, 4096}, {&o.MaxRequestBytes, 64 << 20}, {&o.Window, 256 << 10}} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.PingInterval, time.Second}, {&o.Silence, 4 * time.Second}, {&o.DialTimeout, 5 * time.Second}, {&o.MaxBackoff, 500 * time.Millisecond}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	o.Window = min(o.Window, maxWindow)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// MaxMessage is the size of the largest message that a transport hands to
// [Conn.Send] or takes from [Conn.Recv]; larger ones are sent in pieces.
const MaxMessage = 1 + pieceSize

// maxMessage is the size of the largest message when its pieces are joined.
func (o Options) maxMessage() int {
	return max(o.MaxBody+maxHeader+maxRequestHead, 5*maxFailureText) + 2*outboxLimit
}
