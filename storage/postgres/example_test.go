package postgres_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/storage/postgres"
)

func ExampleNew() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://app@localhost/app")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	store, err := postgres.New(pool, &postgres.Options{Schema: "cruster"})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
}

func ExampleOpen() {
	ctx := context.Background()
	store, err := postgres.Open(ctx, "postgres://app@localhost/app", &postgres.Options{AutoMigrate: true})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
}

// An activity that books with all of pgx. The rows, the activity's result and
// the messages that it sends commit together.
func ExampleTx() {
	book := func(ctx context.Context, items []string) (int64, error) {
		tx, err := postgres.Tx(ctx)
		if err != nil {
			return 0, err
		}
		rows := make([][]any, len(items))
		for i, item := range items {
			rows[i] = []any{item}
		}
		return tx.CopyFrom(ctx, pgx.Identifier{"shop", "booking"}, []string{"item"}, pgx.CopyFromRows(rows))
	}
	_ = book
}

// Code outside of handlers sends as part of a transaction of its own: the
// message is delivered if and only if the row is there.
func ExampleInTx() {
	var (
		ctx   context.Context
		pool  *pgxpool.Pool
		store *postgres.Store
	)
	signUp := func(name string) error {
		return postgres.InTx(ctx, pool, store, func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO shop.customer (name) VALUES ($1)", name); err != nil {
				return err
			}
			// cruster.Notify(ctx, mailer.Entity(name), (*Mailer).Welcome, WelcomeRequest{})
			return nil
		})
	}
	_ = signUp
}

// A transaction that other code has begun and will end.
func ExampleJoin() {
	var store *postgres.Store
	inside := func(ctx context.Context, tx pgx.Tx) error {
		ctx = postgres.Join(ctx, tx, store)
		// cruster.Notify(ctx, ...)
		_ = ctx
		return nil
	}
	_ = inside
}

// What a DBA gets to read before anything is changed.
func ExampleMigrationSQL() {
	text, err := postgres.MigrationSQL("cruster", 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(text[:len("BEGIN;")])
	// Output: BEGIN;
}
