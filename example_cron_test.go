package cruster_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/cruster-go/cruster"
)

// A cron runs at the ticks of a schedule, on one runner at a time.
func ExampleRegisterCron() {
	ctx := context.Background()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ticks := make(chan time.Time, 10)
	// docs:begin cron
	err = cruster.RegisterCron(svc, cruster.Cron{
		Name:            "cleanup",
		Schedule:        "* * * * * *", // every second: with six fields the first is the second
		SkipIfOlderThan: time.Hour,
		Run: func(ctx context.Context, tick time.Time) error {
			ticks <- tick // a tick is persisted: cruster.Tx(ctx) is there for effects
			return nil
		},
	})
	// docs:end cron
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)

	first, second := <-ticks, <-ticks
	fmt.Println("whole seconds:", first.Nanosecond() == 0 && second.Nanosecond() == 0, "in order:", second.After(first))
	// Output:
	// whole seconds: true in order: true
}
