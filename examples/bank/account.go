package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/cruster-go/cruster"
)

// ErrFunds refuses a transfer because there is not enough in the account.
var ErrFunds = errors.New("insufficient funds")

func init() {
	if err := cruster.RegisterError("insufficient-funds", ErrFunds); err != nil {
		panic(err)
	}
}

// Transfer moves an amount from one account to another.
type Transfer struct {
	ID       string `json:"id"`
	From, To int64
	Amount   int64
}

// CrusterKey makes all workflows of one transfer the same execution.
func (t Transfer) CrusterKey() string { return t.ID }

// State says how far a transfer has come.
type State string

// The states of a transfer. Refused, Debited and Done do not change what was
// decided: what is debited will be done.
const (
	New     State = "new"     // noted, and perhaps not even begun
	Refused State = "refused" // by the business
	Debited State = "debited" // the target's share is on its way
	Done    State = "done"
)

// Account is one account per ID, which is its number. Each handler writes what
// it does through cruster.Tx, together with a line in the log of executions.
type Account struct {
	_ cruster.Entity `cruster:"account"`
	_ cruster.RPC    `cruster:"Transfer,persisted"`
	_ cruster.RPC    `cruster:"Withdraw,persisted"`
	_ cruster.RPC    `cruster:"Deposit,persisted"`

	db       *database
	accounts cruster.Client[*Account]
	runner   string
	think    time.Duration
	stubborn bool
}

// Transfer takes the amount out of this account and sends it to the target.
// All of it is one commit: the amount is gone if and only if it is on its way.
func (a *Account) Transfer(ctx context.Context, t Transfer) (State, error) {
	state := Debited
	err := a.execute(ctx, func(ctx context.Context, tx cruster.SQL) error {
		err := take(ctx, tx, t)
		if errors.Is(err, ErrFunds) {
			state = Refused
			return settle(ctx, tx, t, Refused)
		}
		if err != nil {
			return err
		}
		if err := settle(ctx, tx, t, Debited); err != nil {
			return err
		}
		return cruster.NotifyErr(ctx, a.accounts.Entity(accountID(t.To)), (*Account).Deposit, t, cruster.Key(t.ID))
	})
	return state, err
}

// Withdraw takes the amount out of this account. The error ErrFunds is its
// outcome then, and undoes what the handler has written.
func (a *Account) Withdraw(ctx context.Context, t Transfer) error {
	return a.execute(ctx, func(ctx context.Context, tx cruster.SQL) error {
		if err := take(ctx, tx, t); err != nil {
			return err
		}
		return settle(ctx, tx, t, Debited)
	})
}

// Deposit puts the amount into this account.
func (a *Account) Deposit(ctx context.Context, t Transfer) error {
	return a.execute(ctx, func(ctx context.Context, tx cruster.SQL) error {
		if _, err := tx.Exec(ctx, `UPDATE bank_account SET balance = balance + $2 WHERE id = $1`, t.To, t.Amount); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO bank_entry (transfer, account, amount) VALUES ($1, $2, $3)`, t.ID, t.To, t.Amount); err != nil {
			return err
		}
		return settle(ctx, tx, t, Done)
	})
}

// Balance is what is in an account, and who said so.
type Balance struct {
	Account int64  `json:"account"`
	Balance int64  `json:"balance"`
	Runner  string `json:"runner"`
}

// Balance is a best-effort method: it changes nothing, so nothing is stored.
func (a *Account) Balance(ctx context.Context, _ struct{}) (Balance, error) {
	b := Balance{Runner: a.runner}
	err := a.db.sql.QueryRowContext(ctx, `SELECT id, balance FROM bank_account WHERE id = $1`, accountNumber(ctx)).Scan(&b.Account, &b.Balance)
	return b, err
}

// execute runs f and logs the execution: whose epoch it was, and from when to
// when it ran. Committed executions of one account must not overlap.
func (a *Account) execute(ctx context.Context, f func(ctx context.Context, tx cruster.SQL) error) error {
	if a.stubborn {
		ctx = context.WithoutCancel(ctx)
	}
	tx := cruster.Tx(ctx)
	var began int64
	if err := tx.QueryRow(ctx, `SELECT `+a.db.clock).Scan(&began); err != nil {
		return err
	}
	if a.think > 0 {
		select {
		case <-time.After(a.think):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := f(ctx, tx); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO bank_execution (account, epoch, began, ended, request, runner) VALUES ($1, $2, $3, `+a.db.clock+`, $4, $5)`,
		accountNumber(ctx), cruster.FenceToken(ctx), began, cruster.RequestID(ctx).String(), a.runner)
	return err
}

// take books the amount out of the source.
func take(ctx context.Context, tx cruster.SQL, t Transfer) error {
	n, err := tx.Exec(ctx, `UPDATE bank_account SET balance = balance - $2 WHERE id = $1 AND balance >= $2`, t.From, t.Amount)
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrFunds
	}
	_, err = tx.Exec(ctx, `INSERT INTO bank_entry (transfer, account, amount) VALUES ($1, $2, $3)`, t.ID, t.From, -t.Amount)
	return err
}

// settle notes what has become of a transfer.
func settle(ctx context.Context, tx cruster.SQL, t Transfer, s State) error {
	_, err := tx.Exec(ctx, `UPDATE bank_transfer SET state = $2 WHERE id = $1`, t.ID, string(s))
	return err
}

func accountID(n int64) string { return strconv.FormatInt(n, 10) }

// accountNumber is that of the account whose handler ctx belongs to.
func accountNumber(ctx context.Context) int64 {
	n, _ := strconv.ParseInt(cruster.EntityID(ctx), 10, 64) // 0 is no account's
	return n
}
