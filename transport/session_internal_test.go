package transport

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// begin starts a transport of the network that is closed with the test.
func begin(t *testing.T, n *Network, address string, o Options) *node {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	tr := n.Transport(address, o).(*memoryTransport)
	if err := tr.Start(t.Context(), Hello{Cluster: "test", Address: address, Incarnation: 1}, nopHandler{}); err != nil {
		t.Fatalf("Start = %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := tr.Close(ctx); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return tr.Transport.(*node)
}

func (n *node) count() (sessions, peers int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers.Range(func(_, _ any) bool {
		peers++
		return true
	})
	return len(n.sessions), peers
}

func TestTwoDialsBecomeOneConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		n.SetFaults(Faults{Delay: time.Millisecond})
		a, b := begin(t, n, "a", Options{}), begin(t, n, "b", Options{})
		var all sync.WaitGroup
		for from, to := range map[*node]string{a: "b", b: "a"} {
			all.Go(func() {
				for range 5 {
					if _, err := from.Call(t.Context(), to, 1, nil); err != nil {
						t.Errorf("Call = %v", err)
					}
				}
			})
		}
		all.Wait()
		time.Sleep(time.Second)
		for _, x := range []*node{a, b} {
			if sessions, peers := x.count(); sessions != 1 || peers != 1 {
				t.Errorf("%s has %d connections and %d peers, want one of each", x.Address(), sessions, peers)
			}
		}
		n.Kill("b")
		synctest.Wait()
		if sessions, peers := a.count(); sessions != 0 || peers != 0 {
			t.Errorf("of a dead peer %d connections and %d entries are left", sessions, peers)
		}
	})
}

func TestOtherVersionIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		begin(t, n, "a", Options{})
		l := n.Transport("b", Options{}).(*memoryTransport).link
		c, err := l.Dial(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		g := greeting{min: 7, max: 9}
		if err := c.Send(appendFrame([]byte{pieceLast}, kindHello, 0, g.encode(nil), nil)); err != nil {
			t.Fatal(err)
		}
		msg, err := c.Recv(nil)
		if err != nil {
			t.Fatal(err)
		}
		f, _, err := nextFrame(msg[1:])
		if err != nil || f.kind != kindRefuse {
			t.Fatalf("answer to a hello of version 7 is %v, %v, want a refusal", f.kind, err)
		}
		e, err := decodeFailure(f.payload)
		if err != nil || e.Code != crustertype.CodeForbidden || !strings.Contains(e.Message, "protocol versions 7 to 9") || !strings.Contains(e.Message, "upgrade") {
			t.Errorf("refusal %v, %v does not name the versions and the cure", e, err)
		}
		if _, err := c.Recv(nil); err == nil {
			t.Error("the connection stays open")
		}
	})
}

func TestPingsFindASilentPeer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		o := Options{PingInterval: time.Second, Silence: 3 * time.Second}
		a := begin(t, n, "a", o)
		begin(t, n, "b", o)
		if err := a.Connect(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // pings keep it
		if sessions, _ := a.count(); sessions != 1 {
			t.Fatalf("%d connections after an idle minute, want 1", sessions)
		}
		n.mu.Lock()
		n.silence = time.Hour // so that the network does not do it
		n.mu.Unlock()
		n.Cut("b", "a")
		began := time.Now()
		_, err := a.Call(t.Context(), "b", 1, nil)
		if d := time.Since(began); !errors.Is(err, errSilent) || d > 4*time.Second {
			t.Errorf("Call to a silent peer = %v after %v, want %v within 4s", err, d, errSilent)
		}
	})
}

func TestPeerThatDoesNotReadIsFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		a := begin(t, n, "a", Options{PingInterval: time.Second, Silence: 3 * time.Second})
		begin(t, n, "b", Options{})
		if err := a.Connect(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		n.mu.Lock()
		n.silence = time.Hour
		n.mu.Unlock()
		n.Cut("a", "b")
		body := make([]byte, 1<<20)
		failures := make(chan error)
		for range 5 {
			go func() {
				_, err := a.Call(t.Context(), "b", 1, body)
				failures <- err
			}()
		}
		unsent := 0
		for range 5 {
			var e *crustertype.Error
			if err := <-failures; !errors.As(err, &e) || e.Code != crustertype.CodeUnavailable {
				t.Errorf("Call = %v, want ErrUnavailable", err)
			} else if !e.Executed {
				unsent++
			}
		}
		if unsent == 0 {
			t.Error("all requests may have been executed, yet some cannot have been sent")
		}
	})
}

func TestFloodOfPingsEndsTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		a := begin(t, n, "a", Options{})
		l := n.Transport("b", Options{}).(*memoryTransport).link
		c, err := l.Dial(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		g := exampleGreeting()
		msg := appendFrame([]byte{pieceLast}, kindHello, 0, g.encode(nil), nil)
		for i := 0; err == nil && i < 10_000; i++ {
			for range 1000 { // and never read an answer
				msg = appendFrame(msg, kindPing, 1<<60, nil, nil)
			}
			err = c.Send(msg)
			msg = msg[:1]
			synctest.Wait()
		}
		if err == nil {
			t.Error("a peer may ask for any number of answers that it does not read")
		}
		synctest.Wait()
		if sessions, _ := a.count(); sessions != 0 {
			t.Errorf("%d connections are left", sessions)
		}
	})
}

