// Command firstcall starts a service on memory storage, makes one call and
// ends: what is measured of it is how long that takes.
package main

import (
	"context"
	"log"

	"github.com/cruster-go/cruster"
)

// Number is the smallest entity.
type Number struct {
	_ cruster.Entity `cruster:"number"`
}

// Add is its request.
type Add struct{ N int64 }

// Get is its method.
func (n *Number) Get(_ context.Context, a Add) (int64, error) { return a.N + 1, nil }

func run(ctx context.Context) error {
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		return err
	}
	numbers, err := cruster.Register(svc, &Number{})
	if err != nil {
		return err
	}
	if err := svc.Start(ctx); err != nil {
		return err
	}
	if _, err := cruster.Call(ctx, numbers.Entity("1"), (*Number).Get, Add{N: 1}); err != nil {
		return err
	}
	return svc.Shutdown(ctx)
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
