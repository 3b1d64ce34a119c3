// Command quickstart counts, durably if it is told where.
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

// docs:begin main

func run(ctx context.Context, file string) error {
	store, err := sqlite.Open(file, nil) // ":memory:" forgets, a file name remembers
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Exec(ctx, `CREATE TABLE IF NOT EXISTS counters (id TEXT PRIMARY KEY, value INTEGER NOT NULL)`); err != nil {
		return err
	}
	svc, err := cruster.New(cruster.Config{Storage: store})
	if err != nil {
		return err
	}
	counters, err := cruster.Register(svc, &Counter{})
	if err != nil {
		return err
	}
	if err := svc.Start(ctx); err != nil {
		return err
	}
	defer svc.Shutdown(ctx)
	value, err := cruster.Call(ctx, counters.Entity("c-1"), (*Counter).Increment, IncrementRequest{Amount: 5})
	fmt.Println("c-1 is", value)
	return err
}

// docs:end main

func main() {
	file := flag.String("db", ":memory:", "SQLite file")
	flag.Parse()
	if err := run(context.Background(), *file); err != nil {
		log.Fatal(err)
	}
}
