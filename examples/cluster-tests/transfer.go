package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// SqlActivityTest shows what the transfers of one account have come to.
type SqlActivityTest struct {
	_ cruster.Entity `cruster:"SqlActivityTest,idle=5s"`

	db *pgxpool.Pool
}

// SqlState is an account.
type SqlState struct {
	AccountID        string `json:"account_id"`
	TransferCount    int64  `json:"transfer_count"`
	TotalTransferred int64  `json:"total_transferred"`
}

// GetState returns the account, with zeros when it is new.
func (a *SqlActivityTest) GetState(ctx context.Context, _ struct{}) (SqlState, error) {
	found, err := rowsOf(ctx, a.db, pgx.RowToStructByPos[SqlState], `SELECT id, transfers, total
		FROM cluster_tests.accounts WHERE id = $1`, cruster.EntityID(ctx))
	if err != nil || len(found) == 0 {
		return SqlState{AccountID: cruster.EntityID(ctx)}, err
	}
	return found[0], nil
}

// Transfer is an amount that goes from one account to another.
type Transfer struct {
	From, To string
	Amount   int64
}

// SqlTransferWorkflow makes a transfer: two tables change, or neither.
type SqlTransferWorkflow struct {
	_ cruster.Workflow `cruster:"SqlTransferWorkflow"`
}

// DoTransfer writes both tables and returns the new number of transfers.
func (*SqlTransferWorkflow) DoTransfer(ctx context.Context, t Transfer) (int64, error) {
	return writeTransfer(ctx, t)
}

// Execute makes the transfer. It has no key: equal transfers are two.
func (*SqlTransferWorkflow) Execute(wf *cruster.WorkflowContext, t Transfer) (int64, error) {
	return cruster.Do(wf, (*SqlTransferWorkflow).DoTransfer, t)
}

func writeTransfer(ctx context.Context, t Transfer) (count int64, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, `INSERT INTO cluster_tests.accounts AS a (id, transfers, total) VALUES ($1, 1, $2)
		ON CONFLICT (id) DO UPDATE SET transfers = a.transfers + 1, total = a.total + excluded.total RETURNING transfers`,
		t.From, t.Amount).Scan(&count)
	if err != nil {
		return 0, err
	}
	_, err = cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.transfers (account, target, amount) VALUES ($1, $2, $3)`, t.From, t.To, t.Amount)
	return count, err
}

// SqlFailingTransferWorkflow makes the same writes and fails: they are undone.
type SqlFailingTransferWorkflow struct {
	_ cruster.Workflow `cruster:"SqlFailingTransferWorkflow"`
}

// DoFailingTransfer writes both tables and fails.
func (*SqlFailingTransferWorkflow) DoFailingTransfer(ctx context.Context, t Transfer) (int64, error) {
	if _, err := writeTransfer(ctx, t); err != nil {
		return 0, err
	}
	return 0, errors.New("intentional failure for testing rollback")
}

// Execute fails.
func (*SqlFailingTransferWorkflow) Execute(wf *cruster.WorkflowContext, t Transfer) (int64, error) {
	return cruster.Do(wf, (*SqlFailingTransferWorkflow).DoFailingTransfer, t)
}

// SqlCountWorkflow counts the transfers of an account.
type SqlCountWorkflow struct {
	_ cruster.Workflow `cruster:"SqlCountWorkflow"`
}

// DoGetTransferCount counts.
func (*SqlCountWorkflow) DoGetTransferCount(ctx context.Context, account string) (n int64, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, `SELECT count(*) FROM cluster_tests.transfers WHERE account = $1`, account).Scan(&n)
	return n, err
}

// Execute counts.
func (*SqlCountWorkflow) Execute(wf *cruster.WorkflowContext, account string) (int64, error) {
	return cruster.Do(wf, (*SqlCountWorkflow).DoGetTransferCount, account)
}
