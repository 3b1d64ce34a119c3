package cruster_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage/postgres"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
)

// Herald is an entity that lives on one of several runners.
type Herald struct {
	_ cruster.Entity `cruster:"herald"`
}

// Greet answers from wherever the entity is.
func (*Herald) Greet(ctx context.Context, name string) (string, error) {
	return fmt.Sprintf("hello %s, here is %s", name, cruster.EntityID(ctx)), nil
}

// A service with a transport is one of several that share the storage. There is
// no output to compare: it needs a database.
func Example_cluster() {
	ctx := context.Background()
	store, err := postgres.Open(ctx, os.Getenv("DATABASE_URL"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	// docs:begin cluster
	link, err := grpctransport.New(grpctransport.Options{
		Listen:    ":7000",
		Advertise: os.Getenv("POD_IP") + ":7000", // where the others reach this process
		Secrets:   []string{os.Getenv("CLUSTER_SECRET")},
		Insecure:  true, // no TLS: the network is trusted
	})
	if err != nil {
		log.Fatal(err)
	}
	svc, err := cruster.New(cruster.Config{Storage: store, Transport: link})
	// docs:end cluster
	if err != nil {
		log.Fatal(err)
	}
	heralds, err := cruster.Register(svc, &Herald{})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)
	fmt.Println(cruster.Call(ctx, heralds.Entity("g-1"), (*Herald).Greet, "you"))
}
