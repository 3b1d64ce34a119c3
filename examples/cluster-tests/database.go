package main

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed tables.sql
var tablesSQL string

// tablesLock is the advisory lock under which the tables are made: nodes may
// start at the same moment.
const tablesLock = 0x636c757374657274

// openPool waits until the database answers.
func openPool(ctx context.Context, cfg *pgxpool.Config, log *slog.Logger) (*pgxpool.Pool, error) {
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("POSTGRES_URL: %w", err)
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; told = true {
		if err = pool.Ping(ctx); err == nil {
			return pool, nil
		}
		if !told {
			log.Warn("the database does not answer yet", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			pool.Close()
			to := cfg.ConnConfig
			return nil, fmt.Errorf("POSTGRES_URL: the database %q at %s:%d does not answer: %w", to.Database, to.Host, to.Port, err)
		}
	}
}

// createTables makes the application's tables, in a schema of their own.
func createTables(ctx context.Context, pool *pgxpool.Pool) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(tablesLock)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, tablesSQL, pgx.QueryExecModeSimpleProtocol)
		return err
	})
	if err != nil {
		return fmt.Errorf("make the application's tables: %w", err)
	}
	return nil
}

// rowsOf runs a query outside of any transaction and returns its rows, never
// nil.
func rowsOf[T any](ctx context.Context, db *pgxpool.Pool, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]T{}, rows, scan)
}
