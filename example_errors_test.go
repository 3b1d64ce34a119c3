package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/cruster-go/cruster"
)

// ErrSoldOut is an error that callers tell apart, wherever the handler ran.
var ErrSoldOut = errors.New("sold out")

// BoxOffice sells tickets.
type BoxOffice struct {
	_ cruster.Entity `cruster:"box-office"`
	_ cruster.RPC    `cruster:"Sell,persisted,retries=5"`
}

type Purchase struct{ Seats int }

func (b *BoxOffice) Sell(ctx context.Context, p Purchase) (string, error) {
	if p.Seats > 10 {
		// Permanent: the five retries would change nothing.
		return "", cruster.Permanent(fmt.Errorf("%d seats for %s: %w", p.Seats, cruster.EntityID(ctx), ErrSoldOut))
	}
	return fmt.Sprintf("%d seats", p.Seats), nil
}

// A handler's error reaches the caller as text, and as itself when it was
// registered. Cruster's own conditions are told apart in the same way.
func ExampleRegisterError() {
	ctx := context.Background()
	if err := cruster.RegisterError("sold-out", ErrSoldOut); err != nil {
		log.Fatal(err)
	}
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		log.Fatal(err)
	}
	offices, err := cruster.Register(svc, &BoxOffice{})
	if err != nil {
		log.Fatal(err)
	}
	hamlet := offices.Entity("hamlet")

	_, err = cruster.Call(ctx, hamlet, (*BoxOffice).Sell, Purchase{Seats: 2})
	fmt.Println("not started:", errors.Is(err, cruster.ErrNotStarted), "retryable:", cruster.Retryable(err))

	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = cruster.Call(ctx, hamlet, (*BoxOffice).Sell, Purchase{Seats: 20})
	fmt.Println(err)
	fmt.Println("sold out:", errors.Is(err, ErrSoldOut), "retryable:", cruster.Retryable(err), "maybe executed:", cruster.MaybeExecuted(err))

	_, err = cruster.Call(ctx, hamlet, (*BoxOffice).Sell, Purchase{Seats: 2}, cruster.Key("ada"))
	fmt.Println(err)
	_, err = cruster.Call(ctx, hamlet, (*BoxOffice).Sell, Purchase{Seats: 3}, cruster.Key("ada"))
	fmt.Println("key conflict:", errors.Is(err, cruster.ErrKeyConflict))

	if err := svc.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = cruster.Call(ctx, hamlet, (*BoxOffice).Sell, Purchase{Seats: 2})
	fmt.Println("shutting down:", errors.Is(err, cruster.ErrShuttingDown))
	// Output:
	// not started: true retryable: true
	// 20 seats for hamlet: sold out
	// sold out: true retryable: false maybe executed: true
	// <nil>
	// key conflict: true
	// shutting down: true
}