func TestMalformedFramesEndTheConnection(t *testing.T) {
	t.Parallel()
	stream := request{stream: true, window: 100}
	for name, frames := range map[string][]byte{
		"unknown kind":        {99, 0, 0},
		"cut off":             {byte(kindReply), 1, 200},
		"request twice":       appendFrame(appendFrame(nil, kindRequest, 1, stream.head(nil), make([]byte, 500)), kindRequest, 1, stream.head(nil), nil),
		"credit out of hand":  appendFrame(appendFrame(nil, kindRequest, 1, stream.head(nil), make([]byte, 500)), kindCredit, 1, appendUvarint(nil, 1<<20), nil),
		"flags of tomorrow":   appendFrame(nil, kindRequest, 1, []byte{1, 0x80, 0}, nil),
		"window of zero":      appendFrame(nil, kindRequest, 1, []byte{1, requestStream, 0, 0}, nil),
		"error without flags": appendFrame(nil, kindRefuse, 0, []byte{1}, nil),
		"hello from nowhere":  appendFrame(nil, kindHello, 0, []byte{1}, nil),
	} {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(1)
			a := begin(t, n, "a", Options{})
			c, err := n.Transport("b", Options{}).(*memoryTransport).link.Dial(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			g := exampleGreeting()
			if err := c.Send(append(appendFrame([]byte{pieceLast}, kindHello, 0, g.encode(nil), nil), frames...)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if sessions, _ := a.count(); sessions != 0 {
				t.Errorf("%s: the connection stays open", name)
			}
		})
	}
}

func TestChunkBeyondTheWindowIsRefused(t *testing.T) {
	t.Parallel()
	in := newInflow(100)
	if err := in.push(make([]byte, 1000)); err != nil {
		t.Errorf("first chunk, larger than the window = %v, want it taken", err)
	}
	if err := in.push(nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("chunk without credit = %v, want ErrMalformed", err)
	}
	if _, credit, err := in.next(t.Context()); err != nil || credit != 1000+chunkCost {
		t.Errorf("next = credit %d, %v, want all of it back", credit, err)
	}
	if err := in.push(nil); err != nil {
		t.Errorf("chunk with credit = %v", err)
	}
}

func TestHandlersContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &requestContext{parent: t.Context(), deadline: time.Now().Add(time.Second)}
		child, cancel := context.WithCancel(r)
		defer cancel()
		if err := errors.Join(r.Err(), child.Err()); err != nil {
			t.Errorf("Err before the end = %v", err)
		}
		called := make(chan struct{})
		stop := context.AfterFunc(r, func() { t.Error("a stopped function was called") })
		context.AfterFunc(r, func() { close(called) })
		if !stop() || stop() {
			t.Error("stop of AfterFunc reports true exactly once")
		}
		<-r.Done()
		<-child.Done()
		<-called
		for what, err := range map[string]error{"request": r.Err(), "child": child.Err()} {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Err of %s = %v, want context.DeadlineExceeded", what, err)
			}
		}
		late := &requestContext{parent: t.Context()}
		late.cancel(context.Canceled)
		<-late.Done()
		after := make(chan struct{})
		context.AfterFunc(late, func() { close(after) })
		<-after
		lazy := &requestContext{parent: t.Context(), deadline: time.Now().Add(time.Second)}
		time.Sleep(time.Second)
		if err := lazy.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Err past the deadline, without a timer = %v", err)
		}
	})
}

func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		n := NewNetwork(1)
		tr := n.Transport("a", Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err := tr.Start(t.Context(), Hello{Cluster: "one", Address: "a"}, nopHandler{}); err != nil {
			t.Fatal(err)
		}
		b := begin(t, n, "b", Options{})
		for range 20 {
			if err := b.Connect(t.Context(), "a"); !errors.Is(err, crustertype.ErrForbidden) {
				t.Errorf("Connect to another cluster = %v", err)
			}
		}
		if err := tr.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "connection refused"); n != 1 {
			t.Errorf("20 refusals at a time were logged %d times, want once:\n%s", n, log.String())
		}
	})
}

func TestBackoffFailsFast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		n.SetFaults(Faults{Delay: time.Millisecond})
		a := begin(t, n, "a", Options{})
		dials, began := 0, time.Now()
		for time.Since(began) < 10*time.Second {
			before := time.Now()
			if _, err := a.Call(t.Context(), "b", 1, nil); !errors.Is(err, crustertype.ErrUnavailable) {
				t.Fatalf("Call = %v, want ErrUnavailable", err)
			}
			if time.Since(before) > 0 {
				dials++
			}
			time.Sleep(5 * time.Millisecond)
		}
		if dials < 20 || dials > 60 {
			t.Errorf("%d attempts in 10s, want one in about 375ms", dials)
		}
		begin(t, n, "b", Options{})
		if err := a.Connect(t.Context(), "b"); err != nil {
			t.Errorf("Connect = %v, want it to try at once", err)
		}
	})
}

// slowLink dials connections that take a second for each piece.
type slowLink struct{ *memoryLink }

type slowConn struct{ Conn }

func (l slowLink) Dial(ctx context.Context, to string) (Conn, error) {
	c, err := l.memoryLink.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	return slowConn{c}, nil
}

func (c slowConn) Send(msg []byte) error {
	time.Sleep(time.Second)
	return c.Conn.Send(msg)
}

func TestLargeBodyOnASlowNetworkIsNoSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		o := Options{PingInterval: time.Second, Silence: 3 * time.Second, Logger: slog.New(slog.DiscardHandler)}
		begin(t, n, "b", o)
		a := New(slowLink{n.Transport("a", o).(*memoryTransport).link}, o)
		if err := a.Start(t.Context(), Hello{Cluster: "test", Address: "a"}, nopHandler{}); err != nil {
			t.Fatal(err)
		}
		defer a.Close(t.Context())
		began := time.Now()
		got, err := a.Call(t.Context(), "b", 1, make([]byte, 4<<20))
		if d := time.Since(began); err != nil || len(got) != 4<<20 || d < 10*time.Second {
			t.Errorf("echo of 4 MiB = %d bytes, %v after %v, want it late but whole", len(got), err, d)
		}
	})
}
