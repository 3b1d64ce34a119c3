// Package testetcd gives tests a real etcd: a cluster of one, inside the test
// process, on free ports of the loopback interface and in a temporary folder.
package testetcd

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Server is one running etcd.
type Server struct {
	dir     string
	client  string // address for clients
	peer    string
	running *embed.Etcd // nil: stopped
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{dir: t.TempDir()}
	// Between finding a free port and using it somebody else may take it.
	for try := range 5 {
		s.client, s.peer = freeAddr(t), freeAddr(t)
		err := s.boot()
		if err == nil {
			break
		}
		if try == 4 {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.stop)
	return s
}

// Addr returns where clients reach it, as host:port.
func (s *Server) Addr() string { return s.client }

// Client returns a client of its own, which is closed when the test ends.
func (s *Server) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.client}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Stop ends the server and keeps its data.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.stop()
}

// Start starts it again after Stop, at the same addresses.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.boot(); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) stop() {
	if s.running != nil {
		s.running.Close()
		s.running = nil
	}
}

func (s *Server) boot() error {
	c := embed.NewConfig()
	c.Dir = s.dir
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	c.UnsafeNoFsync = true
	client, peer := url.URL{Scheme: "http", Host: s.client}, url.URL{Scheme: "http", Host: s.peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-e.Server.ReadyNotify():
		s.running = e
		return nil
	case err = <-e.Err():
		err = fmt.Errorf("etcd ended: %w", err)
	case <-timer.C:
		err = errors.New("etcd is not ready after 30s")
	}
	e.Close()
	return err
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
