package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/etcd"
	mpostgres "github.com/cruster-go/cruster/membership/postgres"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/transport"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
)

// bank is one runner.
type bank struct {
	o         options
	db        *database
	svc       *cruster.Service
	accounts  cruster.Client[*Account]
	transfers cruster.WorkflowClient[Transfer, State]
	ready     atomic.Bool
	answers   counters
}

// serve is the life of a runner. When ctx ends it takes no new requests, answers
// those it has, gives its shards to the others, and leaves.
func serve(ctx context.Context, o options) error {
	begin := time.Now()
	o.logger.Info("starting", "pid", os.Getpid())
	db, err := openDatabase(ctx, o)
	if err != nil {
		return err
	}
	defer db.close()
	b := &bank{o: o, db: db}
	cfg := cruster.Config{Storage: db.store, ShardsPerGroup: o.shards, LeaseTTL: o.ttl, DrainTimeout: o.drain, Logger: o.logger}
	if o.listen != "" {
		if cfg.Transport, err = o.transport(); err != nil {
			return err
		}
		member, leave, err := o.member(db.store)
		if err != nil {
			return err
		}
		defer leave()
		cfg.Membership = member
	}
	if err := b.register(cfg); err != nil {
		return err
	}
	// The HTTP interface is there before the runner is ready, to say so.
	listener, err := net.Listen("tcp", o.http)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: b.handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	defer web.Close()
	if err := b.svc.Start(ctx); err != nil {
		return err
	}
	b.ready.Store(true)
	o.logger.Info("ready", "http", listener.Addr().String(), "took", time.Since(begin).String())

	select {
	case <-ctx.Done():
	case <-b.svc.Stopped():
	case err = <-failed:
	}
	return errors.Join(err, b.stop(context.WithoutCancel(ctx), web))
}

// stop goes in stages: unready, no new requests, no shards, gone.
func (b *bank) stop(ctx context.Context, web *http.Server) error {
	b.ready.Store(false)
	begin := time.Now()
	b.o.logger.Info("stopping")
	ctx, cancel := context.WithTimeout(ctx, 2*b.o.drain+5*time.Second)
	defer cancel()
	err := web.Shutdown(ctx)
	answered := time.Since(begin)
	err = errors.Join(err, b.svc.Shutdown(ctx))
	b.o.logger.Info("stopped", "answered_ms", answered.Milliseconds(), "handed_over_ms", (time.Since(begin) - answered).Milliseconds())
	return err
}

func (b *bank) register(cfg cruster.Config) (err error) {
	if b.svc, err = cruster.New(cfg); err != nil {
		return err
	}
	account := &Account{db: b.db, runner: b.o.id, think: b.o.think, stubborn: b.o.stubborn}
	if b.accounts, err = cruster.Register(b.svc, account); err != nil {
		return err
	}
	account.accounts = b.accounts
	b.transfers, err = cruster.RegisterWorkflow(b.svc, &TransferWorkflow{accounts: b.accounts})
	return err
}

func (o options) transport() (transport.Transport, error) {
	secret := o.secret
	if secret == "" {
		secret = os.Getenv(envSecret)
	}
	if secret == "" {
		return nil, fmt.Errorf("-listen lets other runners in: give all of them the same -peer-secret, or %s; make one with `openssl rand -hex 32`", envSecret)
	}
	return grpctransport.New(grpctransport.Options{
		Listen: o.listen, Advertise: o.advertise, Secrets: []string{secret}, Limits: transport.Options{Logger: o.logger},
	})
}

// member returns how runners find each other, and what to do at the end.
func (o options) member(store storage.Store) (b membership.Backend, leave func(), err error) {
	switch o.membership {
	case "postgres":
		b, err := mpostgres.New(store, &mpostgres.Options{Logger: o.logger})
		return b, func() {}, err
	case "etcd":
		b, err := etcd.Dial(strings.Split(o.etcd, ","), &etcd.Options{Logger: o.logger})
		return b, func() { b.Close() }, err
	}
	return nil, nil, fmt.Errorf("-membership %s: it is postgres or etcd", o.membership)
}
