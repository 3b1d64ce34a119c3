// Command orders runs an order workflow whose activities write to the same
// database as its journal. Kill it anywhere, start it again with the same
// database, and it finishes with each effect exactly once.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/cruster-go/cruster"
)

// options are the flags.
type options struct {
	storage, file, pg string
	order             string
	orders            int
	crashAfter        int
	lease             time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.storage, "storage", "sqlite", "sqlite or postgres")
	flag.StringVar(&o.file, "db", "orders.db", "SQLite file")
	flag.StringVar(&o.pg, "pg", "", "PostgreSQL database, such as postgres://user:password@host/database (default: $"+envPostgres+")")
	flag.StringVar(&o.order, "order", "order-42", "order ID: the same one is the same execution")
	flag.IntVar(&o.orders, "orders", 0, "take the orders order-1 to order-N instead of a single one")
	flag.IntVar(&o.crashAfter, "crash-after", 0, "kill the process at the N-th point")
	flag.DurationVar(&o.lease, "lease", 2*time.Second, "how long PostgreSQL believes that a silent process lives: a new one waits that long for a killed one")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := run(ctx, os.Stdout, o); err != nil {
		log.Fatal(err)
	}
}

// docs:begin run

func run(ctx context.Context, out io.Writer, o options) error {
	db, err := openDatabase(ctx, o) // SQLite or PostgreSQL: nothing below knows which
	if err != nil {
		return err
	}
	defer db.close()
	svc, err := cruster.New(cruster.Config{Storage: db.store, LeaseTTL: o.lease})
	if err != nil {
		return err
	}
	stage := &Stage{out: out, crashAfter: o.crashAfter, quiet: o.orders > 0}
	warehouse, err := cruster.Register(svc, &Warehouse{stage: stage})
	if err != nil {
		return err
	}
	orders, err := cruster.RegisterWorkflow(svc, &OrderWorkflow{Inventory: Inventory{stage: stage}, warehouse: warehouse, stage: stage})
	if err != nil {
		return err
	}
	if err := svc.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = svc.Shutdown(ctx) }()
	if o.orders > 0 {
		return many(ctx, out, db, orders, o.orders)
	}
	res, err := orders.Execute(ctx, OrderRequest{OrderID: o.order, Item: "lamp", Count: 3, Amount: 9900})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: reservation %s, payment %s, parcel %d\n", res.OrderID, res.Reservation, res.Payment, res.Parcel)
	return report(ctx, out, db, o.order)
}

// docs:end run

// report counts the effects of one order: each is there once.
func report(ctx context.Context, out io.Writer, db *database, order string) error {
	for _, table := range tables {
		n, err := db.effects(ctx, table, order)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d in %s\n", n, table)
	}
	return nil
}
