package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

func openTest(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "cruster.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestPlans holds the queries of recovery, polls and retention to their small
// indexes, so that finished rows cost them nothing.
func TestPlans(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	for name, c := range map[string]struct {
		query, want string
		sorts       bool
	}{
		"adopted":           {adoptedQuery.all, "SEARCH cruster_message USING INDEX cruster_message_pending ((seq,id)>(?,?))", false},
		"adopted, shards":   {adoptedQuery.some, "SEARCH cruster_message USING INDEX cruster_message_pending ((seq,id)>(?,?))", false},
		"unadopted":         {unadoptedQuery.all, "SEARCH cruster_message USING INDEX cruster_message_pending (seq=?)", false},
		"unadopted, shards": {unadoptedQuery.some, "SEARCH cruster_message USING INDEX cruster_message_pending (seq=?)", false},
		"due":               {dueQuery.some, "SEARCH cruster_message USING INDEX cruster_message_scheduled (deliver_at<?)", true},
		"entity":            {entityQuery.some, "SEARCH cruster_message USING INDEX cruster_message_entity (type=? AND entity=? AND (seq,id)>(?,?))", false},
		"entity, unadopted": {entityUnadoptedQuery.some, "SEARCH cruster_message USING INDEX cruster_message_entity (type=? AND entity=? AND seq=?)", false},
		"runnable":          {runnableQuery.some, "SEARCH cruster_execution USING INDEX cruster_execution_running ((created_at,type,id)>(?,?,?))", false},
		"timers, messages":  {timersMessageQuery.some, "SEARCH cruster_message USING COVERING INDEX cruster_message_scheduled ((deliver_at,id)>(?,?) AND deliver_at<?)", false},
		"timers, wake-ups":  {timersWakeQuery.some, "SEARCH cruster_execution USING COVERING INDEX cruster_execution_wake ((wake_at,type,id)>(?,?,?) AND wake_at<?)", false},
		"timers, cancels":   {timersCancelQuery.some, "SEARCH cruster_execution USING INDEX cruster_execution_cancel ((cancel_at,type,id)>(?,?,?) AND cancel_at<?)", false},
		"count pending":     {countPending, "SCAN cruster_message USING COVERING INDEX cruster_message_entity", false},
		"count dead":        {countDead, "SCAN cruster_message USING COVERING INDEX cruster_message_dead", false},
		"count executions":  {countOpen, "SCAN cruster_execution USING COVERING INDEX cruster_execution_open", false},
		"purge messages":    {messageKind.finished, "SEARCH cruster_message USING INDEX cruster_message_finished (type=? AND finished_at<?)", false},
		"purge tombs":       {messageKind.tombs, "SEARCH cruster_message USING COVERING INDEX cruster_message_tomb (type=? AND finished_at<?)", false},
		"purge executions":  {executionKind.finished, "SEARCH cruster_execution USING INDEX cruster_execution_finished (type=? AND finished_at<?)", false},
		"types to purge":    {messageKind.finishedTypes, "SEARCH cruster_message USING COVERING INDEX cruster_message_finished (type>?)", false},
		"journal":           {selectSteps, "SEARCH cruster_step USING PRIMARY KEY (execution=? AND run=?)", false},
		"message":           {selectMessage, "SEARCH cruster_message USING INDEX sqlite_autoindex_cruster_message_1 (id=?)", false},
		"execution":         {selectExecution, "SEARCH cruster_execution USING INDEX sqlite_autoindex_cruster_execution_1 (type=? AND id=?)", false},
		"finish":            {finishMessage, "SEARCH cruster_message USING INDEX sqlite_autoindex_cruster_message_1 (id=?)", false},
		"update":            {updateExecution, "SEARCH cruster_execution USING INDEX sqlite_autoindex_cruster_execution_1 (type=? AND id=?)", false},
		"delete steps":      {deleteSteps, "SEARCH cruster_step USING PRIMARY KEY (execution=?)", false},
		"fence":             {selectLease, "SEARCH cruster_shard USING PRIMARY KEY (shard=?)", false},
	} {
		plan, err := read(t.Context(), s, func(ctx context.Context, conn *conn) (plan string, err error) {
			err = conn.queryOnce(ctx, "EXPLAIN QUERY PLAN "+c.query, func(r *row) error {
				plan += "\t" + fmt.Sprint(r.vals[3]) + "\n"
				return nil
			}, make([]any, strings.Count(c.query, "?"))...)
			return plan, err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(plan, "\t"+c.want+"\n") || !c.sorts && strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s runs as\n%swant, without sorting:\n\t%s", name, plan, c.want)
		}
	}
}

// TestMigrationGoesForward brings tables of version 1 to a later one, once.
func TestMigrationGoesForward(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cruster.db")
	ctx := t.Context()
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := crustertype.Execution{
		ExecutionRef: crustertype.ExecutionRef{Type: "order", ID: "1"}, Shard: crustertype.Shard{Group: "default"}, Run: 1,
		Status: crustertype.StatusRunning, CreatedAt: time.Now(), UpdatedAt: time.Now(),
	}
	if _, err := s.Commit(ctx, []storage.Unit{{Starts: []crustertype.Execution{e}}}); err != nil {
		t.Fatal(err)
	}
	all, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	broken := append(slices.Clip(all), migration{2, "broken", `ALTER TABLE cruster_execution ADD COLUMN extra TEXT; SELECT none`})
	next := append(slices.Clip(all), migration{2, "extra", `ALTER TABLE cruster_execution ADD COLUMN extra TEXT NOT NULL DEFAULT 'x';
		CREATE INDEX cruster_execution_extra ON cruster_execution (extra);`})
	for range 2 {
		if err := s.w.migrate(ctx, broken); err == nil || !strings.Contains(err.Error(), "migration 2 (broken)") {
			t.Fatalf("a broken migration = %v, want an error that names it", err)
		}
	}
	for range 2 { // the second time there is nothing to do
		if err := s.w.migrate(ctx, next); err != nil {
			t.Fatal(err)
		}
	}
	var extra, history string
	if err := s.DB().QueryRowContext(ctx, `SELECT extra, (SELECT group_concat(version || name, ',') FROM cruster_migration)
		FROM cruster_execution`).Scan(&extra, &history); err != nil || extra != "x" || history != "1init,2extra" {
		t.Errorf("after the migration: %q, %q, %v", extra, history, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), "version 2, and this program knows 1") {
		t.Errorf("an older program opens newer tables: %v", err)
	}
}

// TestStats holds the numbers of commits and statements to what they must be.
func TestStats(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	ctx := t.Context()
	m := func() crustertype.Message {
		return crustertype.Message{ID: crustertype.NewRequestID(), Shard: crustertype.Shard{Group: "default"}, State: crustertype.MessagePending}
	}
	inc, err := s.Register(ctx, storage.Runner{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	leases, err := s.TakeOver(ctx, storage.TakeOver{By: inc, Shards: []crustertype.Shard{{Group: "default"}}})
	if err != nil {
		t.Fatal(err)
	}
	mine := func(u storage.Unit) storage.Unit { u.Leases = leases; return u }
	one, two := m(), m()
	for _, step := range []struct {
		name string
		want storage.Stats
		do   func() error
	}{
		{"nothing", storage.Stats{}, func() error { return nil }},
		{"64 accepts in one commit", storage.Stats{Commits: 1, Statements: 4, Units: 64}, func() error {
			units := make([]storage.Unit, 64)
			for i := range units {
				units[i].Accepts = []crustertype.Message{m()}
			}
			_, err := s.Commit(ctx, units)
			return err
		}},
		{"a lease of two units is checked once", storage.Stats{Commits: 1, Statements: 3, Units: 2}, func() error {
			_, err := s.Commit(ctx, []storage.Unit{mine(storage.Unit{Accepts: []crustertype.Message{one}}), mine(storage.Unit{Accepts: []crustertype.Message{two}})})
			return err
		}},
		{"an outcome", storage.Stats{Commits: 1, Statements: 2, Units: 1}, func() error {
			_, err := s.Commit(ctx, []storage.Unit{mine(storage.Unit{Finishes: []storage.Finish{{ID: one.ID, State: crustertype.MessageDone}}})})
			return err
		}},
		{"a transaction of two statements with an outcome", storage.Stats{Commits: 1, Statements: 4, Units: 1}, func() error {
			tx, err := s.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `CREATE TABLE t (x)`); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO t VALUES (1)`); err != nil {
				return err
			}
			_, err = tx.Commit(ctx, mine(storage.Unit{Finishes: []storage.Finish{{ID: two.ID, State: crustertype.MessageDone}}}))
			return err
		}},
		{"a transaction that is not used", storage.Stats{Commits: 1, Units: 1}, func() error {
			tx, err := s.Begin(ctx)
			if err != nil {
				return err
			}
			_, err = tx.Commit(ctx, storage.Unit{})
			return err
		}},
		{"a transaction that is rolled back", storage.Stats{Statements: 1}, func() error {
			tx, err := s.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO t VALUES (1)`); err != nil {
				return err
			}
			return tx.Rollback(ctx)
		}},
		{"a refused commit", storage.Stats{Statements: 1}, func() error {
			_, err := s.Commit(ctx, []storage.Unit{{Steps: make([]storage.StepWrite, 1)}})
			if !errors.Is(err, storage.ErrNotFound) {
				return fmt.Errorf("a step of no execution = %w", err)
			}
			return nil
		}},
		{"a read", storage.Stats{Statements: 1}, func() error {
			_, err := s.Message(ctx, one.ID)
			return err
		}},
	} {
		before := s.Stats()
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		after := s.Stats()
		got := storage.Stats{Commits: after.Commits - before.Commits, Statements: after.Statements - before.Statements, Units: after.Units - before.Units}
		if got != step.want {
			t.Errorf("%s: %+v, want %+v", step.name, got, step.want)
		}
	}
}

func TestFaultsOfTheMachineAreTransient(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cruster.db")
	s, err := Open(path, &Options{BusyTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	other, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	hold, err := other.BeginTx(ctx, nil) // another program writes
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Commit(ctx, nil)
	var tr *storage.TransientError
	if !errors.As(err, &tr) || tr.Unknown || !strings.Contains(err.Error(), "another program") {
		t.Errorf("Commit while another program writes = %v, want a transient error", err)
	}
	s.w.busy = time.Minute
	waited := make(chan error, 1)
	go func() {
		_, err := s.Commit(ctx, nil)
		waited <- err
	}()
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := s.Commit(short, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Commit whose context ends meanwhile = %v", err)
	}
	if err := errors.Join(hold.Rollback(), other.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("Commit that waited for the other program = %v", err)
	}
	if err := s.w.do(func(c *conn) error {
		return c.queryOnce(ctx, "PRAGMA max_page_count = 1", func(*row) error { return nil })
	}); err != nil {
		t.Fatal(err)
	}
	var units []storage.Unit
	for range 200 {
		units = append(units, storage.Unit{Accepts: []crustertype.Message{{
			ID: crustertype.NewRequestID(), Shard: crustertype.Shard{Group: "default"}, State: crustertype.MessagePending, Payload: make([]byte, 1<<14),
		}}})
	}
	if _, err := s.Commit(ctx, units); !storage.IsTransient(err) {
		t.Errorf("Commit on a full disk = %v, want a transient error", err)
	}
	tx, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `CREATE TABLE t (x)`); err == nil {
		_, err = tx.Exec(ctx, `INSERT INTO t VALUES (randomblob(4000000))`)
		if !storage.IsTransient(err) {
			t.Errorf("Exec on a full disk = %v, want a transient error", err)
		}
	} else if !storage.IsTransient(err) {
		t.Errorf("Exec on a full disk = %v, want a transient error", err)
	}
	if _, err := tx.Commit(ctx, storage.Unit{}); err == nil {
		t.Error("the transaction that found the disk full commits")
	}
	if _, err := s.Commit(ctx, nil); err != nil {
		t.Errorf("the store does not go on: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAcceptedAgain accepts chunks of which some messages are there already, or
// come twice.
func TestAcceptedAgain(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	const n = 5 * chunk / 2
	old := func(i int) bool { return i%3 == 0 }
	twice := func(i int) bool { return i%7 == 6 } // is the one before
	units := make([]storage.Unit, n)
	var before storage.Unit
	for i := range units {
		m := crustertype.Message{
			ID: crustertype.NewRequestID(), Shard: crustertype.Shard{Group: "default"}, State: crustertype.MessagePending,
			Payload: []byte{byte(i)}, Key: fmt.Sprint(i),
		}
		if twice(i) {
			m.ID = units[i-1].Accepts[0].ID
		} else if old(i) {
			before.Accepts = append(before.Accepts, m)
		}
		units[i].Accepts = []crustertype.Message{m}
	}
	if _, err := s.Commit(t.Context(), []storage.Unit{before}); err != nil {
		t.Fatal(err)
	}
	results, err := s.Commit(t.Context(), units)
	if err != nil {
		t.Fatal(err)
	}
	for i := range units {
		want := ""
		switch {
		case twice(i):
			want = fmt.Sprint(i - 1)
		case old(i):
			want = fmt.Sprint(i)
		}
		got := ""
		if results[i].Accepts != nil {
			got = results[i].Accepts[0].Existing.Key
		}
		if got != want {
			t.Errorf("message %d met %q, want %q", i, got, want)
		}
	}
}
