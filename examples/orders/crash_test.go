package main

import (
	"context"
	"io"
	"testing"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// docs:begin crash

// TestCrashEverywhere kills the process at every commit of the workflow in
// turn, before and after it, in virtual time.
func TestCrashEverywhere(t *testing.T) {
	t.Parallel()
	var orders cruster.WorkflowClient[OrderRequest, OrderResult]
	crustertest.CrashEverywhere(t, crustertest.Scenario{
		Options: crustertest.Options{
			Storage: shop,
			Setup: func(svc *cruster.Service) error {
				stage := &Stage{out: io.Discard}
				warehouse, err := cruster.Register(svc, &Warehouse{stage: stage})
				if err != nil {
					return err
				}
				orders, err = cruster.RegisterWorkflow(svc, &OrderWorkflow{Inventory: Inventory{stage: stage}, warehouse: warehouse, stage: stage})
				return err
			},
		},
		Run: func(ctx context.Context) error {
			_, err := orders.Execute(ctx, OrderRequest{OrderID: "order-1", Item: "lamp", Count: 3, Amount: 9900})
			return err
		},
		Check: func(t *testing.T, c *crustertest.Cluster) {
			var n int
			err := c.Storage().(*sqlite.Store).DB().QueryRowContext(t.Context(), `SELECT count(*) FROM payments`).Scan(&n)
			if err != nil || n != 1 {
				t.Errorf("%d payments, %v: want exactly one", n, err)
			}
		},
	})
}

// docs:end crash

// shop is an empty database with the shop's tables.
func shop() (storage.Store, error) {
	store, err := sqlite.OpenMemory()
	if err != nil {
		return nil, err
	}
	ctx := context.Background() // the test's own context belongs to the world outside of the bubble
	return store, sqlite.InTx(ctx, store, func(ctx context.Context, tx *sqlite.Transaction) error {
		_, err := tx.ExecContext(ctx, schema)
		return err
	})
}
