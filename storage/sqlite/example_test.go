package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cruster-go/cruster/storage/sqlite"
)

func Example() {
	store, err := sqlite.OpenMemory() // sqlite.Open("app.db", nil) in a program
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	ctx := context.Background()
	tx, err := store.Begin(ctx) // in a handler: cruster.Tx(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tx.Rollback(ctx)
	var total int
	if err := tx.QueryRow(ctx, `SELECT $1 + $2 + $1`, 1, 10).Scan(&total); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(total)
	// Output: 12
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	store, err := sqlite.Open(filepath.Join(dir, "app.db"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	fmt.Printf("%+v\n", store.Info())
	// Output: {Name:sqlite Durable:true SQL:true Shared:false}
}

func ExampleInTx() {
	store, err := sqlite.OpenMemory()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	err = sqlite.InTx(context.Background(), store, func(ctx context.Context, tx *sqlite.Transaction) error {
		if _, err := tx.ExecContext(ctx, `CREATE TABLE orders (id TEXT PRIMARY KEY, amount INTEGER)`); err != nil {
			return err
		}
		// What is sent with this ctx, by cruster.Notify for example, is
		// delivered only if the order is stored.
		_, err := tx.ExecContext(ctx, `INSERT INTO orders VALUES ($1, $2)`, "o-1", 250)
		return err
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var amount int
	if err := store.DB().QueryRow(`SELECT amount FROM orders WHERE id = ?`, "o-1").Scan(&amount); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(amount)
	// Output: 250
}
