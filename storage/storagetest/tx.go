package storagetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

func (k *kit) begin() storage.Tx {
	k.Helper()
	tx, err := k.s.Begin(k.ctx)
	k.must("Begin", err)
	return tx
}

func txRules() []Rule {
	return []Rule{
		rule("TxCommitAppliesTheUnit", "Tx.Commit applies the unit and returns its result", func(k *kit) {
			units := k.everyMutation()
			old := k.message()
			k.commit(accepts(old))
			for _, u := range units {
				res, err := k.begin().Commit(k.ctx, u)
				k.must("Tx.Commit", err)
				if res.Accepts != nil || res.Starts != nil {
					k.Errorf("result of new items = %+v, want nil fields", res)
				}
			}
			before := k.dump()
			k.commit(units...)
			if after := k.dump(); after != before {
				k.Errorf("Commit of units that Tx.Commit had applied changed the store:\n%s", lineDiff(before, after))
			}
			res, err := k.begin().Commit(k.ctx, accepts(old))
			k.must("Tx.Commit", err)
			k.wantExisting(res.Accepts, 1, 0, old)
		}),
		rule("TxRollbackUndoes", "Rollback is idempotent; Commit after it is ErrTxDone and writes nothing", func(k *kit) {
			tx, m := k.begin(), k.message()
			for range 3 {
				k.must("Rollback", tx.Rollback(k.ctx))
			}
			if _, err := tx.Commit(k.ctx, accepts(m)); !errors.Is(err, storage.ErrTxDone) {
				k.Errorf("Commit after Rollback = %v, want ErrTxDone", err)
			}
			k.noMessage(m.ID)
		}),
		rule("TxEndsOnce", "Rollback does nothing after Commit; a second Commit is ErrTxDone", func(k *kit) {
			tx, m, late := k.begin(), k.message(), k.message()
			_, err := tx.Commit(k.ctx, accepts(m))
			k.must("Tx.Commit", err)
			k.must("Rollback after Commit", tx.Rollback(k.ctx))
			if _, err := tx.Commit(k.ctx, accepts(late)); !errors.Is(err, storage.ErrTxDone) {
				k.Errorf("second Commit = %v, want ErrTxDone", err)
			}
			k.wantMessage(m)
			k.noMessage(late.ID)
			if _, err := tx.Exec(k.ctx, "SELECT 1"); !errors.Is(err, storage.ErrTxDone) && !errors.Is(err, storage.ErrNoSQL) {
				k.Errorf("Exec after Commit = %v, want ErrTxDone", err)
			}
		}),
		rule("RefusedTxIsOver", "after any error of Commit the transaction is over and nothing was written", func(k *kit) {
			l := k.own(home)
			k.takeOver(storage.TakeOver{By: k.register(), From: l[0].Owner, Shards: []crustertype.Shard{home}}, 1)
			m := k.message()
			tx := k.begin()
			_, err := tx.Commit(k.ctx, storage.Unit{Leases: l, Accepts: []crustertype.Message{m}})
			k.wantFenced(err, home)
			if _, err := tx.Commit(k.ctx, accepts(m)); !errors.Is(err, storage.ErrTxDone) {
				k.Errorf("Commit after a fenced Commit = %v, want ErrTxDone", err)
			}
			tx = k.begin()
			_, err = tx.Commit(k.ctx, storage.Unit{Accepts: []crustertype.Message{m}, Steps: []storage.StepWrite{write(k.execution(), step(0, "a"))}})
			k.wantUnitError(err, 0, storage.ErrNotFound)
			if _, err := tx.Commit(k.ctx, accepts(m)); !errors.Is(err, storage.ErrTxDone) {
				k.Errorf("Commit after a refused Commit = %v, want ErrTxDone", err)
			}
			k.must("Rollback after a refused Commit", tx.Rollback(k.ctx))
			k.noMessage(m.ID)
			k.commit(accepts(m))
		}),
		rule("TxWithoutSQLSaysSo", "a store without SQL returns ErrNoSQL from the SQL methods; Commit works", func(k *kit) {
			tx, m := k.begin(), k.message()
			_, err := tx.Exec(k.ctx, "SELECT 1")
			_, err2 := tx.Query(k.ctx, "SELECT 1")
			err3 := tx.QueryRow(k.ctx, "SELECT 1").Scan(new(int))
			for what, err := range map[string]error{"Exec": err, "Query": err2, "QueryRow.Scan": err3} {
				if !errors.Is(err, storage.ErrNoSQL) || !strings.Contains(fmt.Sprint(err), "sqlite.OpenMemory()") {
					k.Errorf("%s = %v, want ErrNoSQL with the way out, sqlite.OpenMemory()", what, err)
				}
			}
			_, err = tx.Commit(k.ctx, accepts(m))
			k.must("Tx.Commit", err)
			k.wantMessage(m)
		}).when(lacksSQL),
	}
}

