package main

import (
	"context"
	"fmt"

	"github.com/cruster-go/cruster/crustertype"
)

// result is what verify has found.
type result struct {
	Accounts   int64   `json:"accounts"`
	Transfers  int64   `json:"transfers"`
	Done       int64   `json:"done"`
	Refused    int64   `json:"refused"`
	Executions int64   `json:"executions"`
	Backlog    int64   `json:"backlog"`
	Faults     []fault `json:"faults"`
}

// fault is one broken invariant.
type fault struct {
	Invariant string   `json:"invariant"`
	Count     int64    `json:"count"`
	Examples  []string `json:"examples"`
}

// An invariant is a query for what breaks it: one text a row.
var invariants = []struct{ name, query string }{
	{"the sum of all balances, and of what is on its way, is that of the opening balances",
		`SELECT 'the sum is ' || sum(balance) || ' and ' || coming || ' on its way, it was ' || sum(opening) FROM bank_account,
			(SELECT coalesce(sum(amount), 0) AS coming FROM bank_transfer WHERE state = 'debited') t
		GROUP BY coming HAVING sum(balance) + coming <> sum(opening)`},
	{"a balance is what the entries say, and not negative",
		`SELECT 'account ' || a.id || ' has ' || a.balance || ', its entries say ' || (a.opening + coalesce(e.sum, 0)) FROM bank_account a
		LEFT JOIN (SELECT account, sum(amount) AS sum FROM bank_entry GROUP BY account) e ON e.account = a.id
		WHERE a.balance <> a.opening + coalesce(e.sum, 0) OR a.balance < 0`},
	{"a transfer that is done has exactly two entries, the right ones",
		`SELECT 'transfer ' || t.id || ' has ' || coalesce(e.n, 0) || ' entries, ' || coalesce(e.good, 0) || ' of them right' FROM bank_transfer t
		LEFT JOIN (SELECT t.id, count(*) AS n, count(DISTINCT CASE WHEN account = source AND e.amount = -t.amount THEN 1
			WHEN account = target AND e.amount = t.amount THEN 2 END) AS good
			FROM bank_entry e JOIN bank_transfer t ON t.id = e.transfer GROUP BY t.id) e ON e.id = t.id
		WHERE t.state = 'done' AND (coalesce(e.n, 0) <> 2 OR coalesce(e.good, 0) <> 2)`},
	{"no transfer is half done", `SELECT 'transfer ' || id FROM bank_transfer WHERE state = 'debited'`},
	{"a transfer that is refused, or was not begun, has no entries",
		`SELECT DISTINCT 'transfer ' || t.id || ' is ' || t.state FROM bank_transfer t JOIN bank_entry e ON e.transfer = t.id WHERE t.state IN ('refused', 'new')`},
	{"every entry belongs to a transfer",
		`SELECT DISTINCT 'transfer ' || e.transfer FROM bank_entry e LEFT JOIN bank_transfer t ON t.id = e.transfer WHERE t.id IS NULL`},
	{"committed executions of one account do not overlap",
		`SELECT 'account ' || account || ': ' || request || ' by ' || runner || ' in epoch ' || epoch || ' began ' || (latest - began) || 'us before an earlier one had ended'
		FROM (SELECT x.*, max(ended) OVER earlier AS latest FROM bank_execution x
			WINDOW earlier AS (PARTITION BY account ORDER BY began, ended ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) y
		WHERE began < latest`},
	{"the epochs of one account only grow",
		`SELECT 'account ' || account || ': ' || request || ' by ' || runner || ' ran in epoch ' || epoch || ' after epoch ' || highest
		FROM (SELECT x.*, max(epoch) OVER earlier AS highest FROM bank_execution x
			WINDOW earlier AS (PARTITION BY account ORDER BY began, ended ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) y
		WHERE epoch < highest`},
	{"no request is executed twice",
		`SELECT 'request ' || request || ' ran ' || count(*) || ' times, by ' || min(runner) || ' and ' || max(runner) || ' in epochs ' || min(epoch) || ' and ' || max(epoch)
			|| ', ' || (max(began) - min(ended)) || 'us apart, the first one ended at ' || min(ended) FROM bank_execution GROUP BY request HAVING count(*) > 1`},
}

// verify looks for broken invariants.
func (d *database) verify(ctx context.Context) (r result, err error) {
	err = d.sql.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM bank_account), (SELECT count(*) FROM bank_execution), count(*),
		count(CASE WHEN state = 'done' THEN 1 END), count(CASE WHEN state = 'refused' THEN 1 END) FROM bank_transfer`).
		Scan(&r.Accounts, &r.Executions, &r.Transfers, &r.Done, &r.Refused)
	if err != nil {
		return r, err
	}
	r.Faults = []fault{}
	for _, i := range invariants {
		f := fault{Invariant: i.name}
		if err := d.sql.QueryRowContext(ctx, `SELECT count(*) FROM (`+i.query+`) broken`).Scan(&f.Count); err != nil {
			return r, fmt.Errorf("%s: %w", i.name, err)
		}
		if f.Count == 0 {
			continue
		}
		if f.Examples, err = d.texts(ctx, i.query+` LIMIT 5`); err != nil {
			return r, fmt.Errorf("%s: %w", i.name, err)
		}
		r.Faults = append(r.Faults, f)
	}
	b, err := d.backlog(ctx)
	if err != nil {
		return r, err
	}
	r.Backlog = b.waiting + b.stuck
	if r.Backlog > 0 {
		r.Faults = append(r.Faults, fault{"nothing is left to do", r.Backlog, []string{
			fmt.Sprintf("%d requests and executions are not finished", b.waiting),
			fmt.Sprintf("%d are dead or parked", b.stuck),
		}})
	}
	return r, nil
}

func (d *database) texts(ctx context.Context, query string) (list []string, err error) {
	rows, err := d.sql.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// unfinished is what cruster still has to do.
type unfinished struct {
	waiting int64 // it goes on by itself
	stuck   int64 // a person has to look
}

func (d *database) backlog(ctx context.Context) (b unfinished, err error) {
	counts, err := d.store.Counts(ctx)
	if err != nil {
		return b, err
	}
	for _, states := range counts.Messages {
		b.waiting += states[crustertype.MessagePending]
		b.stuck += states[crustertype.MessageDead]
	}
	for _, states := range counts.Executions {
		for status, n := range states {
			switch status {
			case crustertype.StatusRunning, crustertype.StatusSuspended:
				b.waiting += n
			default:
				b.stuck += n
			}
		}
	}
	return b, nil
}
