package etcd_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/etcd"
	"github.com/cruster-go/cruster/membership/membertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// prefixes and incarnations are unique in this process.
var prefixes, incarnations atomic.Int64

func register(context.Context, membership.Member, time.Duration) (crustertype.Incarnation, error) {
	return crustertype.Incarnation(incarnations.Add(1)), nil
}

func newBackend(t testing.TB, s *server, prefix string) (*etcd.Backend, *valve) {
	t.Helper()
	c, v := s.dial(t)
	b, err := etcd.New(c, &etcd.Options{Prefix: prefix, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return b, v
}

func service(t *testing.T, s *server) *membertest.Service {
	prefix := fmt.Sprintf("/test-%d/", prefixes.Add(1))
	thief, _ := s.dial(t)
	return &membertest.Service{
		TTL: 4 * time.Second, Late: 5 * time.Second,
		Node: func(t *testing.T) *membertest.Node {
			b, v := newBackend(t, s, prefix)
			return &membertest.Node{Backend: b, Register: register, Cut: v.Cut, Heal: v.Heal}
		},
		Steal: func(ctx context.Context, shard crustertype.Shard) error {
			resp, err := thief.Delete(ctx, fmt.Sprintf("%sshards/%s:%d", prefix, shard.Group, shard.Index))
			if err == nil && resp.Deleted != 1 {
				err = fmt.Errorf("%v has no key", shard)
			}
			return err
		},
	}
}

func TestContract(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for leases in real time")
	}
	t.Parallel()
	membertest.Run(t, func(t *testing.T) *membertest.Service { return service(t, sharedServer(t)) })
}
