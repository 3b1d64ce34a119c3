package cruster_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/cruster-go/cruster"
)

// Bell rings when it is told to.
type Bell struct {
	_ cruster.Entity `cruster:"bell"`

	rung chan string
}

type Ring struct{ Text string }

func (b *Bell) Ring(ctx context.Context, r Ring) error {
	b.rung <- cruster.EntityID(ctx) + ": " + r.Text
	return nil
}

// A request with a time is stored, whatever its method's own delivery is, and
// delivered when it is due, by whichever runner is up then.
func ExampleAfter() {
	ctx := context.Background()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		log.Fatal(err)
	}
	rung := make(chan string)
	bells, err := cruster.Register(svc, &Bell{rung: rung})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)

	door := bells.Entity("door")
	// docs:begin schedule
	err = cruster.NotifyErr(ctx, door, (*Bell).Ring, Ring{"later"}, cruster.After(500*time.Millisecond))
	if err == nil {
		err = cruster.NotifyErr(ctx, door, (*Bell).Ring, Ring{"soon"}, cruster.At(time.Now().Add(20*time.Millisecond)))
	}
	if err == nil {
		err = cruster.NotifyErr(ctx, door, (*Bell).Ring, Ring{"at once"})
	}
	// docs:end schedule
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		fmt.Println(<-rung)
	}
	// Output:
	// door: at once
	// door: soon
	// door: later
}
