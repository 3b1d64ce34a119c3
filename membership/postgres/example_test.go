package postgres_test

import (
	"context"
	"log"

	memberpg "github.com/cruster-go/cruster/membership/postgres"
	"github.com/cruster-go/cruster/storage/postgres"
)

func ExampleNew() {
	store, err := postgres.Open(context.Background(), "postgres://app@localhost/app", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	members, err := memberpg.New(store, nil)
	if err != nil {
		log.Fatal(err)
	}
	_ = members
}
