package postgres_test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

// recorder is a pgx tracer that keeps the last read and the last batch.
type recorder struct {
	mu    sync.Mutex
	sql   string
	args  []any
	batch []string
	// settings is what the last transaction has set for itself.
	settings string
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch sql := strings.ToLower(d.SQL); {
	case strings.HasPrefix(sql, "begin"):
		r.settings = ""
		return ctx
	case strings.HasPrefix(sql, "commit"):
		return ctx
	case strings.HasPrefix(sql, "select set_config"):
		r.settings = d.SQL
		return ctx
	}
	r.sql, r.args = d.SQL, d.Args
	if len(r.args) > 0 {
		if _, mode := r.args[0].(pgx.QueryExecMode); mode {
			r.args = r.args[1:]
		}
	}
	return ctx
}

func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batch = nil
	for _, q := range d.Batch.QueuedQueries {
		r.batch = append(r.batch, q.SQL)
	}
	return ctx
}

func (r *recorder) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (r *recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// node is a part of a plan.
type node struct {
	Type    string `json:"Node Type"`
	Table   string `json:"Relation Name"`
	Hit     int64  `json:"Shared Hit Blocks"`
	Read    int64  `json:"Shared Read Blocks"`
	Removed int64  `json:"Rows Removed by Filter"`
	Plans   []node
}

func (n node) walk(f func(node)) {
	f(n)
	for _, p := range n.Plans {
		p.walk(f)
	}
}

// TestHistoryIsNotScanned reads pending work beside 100,000 finished rows.
func TestHistoryIsNotScanned(t *testing.T) {
	t.Parallel()
	rec := new(recorder)
	f := setup(t, func(c *pgxpool.Config, _ *postgres.Options) { c.ConnConfig.Tracer = rec })
	if _, err := f.Schedules(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	plain, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close(context.WithoutCancel(t.Context()))
	for _, sql := range []string{
		"INSERT INTO @.shard_group VALUES (1, 'default') ON CONFLICT DO NOTHING",
		`INSERT INTO @.message (id, shard, seq, state, attempts, uninterrupted, created_at, finished_at, deliver_at, entity_type, entity_id, method, codec)
		 SELECT gen_random_uuid(), 65536 + i % 300, i, CASE WHEN i > 99900 THEN 1 ELSE 2 END, 0, false, now() - i * interval '1 second', now(),
		        CASE WHEN i % 2 = 0 THEN now() END, 'counter', i::text, 'Add', 'json' FROM generate_series(1, 100000) AS i`,
		`INSERT INTO @.execution (type, id, shard, run, status, attempts, created_at, updated_at, finished_at, wake_at, cancel_at, codec, waiting_for, cancel_reason)
		 SELECT 'order', i::text, 65536 + i % 300, 1, CASE WHEN i > 49950 THEN 1 WHEN i > 49900 THEN 2 ELSE 3 END, 0, now() - i * interval '1 second', now(),
		        now(), now(), CASE WHEN i % 2 = 0 THEN now() END, 'json', '', '' FROM generate_series(1, 50000) AS i`,
		"ANALYZE @.message", "ANALYZE @.execution",
	} {
		if _, err := plain.Exec(t.Context(), f.in(sql)); err != nil {
			t.Fatal(err)
		}
	}
	var all []crustertype.Shard
	for i := range 300 {
		all = append(all, crustertype.Shard{Group: "default", Index: i})
	}
	later := time.Now().Add(time.Hour)
	e := explainer{rec, plain, 1000}
	for _, read := range []struct {
		name string
		run  func() (int, error)
	}{
		{"Pending of one shard", func() (int, error) {
			got, err := f.Pending(t.Context(), storage.PendingQuery{Shards: all[1:2], Now: later})
			return len(got), err
		}},
		{"Pending of all shards", func() (int, error) {
			got, err := f.Pending(t.Context(), storage.PendingQuery{Now: later})
			return len(got), err
		}},
		{"Pending of the shards owned", func() (int, error) {
			got, err := f.Pending(t.Context(), storage.PendingQuery{Shards: all, Now: later})
			return len(got), err
		}},
		{"Pending of one entity", func() (int, error) {
			got, err := f.Pending(t.Context(), storage.PendingQuery{
				Shards: all[100000%300 : 100000%300+1], Address: crustertype.Address{Type: "counter", ID: "100000"}, Now: later,
			})
			return len(got), err
		}},
		{"Pending, unadopted", func() (int, error) {
			got, err := f.Pending(t.Context(), storage.PendingQuery{Shards: all, Unadopted: true, Now: later})
			return len(got) + 1, err
		}},
		{"Runnable", func() (int, error) {
			got, _, err := f.Runnable(t.Context(), all, "", 0)
			return len(got), err
		}},
		{"Timers", func() (int, error) {
			got, _, err := f.Timers(t.Context(), storage.TimerQuery{Shards: all, Until: later})
			return len(got), err
		}},
		{"the next timer", func() (int, error) {
			got, _, err := f.Timers(t.Context(), storage.TimerQuery{Shards: all, After: time.Unix(0, 0), Until: later.AddDate(1000, 0, 0), Limit: 1})
			return len(got), err
		}},
		{"Counts", func() (int, error) {
			got, err := f.Counts(t.Context())
			return len(got.Messages), err
		}},
		{"Messages, pending", func() (int, error) {
			got, _, err := f.Messages(t.Context(), storage.MessageFilter{States: []crustertype.MessageState{crustertype.MessagePending}})
			return len(got), err
		}},
		{"Messages, newest", func() (int, error) {
			got, _, err := f.Messages(t.Context(), storage.MessageFilter{Limit: 50})
			return len(got), err
		}},
	} {
		n, err := read.run()
		if err != nil || n == 0 {
			t.Fatalf("%s: %d rows, %v", read.name, n, err)
		}
		e.check(t, read.name, n)
	}
	// What a take-over itself does, it does to shards only.
	l := f.own(t, 0)
	if got, err := f.TakeOver(t.Context(), storage.TakeOver{By: 99, From: l.Owner, Shards: []crustertype.Shard{l.Shard}}); err != nil || len(got) != 1 {
		t.Fatalf("TakeOver = %v, %v", got, err)
	}
	if len(rec.batch) == 0 {
		t.Fatal("no statement of a take-over was seen")
	}
	for _, sql := range rec.batch {
		if strings.Contains(sql, ".message") || strings.Contains(sql, ".execution") || strings.Contains(sql, ".step") {
			t.Errorf("a take-over reads more than shards: %s", sql)
		}
	}
}

// explainer looks at the plan of the last read of a recorder.
type explainer struct {
	*recorder
	conn *pgx.Conn
	// blocks is how many a read may touch.
	blocks int64
}

// check explains the last read as the server runs it: at first, and, once it is
// prepared, after some calls with a generic plan.
func (e explainer) check(t *testing.T, name string, rows int, modes ...string) {
	t.Helper()
	sql, args := e.sql, e.args
	holes := make([]string, len(args))
	for i := range args {
		holes[i] = "$" + strconv.Itoa(i+1)
	}
	execute := "EXECUTE q"
	if len(args) > 0 {
		execute += " (" + strings.Join(holes, ", ") + ")"
	}
	if len(modes) == 0 {
		modes = []string{"force_custom_plan", "force_generic_plan"}
	}
	for _, mode := range modes {
		if _, err := e.conn.Exec(t.Context(), "DEALLOCATE ALL; SET plan_cache_mode = "+mode+"; PREPARE q AS "+sql); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var text string
		args := append([]any{pgx.QueryExecModeSimpleProtocol}, args...)
		if err := e.conn.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+execute, args...).Scan(&text); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		judge(t, name+" ("+mode+")", text, rows, e.blocks)
	}
}

// judge fails when a plan reads much, or scans a table with history.
func judge(t *testing.T, name, text string, rows int, most int64) {
	t.Helper()
	var plans []struct{ Plan node }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		t.Fatal(err)
	}
	plan := plans[0].Plan
	if blocks := plan.Hit + plan.Read; blocks > most {
		t.Errorf("%s touches %d blocks for %d rows:\n%s", name, blocks, rows, text)
	}
	plan.walk(func(n node) {
		if strings.HasSuffix(n.Type, "Seq Scan") && (n.Table == "message" || n.Table == "execution" || n.Table == "step") {
			t.Errorf("%s scans the table %s:\n%s", name, n.Table, text)
		}
	})
}

