package grpctransport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
	"github.com/cruster-go/cruster/transport/internal/quiet"
)

// Limits that nobody needs to set.
const (
	maxStreams    = 16       // of one TCP connection: the peer's, and health checks
	maxHeaders    = 16 << 10 // of one stream
	maxHandshakes = 256      // under way at a time
	streamWindow  = 1 << 20  // bytes sent ahead; set, so that gRPC does not probe for it
	lingerTime    = time.Second
)

// link makes connections over gRPC.
type link struct {
	o        Options
	log      *slog.Logger
	address  string
	listener net.Listener // nil: only calls out
	server   *grpc.Server
	health   *health.Server
	dialOpts []grpc.DialOption
	patience time.Duration // with those who connect

	accept     func(transport.Conn)
	life       context.Context
	stop       context.CancelFunc
	refusing   atomic.Bool
	handshakes atomic.Int32
	refused    quiet.Limiter
	running    sync.WaitGroup
}

// New returns a transport over gRPC. It listens from now on, so that Address is
// known, and accepts once it is started.
func New(o Options) (transport.Transport, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	l := &link{o: o, log: o.Limits.Logger}
	if l.log == nil {
		l.log = slog.Default()
	}
	l.patience = o.Limits.DialTimeout
	if l.patience <= 0 {
		l.patience = 5 * time.Second
	}
	l.dialOpts = l.dialOptions()
	if o.Listen != "" {
		if err := l.listen(); err != nil {
			return nil, err
		}
	}
	return transport.New(l, o.Limits), nil
}

func (l *link) listen() error {
	o := l.o
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return invalid("listen at %q: %w", o.Listen, err)
	}
	at, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		at = &net.TCPAddr{}
	}
	if o.TLS == nil && !o.Insecure && !at.IP.IsLoopback() {
		err = invalid("listening at %q without TLS, where other machines can connect and read along: set TLS, listen at 127.0.0.1, or set Insecure if the network is trusted", o.Listen)
	}
	if err == nil {
		l.address, err = o.advertised(at)
	}
	if err != nil {
		_ = listener.Close()
		return err
	}
	l.listener = listener
	l.server = grpc.NewServer(l.serverOptions()...)
	l.health = health.NewServer()
	healthpb.RegisterHealthServer(l.server, l.health)
	l.server.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: streamName, ServerStreams: true, ClientStreams: true, Handler: l.serve}},
	}, l)
	return nil
}

func (l *link) serverOptions() []grpc.ServerOption {
	list := []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(transport.MaxMessage), grpc.MaxSendMsgSize(transport.MaxMessage),
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(l.patience), grpc.WaitForHandlers(true),
		grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(2 * streamWindow),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: time.Minute, Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
	}
	if l.o.TLS != nil {
		list = append(list, grpc.Creds(&loggedCredentials{TransportCredentials: credentials.NewTLS(l.o.tlsConfig()), refused: l.logRefused}))
	}
	return list
}

func (l *link) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithDisableHealthCheck(), grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithStaticStreamWindowSize(streamWindow), grpc.WithStaticConnWindowSize(2 * streamWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(transport.MaxMessage), grpc.MaxCallSendMsgSize(transport.MaxMessage)),
	}
}

// Address implements [transport.Link].
func (l *link) Address() string { return l.address }

// Listen implements [transport.Link].
func (l *link) Listen(ctx context.Context, accept func(transport.Conn)) error {
	l.accept = accept
	l.life, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	if l.listener == nil {
		return nil
	}
	l.health.SetServingStatus(serviceName, healthpb.HealthCheckResponse_SERVING)
	l.running.Go(func() {
		if err := l.server.Serve(l.listener); err != nil && !l.refusing.Load() {
			l.log.Error("gRPC server has ended", "address", l.address, "error", err)
		}
	})
	return nil
}

