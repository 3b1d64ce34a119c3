package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	driver "modernc.org/sqlite"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// both runs a test on a store in memory and on one in a file.
func both(t *testing.T, test func(t *testing.T, s *sqlite.Store)) {
	t.Helper()
	t.Parallel()
	t.Run("memory", func(t *testing.T) { t.Parallel(); test(t, openMemory(t)) })
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, filepath.Join(t.TempDir(), "cruster.db"), nil))
	})
}

func beginTx(t *testing.T, s *sqlite.Store) storage.Tx {
	t.Helper()
	tx, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func count(t *testing.T, s *sqlite.Store, query string) (n int) {
	t.Helper()
	if err := s.DB().QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func TestParametersAndValues(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		ctx := t.Context()
		tx := beginTx(t, s)
		if _, err := tx.Exec(ctx, `CREATE TABLE v (i INTEGER, f REAL, b BLOB, s TEXT, n TEXT, at TIMESTAMP, at2, ok BOOLEAN)`); err != nil {
			t.Fatal(err)
		}
		when := time.Date(2026, 3, 1, 12, 30, 15, 123_456_789, time.FixedZone("", 3600))
		var none *string
		n, err := tx.Exec(ctx, `INSERT INTO v VALUES ($2, $3, $4, $1, $5, $6, $6, $7)`, "text", 7, 1.5, []byte{0, 1}, none, when, true)
		if err != nil || n != 1 {
			t.Fatalf("Exec() = %d, %v", n, err)
		}
		var i int
		var f float64
		var b []byte
		var text string
		var null *string
		var at, at2, latest time.Time
		var ok bool
		if err := tx.QueryRow(ctx, `SELECT i, f, b, s, n, at, at2, max(at), ok FROM v WHERE i = $1 AND i + 0 = $1 AND s = $2`, int64(7), "text").
			Scan(&i, &f, &b, &text, &null, &at, &at2, &latest, &ok); err != nil {
			t.Fatal(err)
		}
		if i != 7 || f != 1.5 || !slices.Equal(b, []byte{0, 1}) || text != "text" || null != nil || !ok {
			t.Errorf("read back: %v %v %v %v %v %v", i, f, b, text, null, ok)
		}
		for _, got := range []time.Time{at, at2, latest} {
			if !got.Equal(when) {
				t.Errorf("time = %v, want %v", got, when)
			}
		}
		if err := tx.QueryRow(ctx, `SELECT i FROM v WHERE s = ? AND i = ?`, "text", 7).Scan(&i); err != nil {
			t.Errorf("with ?: %v", err)
		}
		var maybe sql.NullTime
		var p *time.Time
		if err := tx.QueryRow(ctx, `SELECT NULL, at2 FROM v`).Scan(&maybe, &p); err != nil || maybe.Valid || p == nil || !p.Equal(when) {
			t.Errorf("NULL and a time as text = %v, %v, %v", maybe, p, err)
		}
		if err := tx.QueryRow(ctx, `SELECT NULL`).Scan(&at); err == nil {
			t.Error("NULL fits into a time.Time")
		}
		if err := tx.QueryRow(ctx, `SELECT i FROM v WHERE i = 0`).Scan(&i); !errors.Is(err, storage.ErrNoRows) {
			t.Errorf("Scan of no row = %v, want ErrNoRows", err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO v (i) VALUES ($1)`); err == nil {
			t.Error("a missing argument is accepted")
		}
		for query, want := range map[string]int64{
			`UPDATE v SET i = 8`: 1, `UPDATE v SET i = 8 WHERE i = 99`: 0, `CREATE TABLE w (x)`: 0, `SELECT 1`: 0,
			`INSERT INTO w VALUES (1), (2)`: 2, "-- why\nINSERT INTO w VALUES (3)": 1,
		} {
			if query == `INSERT INTO w VALUES (1), (2)` || strings.HasPrefix(query, "--") {
				continue // after CREATE, below
			}
			if n, err := tx.Exec(ctx, query); n != want || err != nil {
				t.Errorf("Exec(%q) = %d, %v, want %d", query, n, err, want)
			}
		}
		if n, err := tx.Exec(ctx, "-- why\nINSERT INTO w VALUES (3), (4)"); n != 2 || err != nil {
			t.Errorf("Exec after a comment = %d, %v, want 2", n, err)
		}
		if _, err := tx.Commit(ctx, storage.Unit{}); err != nil {
			t.Fatal(err)
		}
		if got := count(t, s, `SELECT i FROM v`); got != 8 {
			t.Errorf("committed value = %d", got)
		}
	})
}

func TestTransactionCannotBeEndedByHand(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		mustExec(t, s, `CREATE TABLE t (x UNIQUE)`)
		tx := beginTx(t, s)
		ctx := context.WithValue(t.Context(), storage.TxKey{}, func() (storage.Tx, error) { return tx, nil })
		x, err := sqlite.Tx(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.ExecContext(ctx, `INSERT INTO t VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		for _, end := range []string{`COMMIT`, `ROLLBACK`, `END`, `BEGIN`, `INSERT INTO t VALUES (2); COMMIT`} {
			if _, err := tx.Exec(ctx, end); !errors.Is(err, storage.ErrTxDone) {
				t.Errorf("Exec(%q) = %v, want ErrTxDone", end, err)
			}
		}
		if err := errors.Join(x.Commit(), x.Rollback()); !errors.Is(err, storage.ErrTxDone) {
			t.Errorf("Commit and Rollback = %v, want ErrTxDone", err)
		}
		for _, own := range []string{
			`DELETE FROM cruster_message`, `DROP TABLE cruster_shard`, `CREATE TABLE cruster_mine (x)`, `PRAGMA synchronous = OFF`,
			`ALTER TABLE cruster_step RENAME TO x`, `CREATE INDEX mine ON cruster_message (codec)`,
		} {
			if _, err := tx.Exec(ctx, own); !errors.Is(err, crustertype.ErrInvalid) {
				t.Errorf("Exec(%q) = %v, want ErrInvalid", own, err)
			}
		}
		for _, fine := range []string{`SAVEPOINT a`, `ROLLBACK TO a`, `RELEASE a`, `PRAGMA synchronous`, `SELECT count(*) FROM cruster_message`} {
			if _, err := tx.Exec(ctx, fine); err != nil {
				t.Errorf("Exec(%q) = %v", fine, err)
			}
		}
		if _, err := tx.Commit(ctx, storage.Unit{}); err != nil {
			t.Fatal(err)
		}
		if n := count(t, s, `SELECT count(*) FROM t`); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
		if _, err := x.ExecContext(ctx, `DELETE FROM t`); !errors.Is(err, storage.ErrTxDone) {
			t.Errorf("ExecContext after the commit = %v, want ErrTxDone", err)
		}
		if err := x.QueryRowContext(ctx, `SELECT 1`).Scan(new(int)); !errors.Is(err, storage.ErrTxDone) {
			t.Errorf("QueryRowContext after the commit = %v, want ErrTxDone", err)
		}
	})
}

func TestConstraintErrorsReachTheUser(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		ctx := t.Context()
		mustExec(t, s, `CREATE TABLE t (x UNIQUE)`)
		mustExec(t, s, `CREATE TABLE child (x REFERENCES t (x) DEFERRABLE INITIALLY DEFERRED)`)
		tx := beginTx(t, s)
		if _, err := tx.Exec(ctx, `INSERT INTO t VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		_, err := tx.Exec(ctx, `INSERT INTO t VALUES (1)`)
		var e *driver.Error
		if !errors.As(err, &e) || storage.IsTransient(err) {
			t.Errorf("a duplicate = %v (%T), want the driver's error", err, err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO t VALUES (2)`); err != nil {
			t.Errorf("after a refused statement the transaction does not go on: %v", err)
		}
		_, err = tx.Exec(ctx, `INSERT OR ROLLBACK INTO t VALUES (1)`)
		if !errors.As(err, &e) {
			t.Errorf("a duplicate = %v, want the driver's error", err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO t VALUES (3)`); err == nil || !strings.Contains(err.Error(), "rolled back") {
			t.Errorf("a statement after SQLite rolled back = %v, want an error that says so", err)
		}
		if _, err := tx.Commit(ctx, storage.Unit{}); err == nil {
			t.Error("a transaction that SQLite rolled back commits")
		}
		tx = beginTx(t, s)
		if _, err := tx.Exec(ctx, `INSERT INTO child VALUES (9)`); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Commit(ctx, storage.Unit{}); !errors.As(err, &e) || storage.IsTransient(err) {
			t.Errorf("Commit that breaks a foreign key = %v, want the driver's error", err)
		}
		if n := count(t, s, `SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM child)`); n != 0 {
			t.Errorf("%d rows are left, want none", n)
		}
	})
}

// endless is a query that does not end by itself.
const endless = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n`

func TestContextThatEndsRollsBack(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		mustExec(t, s, `CREATE TABLE t (x)`)
		tx := beginTx(t, s)
		if _, err := tx.Exec(t.Context(), `INSERT INTO t VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := tx.QueryRow(ctx, endless).Scan(new(int)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a query whose context ends = %v", err)
		}
		if _, err := tx.Exec(t.Context(), `INSERT INTO t VALUES (2)`); err == nil {
			t.Error("the transaction goes on")
		}
		mustExec(t, s, `INSERT INTO t VALUES (3)`) // the turn is free
		if n := count(t, s, `SELECT sum(x) FROM t`); n != 3 {
			t.Errorf("sum = %d, want 3", n)
		}
	})
}

func TestOpenRowsHoldBackTheNextStatement(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		ctx := t.Context()
		tx := beginTx(t, s)
		rows, err := tx.Query(ctx, `VALUES (1), (2)`)
		if err != nil || !rows.Next() {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, `SELECT 1`); !errors.Is(err, crustertype.ErrInvalid) {
			t.Errorf("a statement while rows are open = %v, want ErrInvalid", err)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		_ = tx.QueryRow(ctx, `VALUES (1), (2)`) // never scanned
		if _, err := tx.Exec(ctx, `SELECT 1`); err != nil {
			t.Error(err)
		}
		rows, err = tx.Query(ctx, `VALUES (1), (2)`)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Commit(ctx, storage.Unit{}); err != nil {
			t.Errorf("Commit with open rows = %v", err)
		}
		if rows.Next() {
			t.Error("rows outlive their transaction")
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestStuckTransactionIsCutOff(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		ctx := t.Context()
		inc, err := s.Register(ctx, storage.Runner{}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		shard := crustertype.Shard{Group: "default", Index: 1}
		leases, err := s.TakeOver(ctx, storage.TakeOver{By: inc, Shards: []crustertype.Shard{shard}})
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, s, `CREATE TABLE t (x)`)
		for _, query := range []string{`INSERT INTO t VALUES (1)`, endless} {
			tx := beginTx(t, s)
			began, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				_, err := tx.Exec(ctx, `INSERT INTO t VALUES (1)`)
				close(began)
				if err == nil {
					_, err = tx.Exec(ctx, query)
				}
				ended <- err
			}()
			<-began
			next, err := s.TakeOver(ctx, storage.TakeOver{By: inc + 1, From: leases[0].Owner, Shards: []crustertype.Shard{shard}})
			if err != nil || len(next) != 1 {
				t.Fatalf("TakeOver while a transaction is open = %v, %v", next, err)
			}
			if err := <-ended; query == endless && !storage.IsTransient(err) {
				t.Errorf("the statement that was cut off = %v, want a transient error", err)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO t VALUES (2)`); !storage.IsTransient(err) {
				t.Errorf("the next statement = %v, want a transient error", err)
			}
			if _, err := tx.Commit(ctx, storage.Unit{Leases: leases}); !errors.Is(err, storage.ErrFenced) {
				t.Errorf("Commit() = %v, want ErrFenced", err)
			}
			leases = next
			inc++
		}
		if n := count(t, s, `SELECT count(*) FROM t`); n != 0 {
			t.Errorf("%d rows are left, want none", n)
		}
	})
}

func TestCloseEndsOpenTransactions(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		tx := beginTx(t, s)
		if _, err := tx.Exec(t.Context(), `CREATE TABLE t (x)`); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `SELECT 1`); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Exec after Close = %v, want ErrClosed", err)
		}
		if err := sqlite.InTx(t.Context(), s, nil); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("InTx after Close = %v, want ErrClosed", err)
		}
		if err := s.DB().PingContext(t.Context()); err == nil {
			t.Error("the pool outlives the store")
		}
	})
}

func TestMemoryInBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, s, `CREATE TABLE t (x)`)
		tx := beginTx(t, s)
		if _, err := tx.Exec(t.Context(), `INSERT INTO t VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		start, ended := time.Now(), make(chan error, 1)
		go func() {
			_, err := s.Commit(t.Context(), []storage.Unit{{Accepts: []crustertype.Message{message()}}})
			ended <- err
		}()
		synctest.Wait() // the commit waits for its turn
		if _, err := s.Pending(t.Context(), storage.PendingQuery{Unadopted: true, Now: time.Now()}); err != nil {
			t.Errorf("reading while a transaction is open = %v", err)
		}
		if err := s.DB().QueryRowContext(t.Context(), `SELECT count(*) FROM t`).Scan(new(int)); !storage.IsTransient(err) {
			t.Errorf("DB() while a transaction is open = %v, want a transient error", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := s.Commit(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a commit that waits for too long = %v", err)
		}
		if waited := time.Since(start); waited != time.Hour+5*time.Second {
			t.Errorf("waited %v of virtual time", waited)
		}
		if _, err := tx.Commit(t.Context(), storage.Unit{}); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the commit that waited = %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
