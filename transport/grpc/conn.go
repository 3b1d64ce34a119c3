package grpctransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // for the health service
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/cruster-go/cruster/transport"
)

const (
	serviceName = "cruster.transport.v1.Peer"
	streamName  = "Connect"
)

// clientStream describes the one stream of the service.
var clientStream = grpc.StreamDesc{StreamName: streamName, ServerStreams: true, ClientStreams: true}

// stream is what client and server streams have in common.
type stream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
	Context() context.Context
}

// conn is a stream as a connection.
type conn struct {
	stream stream
	out    outgoing // reused, as only one goroutine sends; so is in
	in     incoming
	closed chan struct{}
	once   sync.Once
	cancel context.CancelFunc // of a dialled one
}

var _ transport.Conn = (*conn)(nil)

// Send implements [transport.Conn].
func (c *conn) Send(msg []byte) error {
	c.out.msg = msg
	err := c.stream.SendMsg(&c.out)
	c.out.msg = nil
	return plain(err)
}

// Recv implements [transport.Conn].
func (c *conn) Recv(buf []byte) ([]byte, error) {
	c.in.msg = buf
	err := c.stream.RecvMsg(&c.in)
	msg := c.in.msg
	c.in.msg = nil
	if err != nil {
		return nil, plain(err)
	}
	return msg, nil
}

// Close implements [transport.Conn].
func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// plain takes the status off an error of a connection that has ended.
func plain(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	switch s.Code() {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.Unimplemented, codes.ResourceExhausted:
		return err
	case codes.Canceled:
		return io.EOF
	}
	return errors.New(s.Message())
}

// outgoing and incoming are messages on their way through the codec.
type (
	outgoing struct{ msg []byte }
	incoming struct{ msg []byte }
)

// codec passes messages through as they are, and all else as protobuf.
type codec struct{}

var _ encoding.CodecV2 = codec{}

// Name implements [encoding.CodecV2].
func (codec) Name() string { return "cruster" }

// Marshal implements [encoding.CodecV2]. gRPC keeps what it returns after the
// message was sent, so it is a copy.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*outgoing)
	if !ok {
		return encoding.GetCodecV2("proto").Marshal(v)
	}
	b := buffers.Get(len(m.msg))
	copy(*b, m.msg)
	return mem.BufferSlice{mem.NewBuffer(b, buffers)}, nil
}

// Unmarshal implements [encoding.CodecV2].
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*incoming)
	if !ok {
		return encoding.GetCodecV2("proto").Unmarshal(data, v)
	}
	n := data.Len()
	if cap(m.msg) < n {
		m.msg = make([]byte, n)
	}
	m.msg = m.msg[:n]
	if copied := data.CopyTo(m.msg); copied != n {
		return fmt.Errorf("message of %d bytes has %d", n, copied)
	}
	return nil
}

// buffers holds what was sent. Those of gRPC begin at 256 bytes, and it does
// not take back less than 1 KiB, so small messages would be garbage.
var buffers = new(bufferPool)

const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

type bufferPool struct{ small, large sync.Pool }

var _ mem.BufferPool = (*bufferPool)(nil)

// Get implements [mem.BufferPool].
func (p *bufferPool) Get(n int) *[]byte {
	pool, size := &p.small, smallBuffer
	if n > smallBuffer {
		pool, size = &p.large, largeBuffer
	}
	if n > largeBuffer {
		b := make([]byte, n)
		return &b
	}
	b, ok := pool.Get().(*[]byte)
	if !ok {
		fresh := make([]byte, size)
		b = &fresh
	}
	*b = (*b)[:n]
	return b
}

// Put implements [mem.BufferPool].
func (p *bufferPool) Put(b *[]byte) {
	switch cap(*b) {
	case smallBuffer:
		p.small.Put(b)
	case largeBuffer:
		p.large.Put(b)
	}
}