// serve is one stream of a peer: it lasts as long as the connection.
func (l *link) serve(_ any, s grpc.ServerStream) error {
	if l.refusing.Load() {
		return status.Error(codes.Unavailable, "the peer is shutting down")
	}
	if l.handshakes.Add(1) > maxHandshakes {
		l.handshakes.Add(-1)
		return status.Error(codes.ResourceExhausted, "too many connections are being made")
	}
	c := &conn{stream: s, closed: make(chan struct{})}
	known := make(chan error, 1)
	l.running.Go(func() {
		defer l.handshakes.Add(-1)
		known <- welcome(c, l.o.Secrets)
	})
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	select {
	case err := <-known:
		if err != nil {
			if status.Code(err) == codes.Unauthenticated {
				l.logRefused(from(s.Context()), err)
			}
			return err
		}
	case <-timer.C:
		return status.Error(codes.DeadlineExceeded, "the handshake took too long")
	case <-l.life.Done():
		return status.Error(codes.Unavailable, "the peer is shutting down")
	}
	l.accept(c)
	select {
	case <-c.closed:
	case <-s.Context().Done():
	}
	return nil
}

func from(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return "unknown"
}

// logRefused tells of a peer that may not connect, not too often.
func (l *link) logRefused(from string, err error) {
	if skipped, ok := l.refused.Allow(); ok {
		text := err.Error()
		if s, ok := status.FromError(err); ok {
			text = s.Message()
		}
		l.log.Warn("peer refused", "from", from, "reason", text, "unreported", skipped)
	}
}

// Dial implements [transport.Link].
func (l *link) Dial(ctx context.Context, to string) (transport.Conn, error) {
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		return nil, invalid("address of peer is not host:port: %w", err)
	}
	if l.o.TLS == nil && !l.o.Insecure && !loopback(host) {
		return nil, crustertype.Errorf(crustertype.CodeForbidden,
			"the peer may be another machine and there is no TLS: set TLS, or Insecure if the network is trusted")
	}
	var raw atomic.Pointer[net.Conn]
	var distrust atomic.Pointer[crustertype.Error]
	secure := insecure.NewCredentials()
	if l.o.TLS != nil {
		secure = &dialCredentials{TransportCredentials: credentials.NewTLS(l.o.tlsConfig()), distrust: &distrust}
	}
	options := append(l.dialOpts[:len(l.dialOpts):len(l.dialOpts)], grpc.WithTransportCredentials(secure), grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			raw.Store(&c)
		}
		return c, err
	}))
	client, err := grpc.NewClient("passthrough:///"+to, options...)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	life, cancel := context.WithCancel(l.life)
	c := &conn{closed: make(chan struct{}), cancel: cancel}
	l.running.Go(func() {
		select {
		case <-c.closed:
		case <-life.Done():
		}
		cancel()
		// A peer that does not read would hold up the last words to it.
		linger := time.AfterFunc(lingerTime, func() {
			if p := raw.Load(); p != nil {
				_ = (*p).Close()
			}
		})
		defer linger.Stop()
		_ = client.Close() // nothing can be done about it
	})
	unbind := context.AfterFunc(ctx, cancel)
	defer unbind()
	s, err := client.NewStream(life, &clientStream, "/"+serviceName+"/"+streamName)
	if err == nil {
		c.stream = s
		err = introduce(c, l.o.Secrets)
	}
	if err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial: %w", ctx.Err())
		}
		if e := distrust.Load(); e != nil {
			return nil, e
		}
		var own *crustertype.Error
		if errors.As(err, &own) {
			return nil, err
		}
		return nil, refusal(err)
	}
	return c, nil
}

// Refuse implements [transport.Link].
func (l *link) Refuse() {
	l.refusing.Store(true)
	if l.listener == nil {
		return
	}
	l.health.Shutdown()
	_ = l.listener.Close() // the server reports it
}

// Close implements [transport.Link].
func (l *link) Close() error {
	if l.stop != nil {
		l.stop()
	}
	if l.server != nil {
		l.server.Stop()
	}
	l.running.Wait()
	return nil
}
