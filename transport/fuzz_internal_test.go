package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/crustertype"
)

func exampleGreeting() greeting {
	return greeting{min: 1, max: 1, maxBody: 1 << 20, hello: Hello{Cluster: "test", Address: "10.0.0.1:7000", Incarnation: 7}}
}

func exampleFailure() *crustertype.Error {
	return &crustertype.Error{
		Code: crustertype.CodeUser, Op: "call", Address: crustertype.Address{Type: "counter", ID: "1"}, Message: "no", Name: "n", Executed: true, Permanent: true,
	}
}

// allFrames is a message with a frame of each kind.
func allFrames() []byte {
	g := exampleGreeting()
	q, s := request{op: 3, micros: 1e6}, request{op: 4, stream: true, window: 1000}
	b := appendFrame(nil, kindHello, 0, g.encode(nil), nil)
	b = appendFrame(b, kindRequest, 1, q.head(nil), []byte("body"))
	b = appendFrame(b, kindRequest, 2, s.head(nil), []byte("body"))
	b = appendFrame(b, kindReply, 1, nil, []byte("reply"))
	b = appendFrame(b, kindError, 2, encodeFailure(nil, exampleFailure()), nil)
	b = appendFrame(b, kindChunk, 3, nil, []byte("chunk"))
	b = appendFrame(b, kindCredit, 2, appendUvarint(nil, 64), nil)
	for k := kindEnd; k.known(); k++ {
		if k != kindCredit {
			b = appendFrame(b, k, 5, nil, nil)
		}
	}
	return appendFrame(b, kindRefuse, 0, encodeFailure(nil, exampleFailure()), nil)
}

func checkMalformed(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrMalformed) {
		t.Errorf("error %v does not wrap ErrMalformed", err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(allFrames())
	f.Add([]byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; len(rest) > 0; {
			fr, after, err := nextFrame(rest)
			if err != nil {
				checkMalformed(t, err)
				return
			}
			again, _, err := nextFrame(appendFrame(nil, fr.kind, fr.number, nil, fr.payload))
			if err != nil || again.kind != fr.kind || again.number != fr.number || !bytes.Equal(again.payload, fr.payload) {
				t.Fatalf("frame %+v became %+v, %v", fr, again, err)
			}
			if len(after) >= len(rest) {
				t.Fatal("a frame took nothing off the message")
			}
			rest = after
		}
	})
}

func FuzzRequest(f *testing.F) {
	for _, q := range []request{{op: 1}, {op: 255, micros: 1e9}, {stream: true, window: maxWindow}} {
		f.Add(append(q.head(nil), 1, 2, 3))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decodeRequest(b)
		if err != nil {
			checkMalformed(t, err)
			return
		}
		again, err := decodeRequest(append(q.head(nil), q.body...))
		if err != nil || !cmp.Equal(q, again, cmp.AllowUnexported(request{})) {
			t.Fatalf("request %+v became %+v, %v", q, again, err)
		}
	})
}

func FuzzGreeting(f *testing.F) {
	g := exampleGreeting()
	f.Add(g.encode(nil))
	f.Add([]byte{7, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := decodeGreeting(b)
		if err != nil {
			checkMalformed(t, err)
			return
		}
		again, err := decodeGreeting(g.encode(nil))
		if err != nil || again != g {
			t.Fatalf("greeting %+v became %+v, %v", g, again, err)
		}
		if e := g.objection("test"); e != nil && e.Code != crustertype.CodeForbidden {
			t.Errorf("objection %v has code %v", e, e.Code)
		}
	})
}

func FuzzFailure(f *testing.F) {
	f.Add(encodeFailure(nil, exampleFailure()))
	f.Add(encodeFailure(nil, &crustertype.Error{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeFailure(b)
		if err != nil {
			checkMalformed(t, err)
			return
		}
		again, err := decodeFailure(encodeFailure(nil, e))
		if err != nil || !cmp.Equal(e, again, cmp.AllowUnexported(crustertype.Error{})) {
			t.Fatalf("error %#v became %#v, %v", e, again, err)
		}
	})
}

func FuzzCredit(f *testing.F) {
	f.Add(appendUvarint(nil, 1<<20))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeCredit(b)
		if err != nil {
			checkMalformed(t, err)
		} else if n < 0 || n > maxWindow {
			t.Errorf("credit of %d", n)
		}
	})
}

// script is a connection that receives what a test wrote.
type script struct {
	in     [][]byte
	closed chan struct{}
}

func (s *script) Send([]byte) error { return nil }

func (s *script) Recv([]byte) ([]byte, error) {
	if len(s.in) == 0 {
		return nil, io.EOF
	}
	msg := s.in[0]
	s.in = s.in[1:]
	return bytes.Clone(msg), nil
}

func (s *script) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

// scriptLink accepts the connections of a test.
type scriptLink struct{ accept func(Conn) }

func (l *scriptLink) Listen(_ context.Context, accept func(Conn)) error {
	l.accept = accept
	return nil
}
func (l *scriptLink) Address() string                            { return "here" }
func (l *scriptLink) Dial(context.Context, string) (Conn, error) { return nil, net.ErrClosed }
func (l *scriptLink) Refuse()                                    {}
func (l *scriptLink) Close() error                               { return nil }

type nopHandler struct{}

func (nopHandler) Call(_ context.Context, _ Hello, _ Op, body []byte) ([]byte, error) {
	return body, nil
}

func (nopHandler) Stream(_ context.Context, _ Hello, _ Op, body []byte, send func([]byte) error) error {
	return send(body)
}
func (nopHandler) Connected(Hello) {}

// FuzzSession lets a peer say anything after its hello.
func FuzzSession(f *testing.F) {
	g := exampleGreeting()
	hello := appendFrame([]byte{pieceLast}, kindHello, 0, g.encode(nil), nil)
	f.Add(append([]byte{pieceLast}, allFrames()...), append([]byte{pieceMore}, allFrames()...))
	f.Add([]byte{pieceMore, 9, 0, 0}, []byte{pieceLast, 3, 1, 3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		l := new(scriptLink)
		tr := New(l, Options{PingInterval: -1, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := tr.Start(ctx, Hello{Cluster: "test", Address: "here"}, nopHandler{}); err != nil {
			t.Fatal(err)
		}
		c := &script{in: [][]byte{hello, first, second}, closed: make(chan struct{})}
		l.accept(c)
		select {
		case <-c.closed:
		case <-ctx.Done():
			t.Fatal("the connection stays open after its end")
		}
		if err := tr.Close(ctx); err != nil {
			t.Fatalf("Close = %v", err)
		}
	})
}
