package stored_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/stored"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// A member joins, asks for a lock, and takes the shard over in storage.
func ExampleNew() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()

	self := membership.Member{Address: "10.0.0.1:7000", Groups: []string{"default"}, Weight: 1}
	var err error
	self.Incarnation, err = store.Register(ctx, storage.Runner{Address: self.Address, Groups: self.Groups, Weight: 1}, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	session, err := stored.New(store, nil).Join(ctx, self, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Leave(ctx)

	locks, err := session.Lock(ctx, []crustertype.Shard{{Group: "default", Index: 7}})
	if err != nil {
		log.Fatal(err)
	}
	leases, err := store.TakeOver(ctx, storage.TakeOver{By: self.Incarnation, From: locks[0].From, Shards: []crustertype.Shard{locks[0].Shard}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(session.Members()), leases[0].Shard, leases[0].Epoch)
	// Output: 1 default/7 1
}
