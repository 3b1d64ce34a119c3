// Command cluster-tests is one node of a cluster that shows every feature of
// cruster over HTTP: entities, RPC groups, workflows, activity groups, timers,
// a singleton, and who owns which shard. Start it several times on one
// PostgreSQL and one etcd.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/membership/etcd"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/storage/postgres"
	"github.com/cruster-go/cruster/tracing/otel"
	"github.com/cruster-go/cruster/transport"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
)

const (
	startTime    = 30 * time.Second       // for all that has to be reached at the start
	requestGrace = 700 * time.Millisecond // for HTTP requests at the end
	leaveTime    = 7 * time.Second        // to give shards away and leave
)

func main() {
	s, err := readSettings(os.Args[1:], os.LookupEnv, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	log := newLogger(s.level, s.runner)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, s, log); err != nil {
		log.Error("the node has failed", "error", err)
		os.Exit(1)
	}
}

// docs:begin run

// run is the life of one node, until ctx ends. What is opened first is closed
// last.
func run(ctx context.Context, s settings, log *slog.Logger) (err error) {
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	started := false
	defer func() {
		if !started && ctx.Err() != nil {
			err = nil // stopped while it started
		}
	}()
	pool, err := openPool(starting, s.pool, log)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := postgres.New(pool, &postgres.Options{Logger: log})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := errors.Join(store.Migrate(starting), createTables(starting, pool)); err != nil {
		return err
	}
	members, err := etcd.Dial(s.etcd, &etcd.Options{Prefix: etcdPrefix, Logger: log})
	if err != nil {
		return err
	}
	defer members.Close()
	peers, err := grpctransport.New(grpctransport.Options{
		Listen: ":" + s.grpcPort, Advertise: s.runner,
		Insecure: true, // the network of the nodes is trusted: see README.md
		Limits:   transport.Options{Logger: log},
	})
	if err != nil {
		return err
	}
	traces, flush, err := newTraces(starting, s.otlp, s.runner)
	if err != nil {
		return fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	defer flush()
	svc, err := cruster.New(cruster.Config{
		Storage: store, Transport: peers, Membership: members, Logger: log, Observer: events(log), Tracer: otel.New(traces),
		ClusterName: "cluster-tests", ShardsPerGroup: shardsPerGroup, LeaseTTL: s.lease,
	})
	if err != nil {
		return err
	}
	a, err := register(svc, pool, s.runner, log)
	if err != nil {
		return err
	}
	a.tracer = traces.Tracer("cluster-tests")
	if err := svc.Start(starting); err != nil {
		return fmt.Errorf("join the cluster (etcd at %q): %w", s.etcd, err)
	}
	started = true
	defer func() {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
		defer cancel()
		err = errors.Join(err, svc.Shutdown(leaving))
	}()
	return serve(ctx, svc, s, a.handler(), log)
}

// docs:end run

// events logs who joins and leaves, and which shards move. Acquired shards are
// left out: they come one by one.
func events(log *slog.Logger) observe.Observer {
	all := observe.Log(log)
	return observe.Func(func(e observe.Event) {
		if _, ok := e.(observe.ShardsAcquired); !ok {
			all.Observe(e)
		}
	})
}

// serve answers HTTP until ctx ends.
func serve(ctx context.Context, svc *cruster.Service, s settings, h http.Handler, log *slog.Logger) error {
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	requests, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, // no write timeout: some requests wait for timers
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	log.Info("the node serves", "http", listener.Addr().String(), "grpc", s.grpcPort)
	select {
	case <-ctx.Done():
	case <-svc.Stopped():
		err = errors.New("the service has stopped by itself")
	case err := <-ended:
		return err
	}
	log.Info("the node stops")
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestGrace)
	defer cancel()
	if server.Shutdown(grace) != nil { // what still waits goes on elsewhere
		giveUp()
		_ = server.Close()
	}
	<-ended
	return err
}
