package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// Counter is a number that is changed and read.
type Counter struct {
	_ cruster.Entity `cruster:"Counter,idle=5s"`
	Counting
}

// StatelessCounter is the same under another name, with a table of its own.
type StatelessCounter struct {
	_ cruster.Entity `cruster:"StatelessCounter,idle=5s"`
	Counting
}

// docs:begin group

// Counting is the RPC group of both: the methods of a number in a table. The
// value lives in the table alone, so an entity that was evicted, or has moved
// to another node, goes on where it was.
type Counting struct {
	_ cruster.RPC `cruster:"Increment,persisted"`
	_ cruster.RPC `cruster:"Decrement,persisted"`
	_ cruster.RPC `cruster:"Reset,persisted"`

	db    *pgxpool.Pool
	table string
}

// Get returns the value, 0 for a new counter.
func (c *Counting) Get(ctx context.Context, _ struct{}) (value int64, err error) {
	err = c.db.QueryRow(ctx, `SELECT coalesce((SELECT value FROM `+c.table+` WHERE id = $1), 0)`, cruster.EntityID(ctx)).Scan(&value)
	return value, err
}

// Increment adds and returns the new value.
func (c *Counting) Increment(ctx context.Context, n int64) (value int64, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, `INSERT INTO `+c.table+` AS c (id, value) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET value = c.value + excluded.value RETURNING value`, cruster.EntityID(ctx), n).Scan(&value)
	return value, err
}

// docs:end group

// Decrement subtracts and returns the new value, which may be negative.
func (c *Counting) Decrement(ctx context.Context, n int64) (value int64, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, `INSERT INTO `+c.table+` AS c (id, value) VALUES ($1, 0 - $2::bigint)
		ON CONFLICT (id) DO UPDATE SET value = c.value - $2 RETURNING value`, cruster.EntityID(ctx), n).Scan(&value)
	return value, err
}

// Reset sets the value to 0.
func (c *Counting) Reset(ctx context.Context, _ struct{}) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO `+c.table+` (id, value) VALUES ($1, 0)
		ON CONFLICT (id) DO UPDATE SET value = 0`, cruster.EntityID(ctx))
	return err
}
