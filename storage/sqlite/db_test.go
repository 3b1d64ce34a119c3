package sqlite_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
)

func TestDBReadsOnly(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		ctx := t.Context()
		mustExec(t, s, `CREATE TABLE t (x INTEGER, at TIMESTAMP)`)
		when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		mustExec(t, s, `INSERT INTO t VALUES (1, $1), (2, $1)`, when)
		db := s.DB()
		for _, query := range []string{`INSERT INTO t VALUES (3, NULL)`, `DELETE FROM cruster_message`, `CREATE TABLE u (x)`, `DROP TABLE t`} {
			if _, err := db.ExecContext(ctx, query); err == nil {
				t.Errorf("DB() executes %q", query)
			}
		}
		rows, err := db.QueryContext(ctx, `SELECT x, at FROM t WHERE x >= $1 ORDER BY x`, 1)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rows.Next() {
			var x int
			var at time.Time
			if err := rows.Scan(&x, &at); err != nil || !at.Equal(when) {
				t.Fatalf("Scan = %v, %v", at, err)
			}
			mustExec(t, s, `UPDATE t SET x = x + 10 WHERE x = $1`, x) // an open result holds up no writer
			n++
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil || n != 2 {
			t.Errorf("%d rows, %v", n, err)
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		var sum int
		st, err := tx.PrepareContext(ctx, `SELECT sum(x) FROM t`)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.QueryRowContext(ctx).Scan(&sum); err != nil || sum != 23 {
			t.Errorf("sum = %d, %v", sum, err)
		}
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
		mustExec(t, s, `DELETE FROM t`) // a transaction that has ended neither
		if _, err := db.QueryContext(ctx, `SELECT x FROM nowhere`); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("a wrong query = %v", err)
		}
	})
}

// TestReadersBesideTheWriter reads all the time while commits happen. In each
// commit a message and a row of the user come together.
func TestReadersBesideTheWriter(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		mustExec(t, s, `CREATE TABLE t (x)`)
		ctx, stop := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				for ctx.Err() == nil {
					var rows, messages int
					err := s.DB().QueryRowContext(ctx, `SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM cruster_message)`).Scan(&rows, &messages)
					if ctx.Err() != nil {
						return
					}
					if err != nil || rows != messages {
						t.Errorf("%d rows, %d messages, %v", rows, messages, err)
						return
					}
					if _, err := s.Pending(ctx, storage.PendingQuery{Unadopted: true, Now: time.Now()}); err != nil && ctx.Err() == nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for range 25 {
					tx, err := s.Begin(ctx)
					if err == nil {
						_, err = tx.Exec(ctx, `INSERT INTO t VALUES (1)`)
					}
					if err == nil {
						_, err = tx.Commit(ctx, storage.Unit{Accepts: []crustertype.Message{message()}})
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		writers.Wait()
		stop()
		readers.Wait()
		if n := count(t, s, `SELECT count(*) FROM t`); n != 100 {
			t.Errorf("%d rows, want 100", n)
		}
	})
}

func TestCursorsOfOthersAreRefused(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		for _, c := range []storage.Cursor{"x", "1/m/00", "1/e/9/a", "1/e/-1/a", "1/z/", "1/m/zz", "/"} {
			if _, _, err := s.Runnable(t.Context(), nil, c, 1); !errors.Is(err, crustertype.ErrInvalid) {
				t.Errorf("Runnable from cursor %q = %v, want ErrInvalid", c, err)
			}
			if _, _, err := s.Messages(t.Context(), storage.MessageFilter{After: c}); !errors.Is(err, crustertype.ErrInvalid) {
				t.Errorf("Messages from cursor %q = %v, want ErrInvalid", c, err)
			}
		}
	})
}

// TestTagsThatLookAlike lists by tags whose bytes occur in other tags too.
func TestTagsThatLookAlike(t *testing.T) {
	both(t, func(t *testing.T, s *sqlite.Store) {
		start := func(id string, tags map[string]string) crustertype.Execution {
			return crustertype.Execution{
				ExecutionRef: crustertype.ExecutionRef{Type: "order", ID: id}, Shard: crustertype.Shard{Group: "default"}, Run: 1,
				Status: crustertype.StatusRunning, CreatedAt: time.Unix(int64(len(id)), 0), Tags: tags,
			}
		}
		wanted := map[string]string{"a": "b"}
		var starts []crustertype.Execution
		for i := range 7 {
			id := strings.Repeat("i", i+1)
			switch i % 3 {
			case 0:
				starts = append(starts, start(id, wanted))
			case 1:
				starts = append(starts, start(id, map[string]string{"other": "x\x01a\x01bx"})) // has the bytes
			default:
				starts = append(starts, start(id, map[string]string{"a": "bb", "\xff": "\x00"}))
			}
		}
		if _, err := s.Commit(t.Context(), []storage.Unit{{Starts: starts}}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for cursor := storage.Cursor(""); ; {
			page, next, err := s.Executions(t.Context(), storage.ExecutionFilter{Tags: wanted, Limit: 2, After: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				got = append(got, e.ID)
			}
			if cursor = next; next == "" {
				break
			}
		}
		if strings.Join(got, " ") != "iiiiiii iiii i" {
			t.Errorf("executions with the tag: %q", got)
		}
		if e, err := s.Execution(t.Context(), starts[2].ExecutionRef); err != nil || e.Tags["\xff"] != "\x00" {
			t.Errorf("tags = %q, %v", e.Tags, err)
		}
	})
}
