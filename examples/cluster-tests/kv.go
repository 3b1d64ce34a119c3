package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// KVStore keeps JSON values under keys.
type KVStore struct {
	_ cruster.Entity `cruster:"KVStore,idle=5s"`
	_ cruster.RPC    `cruster:"Set,persisted"`
	_ cruster.RPC    `cruster:"Delete,persisted"`
	_ cruster.RPC    `cruster:"Clear,persisted"`

	db *pgxpool.Pool
}

// Pair is a key and the text of its JSON value.
type Pair struct{ Key, Value string }

// Get returns the text of a value, "" when there is none.
func (s *KVStore) Get(ctx context.Context, key string) (value string, err error) {
	err = s.db.QueryRow(ctx, `SELECT value FROM cluster_tests.kv WHERE store = $1 AND key = $2`, cruster.EntityID(ctx), key).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return value, err
}

// ListKeys returns the keys in ascending order.
func (s *KVStore) ListKeys(ctx context.Context, _ struct{}) ([]string, error) {
	return rowsOf(ctx, s.db, pgx.RowTo[string], `SELECT key FROM cluster_tests.kv WHERE store = $1 ORDER BY key`, cruster.EntityID(ctx))
}

// Set stores a value.
func (s *KVStore) Set(ctx context.Context, p Pair) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.kv (store, key, value) VALUES ($1, $2, $3)
		ON CONFLICT (store, key) DO UPDATE SET value = excluded.value`, cruster.EntityID(ctx), p.Key, p.Value)
	return err
}

// Delete removes a key and reports whether it was there.
func (s *KVStore) Delete(ctx context.Context, key string) (bool, error) {
	n, err := cruster.Tx(ctx).Exec(ctx, `DELETE FROM cluster_tests.kv WHERE store = $1 AND key = $2`, cruster.EntityID(ctx), key)
	return n > 0, err
}

// Clear removes all keys.
func (s *KVStore) Clear(ctx context.Context, _ struct{}) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `DELETE FROM cluster_tests.kv WHERE store = $1`, cruster.EntityID(ctx))
	return err
}
