package gossip_test

import (
	"context"
	"log"
	"os"

	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/gossip"
	"github.com/cruster-go/cruster/membership/stored"
	"github.com/cruster-go/cruster/storage/memory"
)

func ExampleNew() {
	store := memory.New() // PostgreSQL, in a cluster
	defer store.Close()
	answers := func(context.Context, membership.Member) bool { return true } // asks over the runners' own transport

	members, err := gossip.New(stored.New(store, nil), &gossip.Options{
		Bind: "0.0.0.0:7946", Advertise: "10.0.0.1:7946", SecretKey: []byte(os.Getenv("GOSSIP_KEY")),
		Confirm: func(ctx context.Context, m membership.Member) bool { return !answers(ctx, m) },
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = members
}
