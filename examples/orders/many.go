package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cruster-go/cruster"
)

// atATime is how many orders are under way together.
const atATime = 8

// many takes the orders order-1 to order-n, those that are confirmed left out.
// Orders that an earlier process has begun are resumed by the service, and
// Execute waits for them like for the others.
func many(ctx context.Context, out io.Writer, db *database, orders cruster.WorkflowClient[OrderRequest, OrderResult], n int) error {
	done, err := db.confirmed(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "taking %d of %d orders\n", n-len(done), n)
	next := make(chan string)
	errs := make([]error, atATime)
	var group sync.WaitGroup
	for i := range atATime {
		group.Go(func() {
			for id := range next {
				if _, err := orders.Execute(ctx, OrderRequest{OrderID: id, Item: "lamp", Count: 3, Amount: 9900}); err != nil {
					errs[i] = errors.Join(errs[i], fmt.Errorf("%s: %w", id, err))
				}
			}
		})
	}
	for i := range n {
		if id := fmt.Sprintf("order-%d", i+1); !done[id] {
			next <- id
		}
	}
	close(next)
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d orders are done\n", n)
	return nil
}