// createTable makes the table of the rules about SQL.
func (k *kit) createTable() {
	k.Helper()
	tx := k.begin()
	k.exec(tx, k.h.CreateTable)
	_, err := tx.Commit(k.ctx, storage.Unit{})
	k.must("Tx.Commit of CREATE TABLE", err)
}

func (k *kit) exec(tx storage.Tx, query string, args ...any) int64 {
	k.Helper()
	n, err := tx.Exec(k.ctx, query, args...)
	k.must("Exec of "+query, err)
	return n
}

// wantRows compares the table's rows as "id=n", by id.
func (k *kit) wantRows(want ...string) {
	k.Helper()
	tx := k.begin()
	defer func() { k.must("Rollback", tx.Rollback(k.ctx)) }()
	if d := diff(want, k.rows(tx)); d != "" {
		k.Errorf("the user's rows differ:\n%s", d)
	}
}

func (k *kit) rows(tx storage.Tx) []string {
	k.Helper()
	rows, err := tx.Query(k.ctx, "SELECT id, n FROM "+k.h.Table+" ORDER BY id")
	k.must("Query", err)
	var got []string
	for rows.Next() {
		var id string
		var n int64
		k.must("Scan", rows.Scan(&id, &n))
		got = append(got, fmt.Sprintf("%s=%d", id, n))
	}
	k.must("Rows.Err", rows.Err())
	for range 2 {
		k.must("Rows.Close", rows.Close())
	}
	return got
}

