// Command bank moves money between accounts. It is one runner of a cluster:
// start it several times on one PostgreSQL database, kill any of them, and every
// transfer still happens exactly once.
//
//	bank [flags]          a runner, with an HTTP interface
//	bank verify [flags]   looks for broken invariants in the database
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	id, listen, advertise, http string
	storage, pg, file           string
	membership, etcd, secret    string
	shards, accounts            int
	opening                     int64
	ttl, drain, think           time.Duration
	stubborn                    bool
	logger                      *slog.Logger
}

func (o *options) define(f *flag.FlagSet) {
	f.StringVar(&o.id, "id", "bank", "name of this runner, in events and answers")
	f.StringVar(&o.listen, "listen", "", "host:port for other runners; empty: this runner is alone")
	f.StringVar(&o.advertise, "advertise", "", "host:port at which other runners reach it (default: the one of -listen)")
	f.StringVar(&o.http, "http", "127.0.0.1:8080", "host:port of the HTTP interface")
	f.StringVar(&o.storage, "storage", "postgres", "postgres, or sqlite for a runner that is alone")
	f.StringVar(&o.pg, "pg", "", "PostgreSQL database, such as postgres://user:password@host/database (default: $"+envPostgres+")")
	f.StringVar(&o.file, "db", "bank.db", "SQLite file")
	f.StringVar(&o.membership, "membership", "postgres", "how runners find each other: postgres or etcd")
	f.StringVar(&o.etcd, "etcd", "127.0.0.1:2379", "etcd endpoints, separated by commas")
	f.StringVar(&o.secret, "peer-secret", "", "secret that all runners share, at least 16 bytes; needed with -listen (default: $"+envSecret+")")
	f.IntVar(&o.shards, "shards", 300, "number of shards; it must never change for one database")
	f.IntVar(&o.accounts, "accounts", 20, "accounts to open, numbered from 1")
	f.Int64Var(&o.opening, "opening", 1000, "what is in an account when it is opened")
	f.DurationVar(&o.ttl, "ttl", 10*time.Second, "how long a silent runner is believed to live")
	f.DurationVar(&o.drain, "drain-timeout", 10*time.Second, "how long handlers may take to end at shutdown")
	f.DurationVar(&o.think, "think", 0, "for tests: how long a handler takes, inside of its transaction")
	f.BoolVar(&o.stubborn, "stubborn", false, "for tests: handlers go on after they were cancelled, as careless ones do")
}

// Environment variables that stand in for flags.
const (
	envPostgres = "CRUSTER_POSTGRES_URL"
	envSecret   = "CRUSTER_PEER_SECRET"
)

func main() {
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

func command(args []string, out, events io.Writer) int {
	var o options
	verify := len(args) > 0 && args[0] == "verify"
	if verify {
		args = args[1:]
	}
	f := flag.NewFlagSet("bank", flag.ContinueOnError)
	f.SetOutput(events)
	o.define(f)
	if err := f.Parse(args); err != nil {
		return 2
	}
	if f.NArg() > 0 {
		fmt.Fprintf(events, "bank: %q is not a flag; the only command is verify, and it comes first\n", f.Arg(0))
		return 2
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if verify {
		return report(ctx, out, events, o)
	}
	o.logger = slog.New(slog.NewJSONHandler(events, nil)).With("id", o.id)
	if err := serve(ctx, o); err != nil {
		o.logger.Error("failed", "error", err)
		return 1
	}
	return 0
}

// report verifies, prints what it finds as JSON, and returns the exit code.
func report(ctx context.Context, out, events io.Writer, o options) int {
	db, err := openDatabase(ctx, o)
	if err == nil {
		defer db.close()
		var r result
		if r, err = db.verify(ctx); err == nil {
			e := json.NewEncoder(out)
			e.SetIndent("", "  ")
			err = e.Encode(r)
		}
		if err == nil && len(r.Faults) > 0 {
			err = errors.New("invariants are broken")
		}
	}
	if err != nil {
		fmt.Fprintln(events, "bank verify:", err)
		return 1
	}
	return 0
}
