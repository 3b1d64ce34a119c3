package transport

import (
	"context"
	"iter"

	"github.com/cruster-go/cruster/crustertype"
)

// Op says what a request asks for. Its meaning is the handler's own.
type Op uint8

// Hello is what one side of a connection tells the other first.
type Hello struct {
	// Cluster is the name of the cluster. Both sides need the same one.
	Cluster string
	// Address is where the sender is reached, "" when it cannot be.
	Address string
	// Incarnation of the sender; 0 for a client that owns nothing.
	Incarnation crustertype.Incarnation
}

// Handler answers what peers ask. Its methods are called concurrently.
type Handler interface {
	// Call answers a request. ctx ends when the caller gives up, when its time
	// has passed, and when the connection or the transport ends. body belongs to
	// the handler.
	Call(ctx context.Context, from Hello, op Op, body []byte) ([]byte, error)

	// Stream answers a request with a sequence of chunks. send blocks while the
	// caller has not taken enough of the earlier ones, and returns an error when
	// ctx has ended. chunk is not used after send has returned.
	Stream(ctx context.Context, from Hello, op Op, body []byte, send func(chunk []byte) error) error

	// Connected tells of a peer: of a new connection, either way, or of a
	// changed hello on one. It must not block.
	Connected(from Hello)
}

// Transport carries requests between runners. All methods may be called
// concurrently.
//
// An error that the far side's handler returned arrives as a
// [*crustertype.Error] with the same code, text, name and marks. What goes wrong
// on the way is one too: CodeUnavailable when the peer cannot be reached,
// CodeCancelled or CodeTimeout when ctx ended, CodeTooLarge when the request or
// the reply exceeds the limit, CodeForbidden when the peer refuses the
// connection. Its field Executed is false only when the request has certainly
// not reached the handler, so that it may be sent again.
type Transport interface {
	// Start begins to accept requests for h and returns when peers can connect.
	// ctx bounds the start alone. A transport without an address of its own only
	// calls out. It is called once.
	Start(ctx context.Context, self Hello, h Handler) error

	// Address returns where peers reach the transport: what the runner
	// advertises. "" when they cannot.
	Address() string

	// Introduce replaces what peers are told about this side, also on
	// connections that are open: a runner that joins again has a new
	// incarnation.
	Introduce(self Hello)

	// Connect makes a connection to a peer, if there is none, so that both sides
	// hear of each other.
	Connect(ctx context.Context, to string) error

	// Call sends a request and waits for the reply.
	Call(ctx context.Context, to string, op Op, body []byte) ([]byte, error)

	// Stream sends a request and yields the chunks of the answer; an error is
	// yielded once, as the last. To stop the iteration cancels the request.
	Stream(ctx context.Context, to string, op Op, body []byte) iter.Seq2[[]byte, error]

	// Forget closes the connections to a peer that is gone. Requests under way
	// fail at once.
	Forget(peer string)

	// Close refuses new requests, lets those that its handler is answering end
	// until ctx does, and closes the connections. It is idempotent.
	Close(ctx context.Context) error
}
