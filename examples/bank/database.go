package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// Entries and executions have no keys, so that an effect that happens twice is
// seen.
const schema = `
CREATE TABLE IF NOT EXISTS bank_account   (id BIGINT PRIMARY KEY, opening BIGINT NOT NULL, balance BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS bank_transfer  (id TEXT PRIMARY KEY, source BIGINT NOT NULL, target BIGINT NOT NULL, amount BIGINT NOT NULL,
	mode TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS bank_entry     (transfer TEXT NOT NULL, account BIGINT NOT NULL, amount BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS bank_execution (account BIGINT NOT NULL, epoch BIGINT NOT NULL, began BIGINT NOT NULL, ended BIGINT NOT NULL,
	request TEXT NOT NULL, runner TEXT NOT NULL);`

// database has the bank's tables beside those of cruster.
type database struct {
	store storage.Store
	sql   *sql.DB // for reading
	clock string  // the database's clock in microseconds, as an SQL expression
	exec  func(ctx context.Context, query string, args ...any) (int64, error)
	close func()
}

// openDatabase opens the database that o names, makes the tables that are
// missing, and opens the accounts.
func openDatabase(ctx context.Context, o options) (*database, error) {
	var d *database
	var err error
	switch o.storage {
	case "postgres":
		d, err = openPostgres(ctx, o)
	case "sqlite":
		d, err = openSQLite(ctx, o)
	default:
		err = fmt.Errorf("-storage %s: it is postgres or sqlite", o.storage)
	}
	if err != nil {
		return nil, err
	}
	for n := range o.accounts {
		if _, err := d.exec(ctx, `INSERT INTO bank_account (id, opening, balance) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING`, n+1, o.opening); err != nil {
			d.close()
			return nil, fmt.Errorf("open the accounts: %w", err)
		}
	}
	return d, nil
}

func openSQLite(ctx context.Context, o options) (*database, error) {
	store, err := sqlite.Open(o.file, nil)
	if err != nil {
		return nil, err
	}
	d := &database{store: store, sql: store.DB(), clock: `CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)`, close: func() { store.Close() }}
	d.exec = func(ctx context.Context, query string, args ...any) (n int64, err error) {
		err = sqlite.InTx(ctx, store, func(ctx context.Context, tx *sqlite.Transaction) error {
			res, err := tx.ExecContext(ctx, query, args...)
			if err == nil {
				n, err = res.RowsAffected()
			}
			return err
		})
		return n, err
	}
	if _, err := d.exec(ctx, schema); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return d, nil
}

// patience is how long a server may take to answer for the first time.
const patience = 5 * time.Second

// connections is how many transactions of handlers are open at a time, unless
// the connection string says pool_max_conns.
const connections = 16

func openPostgres(ctx context.Context, o options) (*database, error) {
	url := o.pg
	if url == "" {
		url = os.Getenv(envPostgres)
	}
	if url == "" {
		return nil, fmt.Errorf("no database: name it with -pg postgres://user:password@host/database, or in %s", envPostgres)
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("-pg (or %s) is not a connection string: %w", envPostgres, err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		cfg.MaxConns = connections
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = patience
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	d, err := tablesOn(ctx, pool)
	if err != nil {
		pool.Close()
	}
	return d, err
}

// tablesOn makes the tables, and a database on a pool, which is the database's
// to close when there is no error.
func tablesOn(ctx context.Context, pool *pgxpool.Pool) (*database, error) {
	ping, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	to := pool.Config().ConnConfig
	if err := pool.Ping(ping); err != nil {
		return nil, fmt.Errorf("-pg (or %s): the database %q on %s:%d does not answer: start the server, or name another one: %w",
			envPostgres, to.Database, to.Host, to.Port, err)
	}
	// CREATE TABLE IF NOT EXISTS alone fails for one of two that run at once.
	const alone = "BEGIN; SELECT pg_advisory_xact_lock(7283462); "
	if _, err := pool.Exec(ctx, alone+schema+" COMMIT", pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("make the bank's tables: %w", err)
	}
	store, err := postgres.New(pool, &postgres.Options{AutoMigrate: true})
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDBFromPool(pool)
	return &database{
		store: store, sql: db, clock: `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`,
		exec: func(ctx context.Context, query string, args ...any) (int64, error) {
			tag, err := pool.Exec(ctx, query, args...)
			return tag.RowsAffected(), err
		},
		close: func() {
			db.Close()
			store.Close()
			pool.Close()
		},
	}, nil
}
