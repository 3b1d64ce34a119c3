package main

import (
	"context"
	"time"

	"github.com/cruster-go/cruster"
)

// docs:begin workflow

// OrderWorkflow takes an order through reservation, payment and shipping. Each
// activity writes to the shop's tables in the transaction that also journals
// it, so its effect and the memory of it cannot come apart.
type OrderWorkflow struct {
	_         cruster.Workflow `cruster:"order"`
	_         cruster.Activity `cruster:"Charge,retries=3,timeout=10s"`
	Inventory                  // an activity group: an embedded struct with markers of its own

	warehouse cruster.Client[*Warehouse]
	stage     *Stage
}

// OrderRequest is what a customer orders.
type OrderRequest struct {
	OrderID string
	Item    string
	Count   int
	Amount  int64
}

// CrusterKey makes all starts with one order ID the same execution.
func (r OrderRequest) CrusterKey() string { return r.OrderID }

// OrderResult is what became of an order.
type OrderResult struct {
	OrderID     string
	Reservation string
	Payment     string
	Parcel      int64
}

// Execute must be deterministic: everything that touches the world is a step.
func (w *OrderWorkflow) Execute(wf *cruster.WorkflowContext, req OrderRequest) (OrderResult, error) {
	res := OrderResult{OrderID: req.OrderID}
	var err error
	if res.Reservation, err = cruster.Do(wf, (*OrderWorkflow).Reserve, Reservation{req.OrderID, req.Item, req.Count}); err != nil {
		return res, err
	}
	w.stage.reached("reserve")
	wf.OnFailure(func(wf *cruster.WorkflowContext) error {
		return cruster.DoErr(wf, (*OrderWorkflow).Release, Reservation{req.OrderID, req.Item, req.Count})
	})
	if err = cruster.Sleep(wf, 50*time.Millisecond); err != nil { // durable: time to change one's mind
		return res, err
	}
	w.stage.reached("sleep")
	if res.Payment, err = cruster.Do(wf, (*OrderWorkflow).Charge, Charge{req.OrderID, req.Amount}); err != nil {
		return res, err
	}
	w.stage.reached("charge")
	if res.Parcel, err = cruster.Call(wf, w.warehouse.Entity("north"), (*Warehouse).Pack, Parcel{req.OrderID, req.Item, req.Count}); err != nil {
		return res, err
	}
	w.stage.reached("pack")
	if err = cruster.DoErr(wf, (*OrderWorkflow).Confirm, Confirmation{req.OrderID, res.Payment}); err != nil {
		return res, err
	}
	w.stage.reached("confirm")
	return res, nil
}

// Charge is what is to be paid for an order.
type Charge struct {
	OrderID string
	Amount  int64
}

// Charge takes the money.
func (w *OrderWorkflow) Charge(ctx context.Context, in Charge) (string, error) {
	w.stage.running("charge")
	payment := "pay-" + in.OrderID
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO payments (id, order_id, amount) VALUES ($1, $2, $3)`, payment, in.OrderID, in.Amount)
	w.stage.wrote("charge")
	return payment, err
}

// Confirmation closes an order.
type Confirmation struct{ OrderID, Payment string }

// Confirm tells the customer.
func (w *OrderWorkflow) Confirm(ctx context.Context, in Confirmation) error {
	w.stage.running("confirm")
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO confirmations (order_id, payment) VALUES ($1, $2)`, in.OrderID, in.Payment)
	w.stage.wrote("confirm")
	return err
}

// docs:end workflow

// docs:begin groups

// Inventory is an activity group: any workflow that embeds it has its
// activities.
type Inventory struct {
	_ cruster.Activity `cruster:"Reserve,retries=2"`
	_ cruster.Activity `cruster:"Release,retries=10"`

	stage *Stage
}

// Reservation is a number of items that are set aside for an order.
type Reservation struct {
	OrderID string
	Item    string
	Count   int
}

// Reserve sets items aside.
func (i *Inventory) Reserve(ctx context.Context, r Reservation) (string, error) {
	i.stage.running("reserve")
	id := "res-" + r.OrderID
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO reservations (id, order_id, item, count) VALUES ($1, $2, $3, $4)`, id, r.OrderID, r.Item, r.Count)
	i.stage.wrote("reserve")
	return id, err
}

// Release puts them back.
func (i *Inventory) Release(ctx context.Context, r Reservation) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `DELETE FROM reservations WHERE order_id = $1`, r.OrderID)
	return err
}

// Audited is an RPC group: any entity that embeds it has its methods.
type Audited struct {
	_ cruster.RPC `cruster:"Note,persisted"`
}

// Remark is a line in the audit log.
type Remark struct{ Text string }

// Note writes to the audit log.
func (a *Audited) Note(ctx context.Context, r Remark) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO audit (entity, text) VALUES ($1, $2)`, cruster.Address(ctx).String(), r.Text)
	return err
}

// docs:end groups

// docs:begin entity

// Warehouse packs parcels, one at a time.
type Warehouse struct {
	_ cruster.Entity `cruster:"warehouse"`
	_ cruster.RPC    `cruster:"Pack,persisted"`
	Audited

	stage *Stage
}

// Parcel is what is to be packed for an order.
type Parcel struct {
	OrderID string
	Item    string
	Count   int
}

// Pack packs a parcel and returns its number.
func (w *Warehouse) Pack(ctx context.Context, p Parcel) (number int64, err error) {
	w.stage.running("pack")
	err = cruster.Tx(ctx).QueryRow(ctx, `INSERT INTO parcels (order_id, item, count) VALUES ($1, $2, $3) RETURNING number`,
		p.OrderID, p.Item, p.Count).Scan(&number)
	w.stage.wrote("pack")
	return number, err
}

// docs:end entity
