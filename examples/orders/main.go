// Command orders runs an order workflow whose activities write to the same
// database as its journal. Kill it anywhere, start it again with the same file,
// and it finishes with each effect exactly once.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage/sqlite"
)

const schema = `
CREATE TABLE IF NOT EXISTS reservations  (id TEXT, order_id TEXT NOT NULL, item TEXT NOT NULL, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS payments      (id TEXT, order_id TEXT NOT NULL, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS parcels       (number INTEGER PRIMARY KEY, order_id TEXT NOT NULL, item TEXT NOT NULL, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS confirmations (order_id TEXT NOT NULL, payment TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit         (entity TEXT NOT NULL, text TEXT NOT NULL);`

func main() {
	file := flag.String("db", "orders.db", "SQLite file")
	order := flag.String("order", "order-42", "order ID: the same one is the same execution")
	crash := flag.Int("crash-after", 0, "kill the process at the N-th point")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Stdout, *file, *order, *crash); err != nil {
		log.Fatal(err)
	}
}

// docs:begin run

func run(ctx context.Context, out io.Writer, file, order string, crashAfter int) (err error) {
	store, err := sqlite.Open(file, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	err = sqlite.InTx(ctx, store, func(ctx context.Context, tx *sqlite.Transaction) error {
		_, err := tx.ExecContext(ctx, schema)
		return err
	})
	if err != nil {
		return err
	}
	svc, err := cruster.New(cruster.Config{Storage: store})
	if err != nil {
		return err
	}
	stage := &Stage{out: out, crashAfter: crashAfter}
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
	res, err := orders.Execute(ctx, OrderRequest{OrderID: order, Item: "lamp", Count: 3, Amount: 9900})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: reservation %s, payment %s, parcel %d\n", res.OrderID, res.Reservation, res.Payment, res.Parcel)
	return report(ctx, out, store.DB(), order)
}

// docs:end run

// report counts the effects of one order: each is there once.
func report(ctx context.Context, out io.Writer, db *sql.DB, order string) error {
	for _, table := range []string{"reservations", "payments", "parcels", "confirmations"} {
		var n int
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM `+table+` WHERE order_id = $1`, order).Scan(&n); err != nil {
			return err
		}
		fmt.Fprintf(out, "%d in %s\n", n, table)
	}
	return nil
}
