package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// server is an etcd of one, in this process.
type server struct {
	dir     string
	client  string // address
	peer    string
	running *embed.Etcd
	tune    func(*embed.Config)

	mu     sync.Mutex
	valves []*valve
}

// newServer starts a server that ends with the test.
func newServer(t testing.TB, tune func(*embed.Config)) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), client: freeAddr(t), peer: freeAddr(t), tune: tune}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *server) config() *embed.Config {
	c := embed.NewConfig()
	c.Dir = s.dir
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	c.UnsafeNoFsync = true
	c.TickMs, c.ElectionMs = 20, 200 // a least TTL of one second
	client, peer := url.URL{Scheme: "http", Host: s.client}, url.URL{Scheme: "http", Host: s.peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	if s.tune != nil {
		s.tune(c)
	}
	return c
}

// start starts it, again after stop.
func (s *server) start(t testing.TB) {
	t.Helper()
	if err := s.boot(); err != nil {
		t.Fatal(err)
	}
}

func (s *server) boot() error {
	e, err := embed.StartEtcd(s.config())
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-e.Server.ReadyNotify():
		s.running = e
		return nil
	case err := <-e.Err():
		return fmt.Errorf("etcd ended: %w", err)
	case <-timer.C:
		e.Close()
		return errors.New("etcd is not ready after 30s")
	}
}

// stop stops it, as a crash would: clients are cut off. A graceful end waits
// for their watches.
func (s *server) stop() {
	if s.running == nil {
		return
	}
	closed := make(chan struct{})
	go func() { defer close(closed); s.running.Close() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		for _, v := range s.valves {
			v.Break()
		}
		s.mu.Unlock()
		select {
		case <-tick.C:
		case <-closed:
			s.running = nil
			return
		}
	}
}

// dial returns a client of its own, closed at the end of the test, and the
// valve of its connections.
func (s *server) dial(t testing.TB) (*clientv3.Client, *valve) {
	t.Helper()
	v := new(valve)
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.client}, Logger: zap.NewNop(), DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(v.dial)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Heal(); c.Close() })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.valves = append(s.valves, v)
	return c, v
}

// valve lets connections go silent.
type valve struct {
	mu    sync.Mutex
	shut  chan struct{} // closed when it opens; nil while it is open
	deaf  bool          // what is sent goes through, answers do not
	conns []*conn
}

// CutAnswers lets requests through, but no answers.
func (v *valve) CutAnswers() {
	v.Cut()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.deaf = true
}

// Break closes all connections.
func (v *valve) Break() {
	v.mu.Lock()
	conns := v.conns
	v.conns = nil
	v.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// Cut shuts the valve.
func (v *valve) Cut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut == nil {
		v.shut = make(chan struct{})
	}
}

// Heal opens it.
func (v *valve) Heal() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut != nil {
		close(v.shut)
		v.shut, v.deaf = nil, false
	}
}

// pass waits until the valve is open.
func (v *valve) pass(closed <-chan struct{}, sending bool) error {
	for {
		v.mu.Lock()
		shut := v.shut
		deaf := v.deaf
		v.mu.Unlock()
		if shut == nil || deaf && sending {
			return nil
		}
		select {
		case <-shut:
		case <-closed:
			return net.ErrClosed
		}
	}
}

func (v *valve) dial(ctx context.Context, addr string) (net.Conn, error) {
	if err := v.pass(ctx.Done(), true); err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	wrapped := &conn{Conn: c, v: v, closed: make(chan struct{})}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns = append(v.conns, wrapped)
	return wrapped, nil
}

type conn struct {
	net.Conn
	v      *valve
	once   sync.Once
	closed chan struct{}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		return n, err
	}
	return n, c.v.pass(c.closed, false)
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.v.pass(c.closed, true); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// shared is the server of the tests that do not harm it.
var shared struct {
	once sync.Once
	s    *server
	err  error
}

func sharedServer(t testing.TB) *server {
	t.Helper()
	shared.once.Do(func() {
		var ports [2]string
		for i := range ports {
			ports[i] = freeAddr(t)
		}
		dir, err := os.MkdirTemp("", "cruster-etcd-")
		if err != nil {
			shared.err = err
			return
		}
		shared.s = &server{dir: dir, client: ports[0], peer: ports[1]}
		shared.err = shared.s.boot()
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.s
}

func stopShared() error {
	if shared.s == nil {
		return nil
	}
	shared.s.stop()
	return os.RemoveAll(shared.s.dir)
}
