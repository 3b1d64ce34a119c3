// Command quickstart counts, durably: run it twice.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// docs:begin counter

// Counter keeps one number per entity ID. One registered value serves every ID
// at once: its fields are dependencies, never entity state.
type Counter struct {
	_ cruster.Entity `cruster:"counter"`
	_ cruster.RPC    `cruster:"Increment,persisted"`
}

type IncrementRequest struct{ Amount int64 }

// Increment is persisted: it runs at least once, and what it writes through Tx
// is written exactly once.
func (c *Counter) Increment(ctx context.Context, req IncrementRequest) (value int64, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, `INSERT INTO counters (id, value) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET value = counters.value + excluded.value RETURNING value`,
		cruster.EntityID(ctx), req.Amount).Scan(&value)
	return value, err
}

// docs:end counter

var file = flag.String("db", "counter.db", "SQLite file")

// docs:begin main

func main() {
	flag.Parse()
	ctx := context.Background()
	store := must(sqlite.Open(*file, nil)) // or sqlite.OpenMemory(), which forgets
	defer store.Close()
	must(0, sqlite.InTx(ctx, store, func(ctx context.Context, tx *sqlite.Transaction) error {
		_, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS counters (id TEXT PRIMARY KEY, value INTEGER NOT NULL)`)
		return err
	}))
	svc := must(cruster.New(cruster.Config{Storage: store}))
	counters := must(cruster.Register(svc, &Counter{}))
	must(0, svc.Start(ctx))
	defer svc.Shutdown(ctx)
	fmt.Println("c-1 is", must(cruster.Call(ctx, counters.Entity("c-1"), (*Counter).Increment, IncrementRequest{Amount: 5})))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// docs:end main
