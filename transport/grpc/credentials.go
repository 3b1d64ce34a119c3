package grpctransport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"

	"google.golang.org/grpc/credentials"

	"github.com/cruster-go/cruster/crustertype"
)

// loggedCredentials tells of handshakes that fail.
type loggedCredentials struct {
	credentials.TransportCredentials
	refused func(from string, err error)
}

// ServerHandshake implements [credentials.TransportCredentials].
func (c *loggedCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		c.refused(raw.RemoteAddr().String(), err)
	}
	return secured, info, err
}

// Clone implements [credentials.TransportCredentials].
func (c *loggedCredentials) Clone() credentials.TransportCredentials {
	return &loggedCredentials{TransportCredentials: c.TransportCredentials.Clone(), refused: c.refused}
}

// dialCredentials tell distrust, on either side, from a network that fails. In
// TLS 1.3 the client is done before the server has looked at its certificate,
// so they wait for the first byte of the server: gRPC servers speak first.
type dialCredentials struct {
	credentials.TransportCredentials
	distrust *atomic.Pointer[crustertype.Error]
}

// ClientHandshake implements [credentials.TransportCredentials].
func (c *dialCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	var first [1]byte
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
		_, err = io.ReadFull(secured, first[:])
		stop()
	}
	if err == nil {
		return &peekedConn{Conn: secured, first: first[:]}, info, nil
	}
	if ctx.Err() == nil && !network(err) {
		c.distrust.Store(crustertype.Errorf(crustertype.CodeForbidden, "TLS: %w: check certificates, authorities and names on both sides", err))
	}
	if secured != nil {
		_ = secured.Close()
	}
	return nil, nil, err
}

// Clone implements [credentials.TransportCredentials].
func (c *dialCredentials) Clone() credentials.TransportCredentials {
	return &dialCredentials{TransportCredentials: c.TransportCredentials.Clone(), distrust: c.distrust}
}

// network reports whether err says nothing about trust.
func network(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op != "remote error" // what package tls calls an alert of the peer
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
}

// peekedConn gives back what was read ahead.
type peekedConn struct {
	net.Conn
	first []byte
}

// Read implements [net.Conn]. gRPC reads from one goroutine.
func (c *peekedConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}
