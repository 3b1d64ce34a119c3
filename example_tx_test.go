package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// Wallet is a row of the user's own table.
type Wallet struct {
	_ cruster.Entity `cruster:"wallet"`
	_ cruster.RPC    `cruster:"Pay,persisted"`
	_ cruster.RPC    `cruster:"Receive,persisted"`

	wallets *cruster.Client[*Wallet]
	paid    chan string
}

type Payment struct {
	To     string
	Amount int
}

// Pay takes the money from this wallet and sends it to another. The update, the
// record that the request ran and the message to the other wallet are one
// commit.
func (w *Wallet) Pay(ctx context.Context, p Payment) error {
	if err := cruster.NotifyErr(ctx, w.wallets.Entity(p.To), (*Wallet).Receive, p); err != nil {
		return err
	}
	var left int
	err := cruster.Tx(ctx).QueryRow(ctx, `UPDATE wallets SET balance = balance - $2 WHERE id = $1 RETURNING balance`,
		cruster.EntityID(ctx), p.Amount).Scan(&left)
	if err != nil {
		return err
	}
	if left < 0 {
		return errors.New("not enough money") // rolls back, and drops the message
	}
	return nil
}

func (w *Wallet) Receive(ctx context.Context, p Payment) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `UPDATE wallets SET balance = balance + $2 WHERE id = $1`, cruster.EntityID(ctx), p.Amount)
	w.paid <- p.To
	return err
}

// Effects through Tx, outcome and sends of a persisted handler commit together,
// or not at all.
func ExampleTx() {
	ctx := context.Background()
	store, err := sqlite.OpenMemory()
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	err = sqlite.InTx(ctx, store, func(ctx context.Context, tx *sqlite.Transaction) error {
		_, err := tx.ExecContext(ctx, `CREATE TABLE wallets (id TEXT PRIMARY KEY, balance INTEGER);
			INSERT INTO wallets VALUES ('ada', 100), ('bob', 0)`)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	svc, err := cruster.New(cruster.Config{Storage: store})
	if err != nil {
		log.Fatal(err)
	}
	var wallets cruster.Client[*Wallet]
	paid := make(chan string)
	if wallets, err = cruster.Register(svc, &Wallet{wallets: &wallets, paid: paid}); err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}

	fmt.Println("too much:", cruster.CallErr(ctx, wallets.Entity("ada"), (*Wallet).Pay, Payment{"bob", 500}))
	fmt.Println("enough:", cruster.CallErr(ctx, wallets.Entity("ada"), (*Wallet).Pay, Payment{"bob", 30}))
	fmt.Println("received by", <-paid)
	if err := svc.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}

	rows, err := store.DB().QueryContext(ctx, `SELECT id, balance FROM wallets ORDER BY id`)
	if err != nil {
		log.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var balance int
		if err := rows.Scan(&id, &balance); err != nil {
			log.Fatal(err)
		}
		fmt.Println(id, balance)
	}
	// Output:
	// too much: not enough money
	// enough: <nil>
	// received by bob
	// ada 70
	// bob 30
}
