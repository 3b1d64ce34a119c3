package main

import (
	"context"
	"errors"

	"github.com/cruster-go/cruster"
)

// TransferWorkflow moves an amount in steps: where another bank is involved, or
// a person has to agree, there would be more of them.
type TransferWorkflow struct {
	_ cruster.Workflow `cruster:"transfer,hash=false"`
	_ cruster.Activity `cruster:"Refuse"`

	accounts cruster.Client[*Account]
}

// Execute withdraws, then deposits.
func (w *TransferWorkflow) Execute(wf *cruster.WorkflowContext, t Transfer) (State, error) {
	err := cruster.CallErr(wf, w.accounts.Entity(accountID(t.From)), (*Account).Withdraw, t)
	if errors.Is(err, ErrFunds) {
		return Refused, cruster.DoErr(wf, (*TransferWorkflow).Refuse, t)
	}
	if err != nil {
		return New, err
	}
	return Done, cruster.CallErr(wf, w.accounts.Entity(accountID(t.To)), (*Account).Deposit, t)
}

// Refuse notes that there was not enough in the account.
func (w *TransferWorkflow) Refuse(ctx context.Context, t Transfer) error {
	return settle(ctx, cruster.Tx(ctx), t, Refused)
}
