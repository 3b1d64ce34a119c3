package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

// history fills a schema with finished rows, and with a few that lists look
// for: old ones, which a walk from the newest on would meet last.
func (f *fixture) history(t testing.TB) {
	t.Helper()
	for _, sql := range []string{
		"INSERT INTO @.shard_group VALUES (1, 'default') ON CONFLICT DO NOTHING",
		`INSERT INTO @.message (id, shard, seq, state, attempts, uninterrupted, created_at, finished_at, entity_type, entity_id, method, key, codec)
		 SELECT gen_random_uuid(), 65536 + i % 300, i, CASE WHEN i > 99950 THEN 3 WHEN i > 99900 THEN 1 ELSE 2 END, 0, false,
		        now() - i * interval '1 second', now(), CASE WHEN i BETWEEN 99801 AND 99900 THEN 'rare' ELSE 'counter' END,
		        CASE WHEN i % 3 = 0 AND i < 50000 THEN 'hot' ELSE 'e' || i % 5000 END, 'Add', CASE WHEN i % 2 = 0 THEN 'k' || i END, 'json'
		   FROM generate_series(1, 100000) AS i`,
		`INSERT INTO @.execution (type, id, shard, run, status, attempts, created_at, updated_at, finished_at, wake_at, key, codec, waiting_for,
		        cancel_reason, parent_type, parent_id, tags)
		 SELECT 'order', md5(i::text), 65536 + i % 300, 1, CASE WHEN i > 49990 THEN 8 WHEN i > 49950 THEN 1 WHEN i > 49900 THEN 2 WHEN i > 49800 THEN 4 ELSE 3 END,
		        0, now() - i * interval '1 second', now(), now(), now(), 'order-' || lpad(i::text, 6, '0'), 'json',
		        CASE WHEN i > 49900 THEN 'activity Charge' ELSE '' END, '', CASE WHEN i % 5000 = 0 THEN 'order' END,
		        CASE WHEN i % 5000 = 0 THEN 'parent' END, jsonb_build_object('tenant', 't' || i % 2000) FROM generate_series(1, 50000) AS i`,
		"ANALYZE @.message", "ANALYZE @.execution",
	} {
		f.exec(t, f.in(sql))
	}
}