func sqlRules() []Rule {
	insert := func(h Harness) string { return "INSERT INTO " + h.Table + " (id, n) VALUES ($1, $2)" }
	rules := []Rule{
		rule("SQLCommitsWithTheUnit", "user code and the engine write together: the user's rows and the unit commit together", func(k *kit) {
			k.createTable()
			l, m := k.own(home), k.message()
			tx := k.begin()
			if n := k.exec(tx, insert(k.h), "a", 1); n != 1 {
				k.Errorf("Exec of an INSERT of one row returned %d rows", n)
			}
			k.exec(tx, insert(k.h), "b", int64(1)<<40)
			_, err := tx.Commit(k.ctx, storage.Unit{Leases: l, Accepts: []crustertype.Message{m}})
			k.must("Tx.Commit", err)
			k.wantMessage(m)
			k.wantRows("a=1", fmt.Sprint("b=", int64(1)<<40))
		}),
		rule("SQLRollsBack", "Rollback undoes everything", func(k *kit) {
			k.createTable()
			tx := k.begin()
			k.exec(tx, insert(k.h), "a", 1)
			k.must("Rollback", tx.Rollback(k.ctx))
			k.wantRows()
			if _, err := tx.Exec(k.ctx, insert(k.h), "b", 1); !errors.Is(err, storage.ErrTxDone) {
				k.Errorf("Exec after Rollback = %v, want ErrTxDone", err)
			}
			if _, err := tx.Query(k.ctx, "SELECT 1"); !errors.Is(err, storage.ErrTxDone) {
				k.Errorf("Query after Rollback = %v, want ErrTxDone", err)
			}
			if err := tx.QueryRow(k.ctx, "SELECT 1").Scan(new(int64)); !errors.Is(err, storage.ErrTxDone) {
				k.Errorf("QueryRow.Scan after Rollback = %v, want ErrTxDone", err)
			}
			k.wantRows()
		}),
		rule("FencedUnitUndoesSQL", "a fenced commit undoes the user's rows too", func(k *kit) {
			k.createTable()
			l := k.own(home)
			k.takeOver(storage.TakeOver{By: k.register(), From: l[0].Owner, Shards: []crustertype.Shard{home}}, 1)
			tx := k.begin()
			k.exec(tx, insert(k.h), "a", 1)
			_, err := tx.Commit(k.ctx, storage.Unit{Leases: l})
			k.wantFenced(err, home)
			k.wantRows()
		}),
		rule("RefusedUnitUndoesSQL", "a refused unit undoes the user's rows too", func(k *kit) {
			k.createTable()
			tx := k.begin()
			k.exec(tx, insert(k.h), "a", 1)
			_, err := tx.Commit(k.ctx, storage.Unit{Steps: []storage.StepWrite{write(k.execution(), step(0, "a"))}})
			k.wantUnitError(err, 0, storage.ErrNotFound)
			k.wantRows()
		}),
		rule("SQLReadsItsOwnWrites", "statements see what earlier ones of the transaction wrote; parameters are $1, $2, in any order", func(k *kit) {
			k.createTable()
			tx := k.begin()
			for i, id := range []string{"a", "b", "c"} {
				k.exec(tx, "INSERT INTO "+k.h.Table+" (n, id) VALUES ($2, $1)", id, i)
			}
			if n := k.exec(tx, "UPDATE "+k.h.Table+" SET n = n + $1 WHERE n >= $2 AND n < n + $1", 10, 1); n != 2 {
				k.Errorf("Exec of an UPDATE of two rows returned %d", n)
			}
			if d := diff([]string{"a=0", "b=11", "c=12"}, k.rows(tx)); d != "" {
				k.Errorf("rows in the transaction differ:\n%s", d)
			}
			var id string
			var n int
			k.must("QueryRow.Scan", tx.QueryRow(k.ctx, "SELECT n, id FROM "+k.h.Table+" WHERE id = $1", "b").Scan(&n, &id))
			if id != "b" || n != 11 {
				k.Errorf("QueryRow gave %q, %d, want b, 11", id, n)
			}
			k.must("Rollback", tx.Rollback(k.ctx))
		}),
		rule("QueryRowWithoutRows", "QueryRow of no rows gives ErrNoRows from Scan, and the transaction goes on", func(k *kit) {
			k.createTable()
			tx := k.begin()
			var n int64
			if err := tx.QueryRow(k.ctx, "SELECT n FROM "+k.h.Table+" WHERE id = $1", "none").Scan(&n); !errors.Is(err, storage.ErrNoRows) {
				k.Errorf("Scan of no rows = %v, want ErrNoRows", err)
			}
			k.exec(tx, insert(k.h), "a", 1)
			k.exec(tx, insert(k.h), "b", 2)
			k.must("QueryRow.Scan", tx.QueryRow(k.ctx, "SELECT n FROM "+k.h.Table+" ORDER BY id").Scan(&n))
			if n != 1 {
				k.Errorf("QueryRow of two rows gave %d, want the first, 1", n)
			}
			_, err := tx.Commit(k.ctx, storage.Unit{})
			k.must("Tx.Commit", err)
			k.wantRows("a=1", "b=2")
		}),
		rule("RowsMayBeLeftEarly", "rows that are closed early leave the transaction usable", func(k *kit) {
			k.createTable()
			tx := k.begin()
			for i := range 50 {
				k.exec(tx, insert(k.h), fmt.Sprintf("%02d", i), i)
			}
			rows, err := tx.Query(k.ctx, "SELECT id FROM "+k.h.Table+" ORDER BY id")
			k.must("Query", err)
			if !rows.Next() {
				k.Fatalf("Next of 50 rows = false: %v", rows.Err())
			}
			k.must("Close", rows.Close())
			if n := len(k.rows(tx)); n != 50 {
				k.Errorf("the next query returned %d rows, want 50", n)
			}
			_, err = tx.Commit(k.ctx, storage.Unit{})
			k.must("Tx.Commit", err)
		}),
		rule("FailedStatementsSaySo", "a statement that fails returns an error that is neither transient nor the end of the store", func(k *kit) {
			k.createTable()
			for _, query := range []string{"SELEKT 1", "INSERT INTO " + k.h.Table + " (id, n) VALUES ('x', NULL)"} {
				tx := k.begin()
				if _, err := tx.Exec(k.ctx, query); err == nil || storage.IsTransient(err) {
					k.Errorf("Exec of %q = %v, want an error that is not transient", query, err)
				}
				k.must("Rollback after a failed statement", tx.Rollback(k.ctx))
			}
			m := k.message()
			k.commit(accepts(m))
			k.wantRows()
		}),
		rule("ConcurrentTransactionsAllHappen", "Begin may wait for a free writer, and then goes on", func(k *kit) {
			k.createTable()
			const workers = 6
			var errs [workers]error
			ms := make([]crustertype.Message, workers)
			for i := range ms {
				ms[i] = k.message()
			}
			together(workers, func(i int) {
				tx, err := k.s.Begin(k.ctx)
				if err != nil {
					errs[i] = err
					return
				}
				if _, errs[i] = tx.Exec(k.ctx, insert(k.h), fmt.Sprint("w", i), i); errs[i] != nil {
					errs[i] = errors.Join(errs[i], tx.Rollback(k.ctx))
					return
				}
				_, errs[i] = tx.Commit(k.ctx, accepts(ms[i]))
			})
			k.must("a concurrent transaction", errors.Join(errs[:]...))
			k.wantRows("w0=0", "w1=1", "w2=2", "w3=3", "w4=4", "w5=5")
			k.wantIDs("Pending", k.pending(storage.PendingQuery{Now: at(time.Hour)}), ms...)
		}),
	}
	for i := range rules {
		rules[i].Applies = hasSQL
	}
	return rules
}