// TestPlansOfEmptyTables makes each connection cache its plans while the tables
// are empty, fills them without ANALYZE, and looks at what the server reads.
func TestPlansOfEmptyTables(t *testing.T) {
	t.Parallel()
	f := &fixture{dsn: testdb.Database(t), schema: "cruster"}
	f.Store, f.pool = f.open(t, func(_ *pgxpool.Config, o *postgres.Options) { o.EngineConns = 2 })
	if f.number(t, "SELECT current_setting('server_version_num')::integer") < 150000 {
		t.Skip("before version 15 the server's own counts come late")
	}
	e := execution("o-1")
	work := func(pos int) {
		t.Helper()
		m := message()
		seq := m
		seq.ID, seq.Seq = crustertype.NewRequestID(), int64(1_000_000+pos)
		for _, u := range []storage.Unit{ // one row each, as a calm system has it
			{Accepts: []crustertype.Message{m, seq}, Starts: []crustertype.Execution{e}},
			{Adopts: []storage.Adopt{{ID: m.ID, Seq: int64(2_000_000 + pos)}}},
			{Attempts: []storage.Attempt{{ID: m.ID, N: 1}}},
			{Finishes: []storage.Finish{{ID: m.ID, State: crustertype.MessageDone, At: time.Now()}}},
			{Finishes: []storage.Finish{{ID: seq.ID, State: crustertype.MessageDone, At: time.Now()}}},
			{Steps: []storage.StepWrite{{ExecutionRef: e.ExecutionRef, Step: crustertype.Step{Run: 1, Pos: pos, Kind: crustertype.StepActivity, Name: "a", Seq: int64(pos + 1)}}}},
			{Updates: []storage.Update{{ExecutionRef: e.ExecutionRef, Run: 1, Status: crustertype.StatusRunning, At: time.Now()}}},
			{Cancels: []storage.Cancel{{ExecutionRef: e.ExecutionRef, At: time.Now()}}},
		} {
			if _, err := f.Commit(t.Context(), []storage.Unit{u}); err != nil {
				t.Fatal(err)
			}
		}
		shards := []crustertype.Shard{{Group: "default", Index: 7}}
		if _, err := f.Pending(t.Context(), storage.PendingQuery{Shards: shards, Now: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Message(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Steps(t.Context(), e.ExecutionRef, 1); err != nil {
			t.Fatal(err)
		}
	}
	for pos := range 20 {
		work(pos)
	}
	scanned := func() int64 {
		f.exec(t, "SELECT pg_stat_force_next_flush()")
		return f.number(t, "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_user_tables WHERE schemaname = $1", f.schema)
	}
	for state := range 2 { // pending ones look alike to a partial index, done ones do not
		f.exec(t, f.in(`INSERT INTO @.message (id, shard, seq, state, attempts, uninterrupted, created_at, finished_at, entity_type, entity_id, method, codec)
			SELECT gen_random_uuid(), 65536 + i % 300, i, $1, 0, false, now(), now(), 'counter', i::text, 'Add', 'json' FROM generate_series(1, 30000) AS i`), state+1)
	}
	f.exec(t, f.in(`INSERT INTO @.execution (type, id, shard, run, status, attempts, created_at, updated_at, codec, waiting_for, cancel_reason)
		SELECT 'order', 'x' || i, 65536 + i % 300, 1, 1, 0, now(), now(), 'json', '', '' FROM generate_series(1, 30000) AS i`))
	before := scanned()
	const rounds = 10
	for pos := range rounds {
		work(20 + pos)
	}
	f.Close() // the sessions tell what they have read at the latest when they end
	f.eventually(t, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'cruster%')")
	if n := (scanned() - before) / rounds; n > 1000 {
		t.Errorf("a round of single-row work reads %d rows: a plan of the empty tables is still in use", n)
	}
}
