package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// CrossEntity takes messages of others of its type.
type CrossEntity struct {
	_ cruster.Entity `cruster:"CrossEntity,idle=5s"`
	_ cruster.RPC    `cruster:"Receive,persisted"`
	_ cruster.RPC    `cruster:"Ping,persisted"`
	_ cruster.RPC    `cruster:"ResetPingCount,persisted"`
	_ cruster.RPC    `cruster:"ClearMessages,persisted"`

	db *pgxpool.Pool
}

// Letter is what one entity sends to another.
type Letter struct{ From, Message string }

// Message is a letter that has arrived.
type Message struct {
	FromEntity string `json:"from_entity"`
	Content    string `json:"content"`
	Timestamp  Time   `json:"timestamp"`
}

// Receive stores a message.
func (e *CrossEntity) Receive(ctx context.Context, l Letter) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.cross_messages (owner, sender, content) VALUES ($1, $2, $3)`,
		cruster.EntityID(ctx), l.From, l.Message)
	return err
}

// GetMessages returns the messages, oldest first.
func (e *CrossEntity) GetMessages(ctx context.Context, _ struct{}) ([]Message, error) {
	return rowsOf(ctx, e.db, pgx.RowToStructByPos[Message], `SELECT sender, content, at
		FROM cluster_tests.cross_messages WHERE owner = $1 ORDER BY num`, cruster.EntityID(ctx))
}

// ClearMessages removes the messages.
func (e *CrossEntity) ClearMessages(ctx context.Context, _ struct{}) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `DELETE FROM cluster_tests.cross_messages WHERE owner = $1`, cruster.EntityID(ctx))
	return err
}

// Ping stores a count and returns it.
func (e *CrossEntity) Ping(ctx context.Context, count int64) (int64, error) {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.ping_counts (id, count) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET count = excluded.count`, cruster.EntityID(ctx), count)
	return count, err
}

// ResetPingCount sets the count to 0.
func (e *CrossEntity) ResetPingCount(ctx context.Context, _ struct{}) error {
	_, err := e.Ping(ctx, 0)
	return err
}

// GetPingCount returns the count of the last ping.
func (e *CrossEntity) GetPingCount(ctx context.Context, _ struct{}) (count int64, err error) {
	err = e.db.QueryRow(ctx, `SELECT coalesce((SELECT count FROM cluster_tests.ping_counts WHERE id = $1), 0)`, cruster.EntityID(ctx)).Scan(&count)
	return count, err
}

// pingPong lets two entities ping each other, count times, and returns the last
// count that was stored.
func pingPong(ctx context.Context, all cruster.Client[*CrossEntity], id, partner string, count uint32) (n int64, err error) {
	for _, each := range []string{id, partner} {
		if err := cruster.CallErr(ctx, all.Entity(each), (*CrossEntity).ResetPingCount, struct{}{}); err != nil {
			return 0, err
		}
	}
	for range count {
		for _, each := range []string{partner, id} {
			if n, err = cruster.Call(ctx, all.Entity(each), (*CrossEntity).Ping, n+1); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}
