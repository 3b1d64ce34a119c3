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

// Times are microseconds since 1970. Deliveries and digests have no keys, so
// that one which is made twice is seen.
const schema = `
CREATE TABLE IF NOT EXISTS reminder (id TEXT PRIMARY KEY, user_name TEXT NOT NULL, text TEXT NOT NULL, due BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS delivery (reminder TEXT NOT NULL, number INTEGER NOT NULL, due BIGINT NOT NULL, delivered BIGINT NOT NULL, process TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS digest   (tick BIGINT NOT NULL, written BIGINT NOT NULL, delivered BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS watch    (id INTEGER PRIMARY KEY, process TEXT NOT NULL, began BIGINT NOT NULL, looked BIGINT NOT NULL, ended BIGINT, late BIGINT NOT NULL);
CREATE INDEX IF NOT EXISTS delivery_reminder ON delivery (reminder);
CREATE INDEX IF NOT EXISTS reminder_due ON reminder (due);`

// database has the program's tables beside those of cruster.
type database struct {
	store storage.Store
	sql   *sql.DB // for reading
	clock string  // the database's clock, as an SQL expression
	exec  func(ctx context.Context, query string, args ...any) error
	// insert writes one row and reads what RETURNING says.
	insert func(ctx context.Context, to any, query string, args ...any) error
	close  func()
}

// openDatabase opens the database that o names, and makes the tables that are
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
	d := &database{store: store, sql: store.DB(), clock: `CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)`, close: func() { store.Close() }}
	d.exec = func(ctx context.Context, query string, args ...any) error {
		return sqlite.InTx(ctx, store, func(ctx context.Context, tx *sqlite.Transaction) error {
			_, err := tx.ExecContext(ctx, query, args...)
			return err
		})
	}
	d.insert = func(ctx context.Context, to any, query string, args ...any) error {
		return sqlite.InTx(ctx, store, func(ctx context.Context, tx *sqlite.Transaction) error {
			return tx.QueryRowContext(ctx, query, args...).Scan(to)
		})
	}
	if err := d.exec(ctx, schema); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return d, nil
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
	to := pool.Config().ConnConfig
	if err := pool.Ping(ping); err != nil {
		return nil, fmt.Errorf("-pg (or %s): the database %q on %s:%d does not answer: start the server, or name another one: %w",
			envPostgres, to.Database, to.Host, to.Port, err)
	}
	// CREATE TABLE IF NOT EXISTS alone fails for one of two that run at once.
	const alone = "BEGIN; SELECT pg_advisory_xact_lock(7283463); "
	// What SQLite numbers by itself, PostgreSQL has to be asked for.
	numbered := strings.Replace(schema, "id INTEGER PRIMARY KEY", "id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", 1)
	if _, err := pool.Exec(ctx, alone+numbered+" COMMIT", pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("make the tables: %w", err)
	}
	store, err := postgres.New(pool, &postgres.Options{AutoMigrate: true})
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDBFromPool(pool)
	return &database{
		store: store, sql: db, clock: `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`,
		exec: func(ctx context.Context, query string, args ...any) error {
			_, err := pool.Exec(ctx, query, args...)
			return err
		},
		insert: func(ctx context.Context, to any, query string, args ...any) error {
			return pool.QueryRow(ctx, query, args...).Scan(to)
		},
		close: func() {
			db.Close()
			store.Close()
			pool.Close()
		},
	}, nil
}

// rows returns what a query finds, each row as a map by column.
func (d *database) rows(ctx context.Context, query string, args ...any) ([]map[string]any, error) {
	rows, err := d.sql.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	found := []map[string]any{}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := make(map[string]any, len(columns))
		for i, c := range columns {
			row[c] = values[i]
		}
		found = append(found, row)
	}
	return found, rows.Err()
}
