// Command reminders reminds people of things: once, by a message that is
// delivered later, or again and again, by a workflow that sleeps. A cron sums up
// what was delivered, and a singleton watches for what is late.
//
// It keeps everything in an SQLite file, or, as several processes, in a
// PostgreSQL database.
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
	mpostgres "github.com/cruster-go/cruster/membership/postgres"
	"github.com/cruster-go/cruster/transport"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
)

// options are the flags.
type options struct {
	id, http            string
	storage, file, pg   string
	listen, advertise   string
	secret              string
	digest              string
	catchUp             int
	watch, ttl, suspend time.Duration
	logger              *slog.Logger
}

func (o *options) define(f *flag.FlagSet) {
	f.StringVar(&o.id, "id", "reminders", "name of this process, in what it writes")
	f.StringVar(&o.http, "http", "127.0.0.1:8080", "host:port of the HTTP interface")
	f.StringVar(&o.storage, "storage", "sqlite", "sqlite or postgres")
	f.StringVar(&o.file, "db", "reminders.db", "SQLite file")
	f.StringVar(&o.pg, "pg", "", "PostgreSQL database, such as postgres://user:password@host/database (default: $"+envPostgres+")")
	f.StringVar(&o.listen, "listen", "", "host:port for other processes, with -storage postgres; empty: this one is alone")
	f.StringVar(&o.advertise, "advertise", "", "host:port at which other processes reach it (default: the one of -listen)")
	f.StringVar(&o.secret, "peer-secret", "", "secret that all processes share, at least 16 bytes; needed with -listen (default: $"+envSecret+")")
	f.StringVar(&o.digest, "digest", "0 * * * * *", "when to sum up, seconds first")
	f.IntVar(&o.catchUp, "catch-up", 10, "how many digests are made up for at most that nobody was there to make")
	f.DurationVar(&o.watch, "watch", time.Second, "how often to look for reminders that are late")
	f.DurationVar(&o.ttl, "ttl", 10*time.Second, "how long a silent process is believed to live")
	f.DurationVar(&o.suspend, "suspend-after", time.Minute, "how long a workflow that sleeps stays in memory")
}

// Environment variables that stand in for flags.
const (
	envPostgres = "CRUSTER_POSTGRES_URL"
	envSecret   = "CRUSTER_PEER_SECRET"
)

func main() {
	var o options
	o.define(flag.CommandLine)
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	o.logger = slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("id", o.id)
	if err := serve(ctx, o); err != nil {
		o.logger.Error("failed", "error", err)
		os.Exit(1)
	}
}

// serve is the life of a process.
func serve(ctx context.Context, o options) error {
	db, err := openDatabase(ctx, o)
	if err != nil {
		return err
	}
	defer db.close()
	cfg := cruster.Config{Storage: db.store, LeaseTTL: o.ttl, SuspendAfter: o.suspend, Logger: o.logger}
	if o.listen != "" {
		if err := o.join(&cfg); err != nil {
			return err
		}
	}
	svc, err := cruster.New(cfg)
	if err != nil {
		return err
	}
	inboxes, err := register(svc, db, o)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.http)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: (&api{db: db, inboxes: inboxes}).handler(), ReadHeaderTimeout: 5 * time.Second}
	if err := svc.Start(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	o.logger.Info("ready", "http", listener.Addr().String())

	select {
	case <-ctx.Done():
	case <-svc.Stopped():
	case err = <-failed:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(err, web.Shutdown(end), svc.Shutdown(end))
}

// docs:begin register

// register tells the service what there is. All processes register the same.
func register(svc *cruster.Service, db *database, o options) (inboxes cruster.Client[*Inbox], err error) {
	desk := Desk{db: db, process: o.id}
	nags, err := cruster.RegisterWorkflow(svc, &Nag{Desk: desk})
	if err != nil {
		return inboxes, err
	}
	inbox := &Inbox{desk: desk, nags: nags}
	if inboxes, err = cruster.Register(svc, inbox); err != nil {
		return inboxes, err
	}
	inbox.inboxes = inboxes
	digests, err := cruster.RegisterWorkflow(svc, &Digest{db: db})
	if err != nil {
		return inboxes, err
	}
	err = cruster.RegisterCron(svc, cruster.Cron{
		Name: "digest", Schedule: o.digest,
		Send:             cruster.CronStart(digests, func(tick time.Time) time.Time { return tick }),
		NextFromPrevious: true, CatchUp: o.catchUp, // what a crash delays is made up for
		Overlap: cruster.OverlapAllow, // none is dropped because another one takes long
	})
	if err != nil {
		return inboxes, err
	}
	watcher := &Watcher{db: db, process: o.id, every: o.watch}
	return inboxes, cruster.RegisterSingleton(svc, cruster.Singleton{Name: "watcher", Run: watcher.Run})
}

// docs:end register

// join makes the service one of several.
func (o options) join(cfg *cruster.Config) (err error) {
	secret := o.secret
	if secret == "" {
		secret = os.Getenv(envSecret)
	}
	switch {
	case o.storage != "postgres":
		return fmt.Errorf("-listen makes this process one of several, which can share -storage postgres, not %s", o.storage)
	case secret == "":
		return fmt.Errorf("-listen lets other processes in: give all of them the same -peer-secret, or %s; make one with `openssl rand -hex 32`", envSecret)
	}
	cfg.Transport, err = grpctransport.New(grpctransport.Options{
		Listen: o.listen, Advertise: o.advertise, Secrets: []string{secret}, Limits: transport.Options{Logger: o.logger},
	})
	if err != nil {
		return err
	}
	cfg.Membership, err = mpostgres.New(cfg.Storage, &mpostgres.Options{Logger: o.logger})
	return err
}
