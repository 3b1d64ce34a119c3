package grpctransport_test

import (
	"context"
	"crypto/rand"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/cruster-go/cruster/transport"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
)

const peerMethod = "/cruster.transport.v1.Peer/Connect"

func dialRaw(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// stillServes checks that a transport answers after what was done to it.
func stillServes(t *testing.T, address string, heard *counting, secrets ...string) {
	t.Helper()
	if n := heard.count(); n != 0 {
		t.Errorf("the handler has heard of %d intruders", n)
	}
	c, _ := start(t, grpctransport.Options{Secrets: secrets})
	if _, err := c.Call(t.Context(), address, 1, []byte("hi")); err != nil {
		t.Errorf("Call afterwards = %v", err)
	}
}

func TestGarbageOnThePort(t *testing.T) {
	t.Parallel()
	s, heard := start(t, grpctransport.Options{Listen: local})
	noise := make([]byte, 64<<10)
	rand.Read(noise)
	for _, b := range [][]byte{
		noise,
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3},
		append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), noise...),
		{},
	} {
		c, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(b)
		_ = c.Close()
	}
	stillServes(t, s.Address(), heard)
}

func TestRawStreams(t *testing.T) {
	t.Parallel()
	s, heard := start(t, grpctransport.Options{Listen: local})
	client := dialRaw(t, s.Address())
	hello := func(b ...byte) []byte { return append([]byte{0, 1, 0, byte(len(b))}, b...) }
	welcomed := []byte{1, 0}
	welcomed = append(welcomed, make([]byte, 32)...)
	for name, messages := range map[string][][]byte{
		"no handshake":        {{}},
		"another handshake":   {{2, 0, 1, 2, 3}},
		"cut off handshake":   {{1, 0, 1}},
		"unknown frame":       {welcomed, {0, 99, 0, 0}},
		"request at once":     {welcomed, {0, 3, 1, 3, 0, 0, 0}},
		"frame with no end":   {welcomed, {0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		"unknown piece":       {welcomed, {9, 1}},
		"empty message":       {welcomed, {}},
		"hello of one byte":   {welcomed, hello(1)},
		"versions turned":     {welcomed, hello(3, 1)},
		"long cluster name":   {welcomed, hello(1, 1, 0, 1, 0xff, 0x7f)},
		"version of tomorrow": {welcomed, hello(7, 9)},
		"no cluster":          {welcomed, hello(1, 1, 0, 1, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			st, err := client.NewStream(ctx, &bareService.Streams[0], peerMethod)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				_ = st.SendMsg(&m) // it may be closed already
			}
			for err == nil {
				var b []byte
				err = st.RecvMsg(&b)
			}
			if ctx.Err() != nil {
				t.Errorf("the connection stays open: %v", err)
			}
		})
	}
	for name, method := range map[string]string{"unknown method": "/cruster.transport.v1.Peer/Other", "reflection": "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "channelz": "/grpc.channelz.v1.Channelz/GetServers"} {
		var in, out []byte
		if err := client.Invoke(t.Context(), method, &in, &out); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s = %v, want Unimplemented", name, err)
		}
	}
	stillServes(t, s.Address(), heard)
}

func TestHugeMessageIsRefusedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	s, heard := start(t, grpctransport.Options{Listen: local, Limits: transport.Options{MaxBody: 1 << 16}})
	client := dialRaw(t, s.Address())
	st, err := client.NewStream(t.Context(), &bareService.Streams[0], peerMethod)
	if err != nil {
		t.Fatal(err)
	}
	huge := make([]byte, 8<<20)
	_ = st.SendMsg(&huge)
	for err == nil {
		var b []byte
		err = st.RecvMsg(&b)
	}
	if code := status.Code(err); code != codes.ResourceExhausted && code != codes.Canceled {
		t.Errorf("message of 8 MiB = %v, want ResourceExhausted", err)
	}
	stillServes(t, s.Address(), heard)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s, _ := start(t, grpctransport.Options{Listen: local, Secrets: []string{secret}})
	c, err := grpc.NewClient(s.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, service := range []string{"", "cruster.transport.v1.Peer"} {
		r, err := healthpb.NewHealthClient(c).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q = %v, %v", service, r, err)
		}
	}
}

// silentProxy passes connections on until it is told to fall silent.
type silentProxy struct {
	listener net.Listener
	silent   chan struct{}
}

func newSilentProxy(t *testing.T, to string) *silentProxy {
	t.Helper()
	l, err := net.Listen("tcp", local)
	if err != nil {
		t.Fatal(err)
	}
	p := &silentProxy{listener: l, silent: make(chan struct{})}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			t.Cleanup(func() {
				_ = c.Close()
				_ = up.Close()
			})
			go p.copy(up, c)
			go p.copy(c, up)
		}
	}()
	return p
}

func (p *silentProxy) copy(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		select {
		case <-p.silent:
			return // neither passes anything on nor closes
		default:
		}
		if err != nil {
			_ = to.Close()
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestSilentPeerIsFound(t *testing.T) {
	t.Parallel()
	limits := transport.Options{PingInterval: 100 * time.Millisecond, Silence: 500 * time.Millisecond}
	s, _ := start(t, grpctransport.Options{Listen: local, Limits: limits})
	p := newSilentProxy(t, s.Address())
	c, _ := start(t, grpctransport.Options{Limits: limits})
	to := p.listener.Addr().String()
	if _, err := c.Call(t.Context(), to, 1, nil); err != nil {
		t.Fatalf("Call = %v", err)
	}
	close(p.silent)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	_, err := c.Call(ctx, to, 1, nil)
	if d := time.Since(began); err == nil || ctx.Err() != nil || d > 30*time.Second {
		t.Errorf("Call to a silent peer = %v after %v, want an error after half a second", err, d)
	}
}
