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

// The shop's own tables have no keys, so that an effect that happens twice is
// seen.
const schema = `
CREATE TABLE IF NOT EXISTS reservations  (id TEXT, order_id TEXT NOT NULL, item TEXT NOT NULL, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS payments      (id TEXT, order_id TEXT NOT NULL, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS parcels       (number INTEGER PRIMARY KEY, order_id TEXT NOT NULL, item TEXT NOT NULL, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS confirmations (order_id TEXT NOT NULL, payment TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit         (entity TEXT NOT NULL, text TEXT NOT NULL);`

// tables are those in which each order has one row.
var tables = []string{"reservations", "payments", "parcels", "confirmations"}

// envPostgres names the PostgreSQL database when -pg does not.
const envPostgres = "CRUSTER_POSTGRES_URL"

// database has the shop's tables beside those of cruster.
type database struct {
	store storage.Store
	sql   *sql.DB // for reading
	close func()
}

// openDatabase opens the database that o names and makes the tables that are
// missing.
func openDatabase(ctx context.Context, o options) (*database, error) {
	switch o.storage {
	case "sqlite":
		return openSQLite(ctx, o.file)
	case "postgres":
		return openPostgres(ctx, o.pg)
	}
	return nil, fmt.Errorf("-storage %s: it is sqlite or postgres", o.storage)
}

func openSQLite(ctx context.Context, file string) (*database, error) {
	store, err := sqlite.Open(file, nil)
	if err != nil {
		return nil, err
	}
	err = sqlite.InTx(ctx, store, func(ctx context.Context, tx *sqlite.Transaction) error {
		_, err := tx.ExecContext(ctx, schema)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &database{store: store, sql: store.DB(), close: func() { store.Close() }}, nil
}

// patience is how long a server may take to answer for the first time.
const patience = 5 * time.Second

func openPostgres(ctx context.Context, url string) (*database, error) {
	if url == "" {
		url = os.Getenv(envPostgres)
	}
	if url == "" {
		return nil, fmt.Errorf("-storage postgres needs a database: name it with -pg postgres://user:password@host/database, or in %s", envPostgres)
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("-pg (or %s) is not a connection string: %w", envPostgres, err)
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
	if err := pool.Ping(ping); err != nil {
		to := pool.Config().ConnConfig
		return nil, fmt.Errorf("-pg (or %s): the database %q on %s:%d does not answer: start the server, or name another one: %w",
			envPostgres, to.Database, to.Host, to.Port, err)
	}
	// What SQLite numbers by itself, PostgreSQL has to be asked for.
	const number = "INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
	if _, err := pool.Exec(ctx, strings.Replace(schema, "INTEGER PRIMARY KEY", number, 1), pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("make the shop's tables: %w", err)
	}
	store, err := postgres.New(pool, &postgres.Options{AutoMigrate: true})
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDBFromPool(pool)
	return &database{store: store, sql: db, close: func() {
		db.Close()
		store.Close()
		pool.Close()
	}}, nil
}

// effects counts the rows that an order has in a table.
func (d *database) effects(ctx context.Context, table, order string) (n int, err error) {
	err = d.sql.QueryRowContext(ctx, `SELECT count(*) FROM `+table+` WHERE order_id = $1`, order).Scan(&n)
	return n, err
}

// confirmed returns the orders that are done.
func (d *database) confirmed(ctx context.Context) (map[string]bool, error) {
	rows, err := d.sql.QueryContext(ctx, `SELECT order_id FROM confirmations`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	done := make(map[string]bool)
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		done[id] = true
	}
	return done, rows.Err()
}
