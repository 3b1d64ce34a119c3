package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/cruster-go/cruster"
)

// A singleton is started again when it fails, and asked to stop when the
// service shuts down.
func ExampleRegisterSingleton() {
	ctx := context.Background()
	svc, err := cruster.New(cruster.Config{SingletonBackoff: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	starts, working := 0, make(chan struct{})
	// docs:begin singleton
	err = cruster.RegisterSingleton(svc, cruster.Singleton{Name: "sweeper", Run: func(ctx cruster.SingletonContext) error {
		if starts++; starts == 1 {
			return errors.New("no broom")
		}
		fmt.Println("sweeping, start", starts)
		stop := ctx.Cancellation() // asked for: the task stops in its own time
		close(working)
		<-stop
		fmt.Println("broom put away")
		return nil
	}})
	// docs:end singleton
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	<-working
	fmt.Println("shutdown:", svc.Shutdown(ctx))
	// Output:
	// sweeping, start 2
	// broom put away
	// shutdown: <nil>
}