// TestListsDoNotScanHistory reads lists beside 100,000 finished messages and
// 50,000 finished executions.
func TestListsDoNotScanHistory(t *testing.T) {
	t.Parallel()
	rec := new(recorder)
	f := setup(t, func(c *pgxpool.Config, _ *postgres.Options) { c.ConnConfig.Tracer = rec })
	if _, err := f.Runners(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.history(t)
	plain, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close(context.WithoutCancel(t.Context()))
	// A walk through all messages touches over 100,000 blocks, most of them
	// often, and a scan of the table 2,000.
	e := explainer{rec, plain, 1500}
	type (
		states   = []crustertype.MessageState
		statuses = []crustertype.Status
	)
	for _, list := range []struct {
		name   string
		want   int
		filter storage.MessageFilter
	}{
		{"an entity", 17, storage.MessageFilter{Type: "counter", ID: "e1"}},
		{"an entity that has most of history", 100, storage.MessageFilter{Type: "counter", ID: "hot", Limit: 100}},
		{"pending of such an entity", 0, storage.MessageFilter{Type: "counter", ID: "hot", States: states{crustertype.MessagePending}}},
		{"done of an entity", 17, storage.MessageFilter{Type: "counter", ID: "e1", States: states{crustertype.MessageDone}}},
		{"an entity that does not exist", 0, storage.MessageFilter{Type: "counter", ID: "none"}},
		{"an ID of any type", 17, storage.MessageFilter{ID: "e1"}},
		{"a method and an entity", 17, storage.MessageFilter{Type: "counter", ID: "e1", Method: "Add"}},
		{"a key of an entity", 17, storage.MessageFilter{Type: "counter", ID: "e2", KeyPrefix: "k"}},
		{"a frequent type", 100, storage.MessageFilter{Type: "counter", Limit: 100}},
		{"a rare type", 100, storage.MessageFilter{Type: "rare", Limit: 200}},
		{"pending", 50, storage.MessageFilter{States: states{crustertype.MessagePending}}},
		{"dead", 50, storage.MessageFilter{States: states{crustertype.MessageDead}}},
		{"pending and dead", 100, storage.MessageFilter{States: states{crustertype.MessagePending, crustertype.MessageDead}}},
		{"the newest", 100, storage.MessageFilter{Limit: 100}},
		{"a time", 100, storage.MessageFilter{From: time.Now().Add(-24 * time.Hour), To: time.Now().Add(-20 * time.Hour), Limit: 100}},
	} {
		got, next, err := f.Messages(t.Context(), list.filter)
		if err != nil || len(got) < list.want || list.want == 0 && len(got) > 0 {
			t.Errorf("messages of %s: %d, %v, want %d", list.name, len(got), err, list.want)
		}
		e.check(t, "messages of "+list.name, len(got), "force_custom_plan")
		if list.filter.After = next; next == "" {
			continue
		}
		if _, _, err := f.Messages(t.Context(), list.filter); err != nil {
			t.Errorf("messages of %s, page 2: %v", list.name, err)
		}
		e.check(t, "messages of "+list.name+", page 2", len(got), "force_custom_plan")
	}
	some, _, err := f.Executions(t.Context(), storage.ExecutionFilter{KeyPrefix: "order-000007"})
	if err != nil || len(some) != 1 {
		t.Fatalf("%d executions have one key, %v", len(some), err)
	}
	for _, list := range []struct {
		name   string
		want   int
		filter storage.ExecutionFilter
	}{
		{"an ID", 1, storage.ExecutionFilter{Type: "order", IDPrefix: some[0].ID}},
		{"an ID of any type", 1, storage.ExecutionFilter{IDPrefix: some[0].ID[:12]}},
		{"a key", 1, storage.ExecutionFilter{KeyPrefix: "order-049999"}},
		{"a key's beginning", 10, storage.ExecutionFilter{KeyPrefix: "order-00100"}},
		{"a key that all share", 100, storage.ExecutionFilter{KeyPrefix: "order-", Limit: 100}},
		{"a key that does not exist", 0, storage.ExecutionFilter{KeyPrefix: "x"}},
		{"what waits", 100, storage.ExecutionFilter{WaitingFor: "activity C"}},
		{"what waits for something else", 0, storage.ExecutionFilter{WaitingFor: "sleep"}},
		{"a parent", 10, storage.ExecutionFilter{Parent: crustertype.ExecutionRef{Type: "order", ID: "parent"}}},
		{"a tag", 25, storage.ExecutionFilter{Tags: map[string]string{"tenant": "t7"}}},
		{"a tag that does not exist", 0, storage.ExecutionFilter{Tags: map[string]string{"tenant": "none"}}},
		{"running", 40, storage.ExecutionFilter{Statuses: statuses{crustertype.StatusRunning}}},
		{"unfinished", 100, storage.ExecutionFilter{Statuses: statuses{crustertype.StatusRunning, crustertype.StatusSuspended, crustertype.StatusParked, crustertype.StatusDead}}},
		{"failed", 100, storage.ExecutionFilter{Statuses: statuses{crustertype.StatusFailed}}},
		{"failed and dead", 110, storage.ExecutionFilter{Statuses: statuses{crustertype.StatusFailed, crustertype.StatusDead}}},
		{"completed", 100, storage.ExecutionFilter{Statuses: statuses{crustertype.StatusCompleted}, Limit: 100}},
		{"a type", 100, storage.ExecutionFilter{Type: "order", Limit: 100}},
		{"a type that does not exist", 0, storage.ExecutionFilter{Type: "none", Limit: 100}},
		{"a time", 100, storage.ExecutionFilter{To: time.Now().Add(-10 * time.Hour), Limit: 100}},
	} {
		got, next, err := f.Executions(t.Context(), list.filter)
		if err != nil || len(got) < list.want || list.want == 0 && len(got) > 0 {
			t.Errorf("executions of %s: %d, %v, want %d", list.name, len(got), err, list.want)
		}
		e.check(t, "executions of "+list.name, len(got), "force_custom_plan")
		if list.filter.After = next; next == "" {
			continue
		}
		if _, _, err := f.Executions(t.Context(), list.filter); err != nil {
			t.Errorf("executions of %s, page 2: %v", list.name, err)
		}
		e.check(t, "executions of "+list.name+", page 2", len(got), "force_custom_plan")
	}
}

// TestListBesideABacklog looks for pending messages of an entity that has much
// history, and none of a large backlog. A planner that reckons with averages
// expects to meet some soon, in order of time, and would walk through it all.
func TestListBesideABacklog(t *testing.T) {
	t.Parallel()
	rec := new(recorder)
	f := setup(t, func(c *pgxpool.Config, _ *postgres.Options) { c.ConnConfig.Tracer = rec })
	if _, err := f.Runners(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.history(t)
	f.exec(t, f.in(`INSERT INTO @.message (id, shard, seq, state, attempts, uninterrupted, created_at, entity_type, entity_id, method, codec)
		SELECT gen_random_uuid(), 65536 + i % 300, i, 1, 0, false, now(), 'counter', 'waits', 'Add', 'json' FROM generate_series(1, 10000) AS i`))
	f.exec(t, f.in("ANALYZE @.message"))
	plain, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close(context.WithoutCancel(t.Context()))
	got, _, err := f.Messages(t.Context(), storage.MessageFilter{
		Type: "counter", ID: "hot", States: []crustertype.MessageState{crustertype.MessagePending}, Limit: 20,
	})
	if err != nil || len(got) != 0 {
		t.Errorf("%d messages, %v, want none", len(got), err)
	}
	explainer{rec, plain, 1500}.check(t, "pending messages of an entity", 0, "force_custom_plan")
}

// TestViewsDoNotScanHistory asks the views as docs/postgres.md says that they
// should be asked.
func TestViewsDoNotScanHistory(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if _, err := f.Runners(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.history(t)
	id := ""
	if err := f.pool.QueryRow(t.Context(), f.in("SELECT id::text FROM @.message LIMIT 1")).Scan(&id); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"SELECT * FROM @.messages ORDER BY created_at DESC LIMIT 20",
		"SELECT * FROM @.messages WHERE id = '" + id + "'",
		"SELECT * FROM @.pending_messages ORDER BY created_at",
		"SELECT entity_type, count(*) FROM @.pending_messages GROUP BY 1",
		"SELECT * FROM @.dead_letters",
		"SELECT * FROM @.finished_messages WHERE entity_type = 'counter' AND entity_id = 'e1' ORDER BY created_at DESC",
		"SELECT * FROM @.executions ORDER BY created_at DESC LIMIT 20",
		"SELECT * FROM @.executions WHERE type = 'order' AND id = 'x'",
		"SELECT * FROM @.unfinished_executions WHERE status IN ('parked', 'dead')",
		"SELECT * FROM @.steps WHERE type = 'order' AND id = 'x' ORDER BY run, pos",
		"SELECT * FROM @.counts",
		"SELECT * FROM @.shards", "SELECT * FROM @.runners", "SELECT * FROM @.schedules",
	} {
		var text string
		if err := f.pool.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+f.in(sql)).Scan(&text); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		judge(t, strings.ReplaceAll(sql, "@", "cruster"), text, 0, 1000)
	}
}
