package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// ActivityGroupTest shows the steps that were recorded for one order.
type ActivityGroupTest struct {
	_ cruster.Entity `cruster:"ActivityGroupTest,idle=5s"`

	db *pgxpool.Pool
}

// OrderStep is one of them.
type OrderStep struct {
	Step      string `json:"step"`
	Detail    string `json:"detail"`
	CreatedAt Time   `json:"created_at"`
}

// GetOrderSteps returns the steps in the order in which they were recorded.
func (a *ActivityGroupTest) GetOrderSteps(ctx context.Context, _ struct{}) ([]OrderStep, error) {
	return rowsOf(ctx, a.db, pgx.RowToStructByPos[OrderStep], `SELECT step, detail, at
		FROM cluster_tests.order_steps WHERE order_id = $1 ORDER BY num`, cruster.EntityID(ctx))
}

// recordStep writes a step of an order and returns its detail.
func recordStep(ctx context.Context, order, step, detail string) (string, error) {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.order_steps (order_id, step, detail) VALUES ($1, $2, $3)
		ON CONFLICT (order_id, step) DO UPDATE SET detail = excluded.detail`, order, step, detail)
	return detail, err
}

// Inventory is an activity group: any workflow that embeds it has its
// activities.
type Inventory struct{ _ cruster.Activity }

// Reservation asks for items.
type Reservation struct {
	OrderID   string
	ItemCount int32
}

// Confirmation names a reservation.
type Confirmation struct{ OrderID, Reservation string }

// ReserveItems sets items aside.
func (*Inventory) ReserveItems(ctx context.Context, r Reservation) (string, error) {
	return recordStep(ctx, r.OrderID, "reserve", fmt.Sprintf("res-%s-%d", r.OrderID, r.ItemCount))
}

// ConfirmReservation makes a reservation final.
func (*Inventory) ConfirmReservation(ctx context.Context, c Confirmation) (string, error) {
	return recordStep(ctx, c.OrderID, "confirm", "confirmed-"+c.Reservation)
}

// Payments is another activity group.
type Payments struct{ _ cruster.Activity }

// Charge asks for money.
type Charge struct {
	OrderID string
	Amount  int64
}

// ChargePayment takes the money.
func (*Payments) ChargePayment(ctx context.Context, c Charge) (string, error) {
	return recordStep(ctx, c.OrderID, "charge", fmt.Sprintf("tx-%s-%d", c.OrderID, c.Amount))
}

// OrderWorkflow has the activities of two groups, and one of its own.
type OrderWorkflow struct {
	_ cruster.Workflow `cruster:"OrderWorkflow,hash=false"`
	Inventory
	Payments
}

// Order is what a customer orders.
type Order struct {
	ID        string
	ItemCount int32
	Amount    int64
}

// CrusterKey makes all starts with one order ID the same execution.
func (o Order) CrusterKey() string { return o.ID }

// OrderResult is what became of an order.
type OrderResult struct {
	OrderID       string `json:"order_id"`
	ReservationID string `json:"reservation_id"`
	TransactionID string `json:"transaction_id"`
	Confirmation  string `json:"confirmation"`
	Summary       string `json:"summary"`
}

// Summarize describes an order.
func (*OrderWorkflow) Summarize(ctx context.Context, r OrderResult) (string, error) {
	return recordStep(ctx, r.OrderID, "summary", fmt.Sprintf("order=%s,res=%s,tx=%s", r.OrderID, r.ReservationID, r.TransactionID))
}

// Execute takes the order through its steps.
func (*OrderWorkflow) Execute(wf *cruster.WorkflowContext, o Order) (OrderResult, error) {
	res := OrderResult{OrderID: o.ID}
	var err error
	if res.ReservationID, err = cruster.Do(wf, (*OrderWorkflow).ReserveItems, Reservation{o.ID, o.ItemCount}); err != nil {
		return res, err
	}
	if res.TransactionID, err = cruster.Do(wf, (*OrderWorkflow).ChargePayment, Charge{o.ID, o.Amount}); err != nil {
		return res, err
	}
	if res.Confirmation, err = cruster.Do(wf, (*OrderWorkflow).ConfirmReservation, Confirmation{o.ID, res.ReservationID}); err != nil {
		return res, err
	}
	res.Summary, err = cruster.Do(wf, (*OrderWorkflow).Summarize, res)
	return res, err
}
