package postgres_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

// views are the stable interface: a column may be added at the end, none may
// change or go. docs/postgres.md describes each.
var views = map[string]string{
	"messages":              messageColumns,
	"pending_messages":      messageColumns,
	"finished_messages":     messageColumns,
	"dead_letters":          messageColumns,
	"executions":            executionColumns,
	"unfinished_executions": executionColumns,
	"steps": "type text, id text, run integer, pos integer, kind text, name text, done boolean, seq bigint, attempts integer, " +
		"at timestamptz, due timestamptz, codec text, args_bytes integer, outcome_bytes integer, error_code text, error_name text, error text",
	"schedules": "kind text, name text, paused boolean, last_tick timestamptz, next_tick timestamptz, holder bigint, since timestamptz, " +
		"restarts integer, last_error text, updated_at timestamptz, shard_group text, shard integer, version bigint",
	"shards":  "shard_group text, shard integer, owner bigint, owner_address text, owner_alive boolean, epoch bigint, lock_rev bigint",
	"runners": "incarnation bigint, address text, groups text[], weight integer, version text, draining boolean, lease_until timestamptz, alive boolean, shards bigint",
	"counts":  "kind text, type text, state text, total bigint",
}

const (
	messageColumns = "id uuid, entity_type text, entity_id text, method text, state text, attempts integer, created_at timestamptz, " +
		"deliver_at timestamptz, finished_at timestamptz, key text, shard_group text, shard integer, seq bigint, codec text, " +
		"payload_bytes integer, outcome_bytes integer, error_code text, error_name text, error text, uninterrupted boolean, purged boolean"
	executionColumns = "type text, id text, run integer, status text, attempts integer, created_at timestamptz, updated_at timestamptz, " +
		"finished_at timestamptz, deadline timestamptz, wake_at timestamptz, waiting_for text, cancel_at timestamptz, cancel_reason text, " +
		"key text, parent_type text, parent_id text, tags jsonb, shard_group text, shard integer, codec text, input_bytes integer, " +
		"outcome_bytes integer, error_code text, error_name text, error text, purged boolean"
)

func TestViewColumnsAreStable(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if _, err := f.Runners(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := f.pool.Query(t.Context(), `SELECT c.relname::text, string_agg(a.attname || ' ' ||
			replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz'), ', ' ORDER BY a.attnum)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE n.nspname = $1 AND c.relkind = 'v' AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1`, f.schema)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	var name, columns string
	if _, err := pgx.ForEachRow(rows, []any{&name, &columns}, func() error { got[name] = columns; return nil }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(views, got); d != "" {
		t.Errorf("views changed (-want +got):\n%s", d)
	}
}

// TestViewColumnsAreDocumented looks for each view and column in the page.
func TestViewColumnsAreDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	for view, columns := range views {
		if view == "pending_messages" || view == "finished_messages" || view == "dead_letters" || view == "unfinished_executions" {
			columns = "" // those of messages and executions
		}
		_, section, found := strings.Cut(string(b), "\n**`"+view+"`**")
		if !found && columns != "" {
			t.Errorf("docs/postgres.md has no paragraph **`%s`**", view)
			continue
		}
		if !strings.Contains(string(b), "`"+view+"`") {
			t.Errorf("docs/postgres.md does not name `%s`", view)
		}
		section, _, _ = strings.Cut(section, "\n**`")
		for column := range strings.SplitSeq(columns, ", ") {
			name, _, _ := strings.Cut(column, " ")
			if name != "" && !strings.Contains(section, "`"+name+"`") {
				t.Errorf("docs/postgres.md does not describe %s.%s", view, name)
			}
		}
	}
}

func TestViewsAreReadOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.own(t, 0)
	if _, err := f.Commit(t.Context(), []storage.Unit{{Accepts: []crustertype.Message{message()}, Starts: []crustertype.Execution{execution("o")}}}); err != nil {
		t.Fatal(err)
	}
	for view, columns := range views {
		first, _, _ := strings.Cut(columns, " ")
		for _, sql := range []string{
			"DELETE FROM @.%", "UPDATE @.% SET " + first + " = " + first, "INSERT INTO @.% SELECT * FROM @.%",
		} {
			sql = strings.ReplaceAll(f.in(sql), "%", view)
			_, err := f.pool.Exec(t.Context(), sql)
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != "55000" || !strings.Contains(pg.Message, "view") {
				t.Errorf("%s = %v, want a refusal", sql, err)
			}
		}
	}
}

// TestViewsNeedOneGrant reads all views as a role that may read views, and
// nothing else.
func TestViewsNeedOneGrant(t *testing.T) {
	t.Parallel()
	f := &fixture{dsn: testdb.Database(t), schema: "cruster"}
	f.Store, f.pool = f.open(t)
	failed := message()
	failed.State, failed.Outcome = crustertype.MessageDead, crustertype.Outcome{Failure: &crustertype.Failure{Code: crustertype.CodePanic, Message: "boom"}}
	if _, err := f.Commit(t.Context(), []storage.Unit{{Accepts: []crustertype.Message{failed}}}); err != nil {
		t.Fatal(err)
	}
	conn, err := f.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("BEGIN") // the role goes with it
	defer conn.Exec(t.Context(), "ROLLBACK")
	exec("CREATE ROLE reader_of_views")
	exec("GRANT USAGE ON SCHEMA cruster TO reader_of_views")
	for view := range views {
		exec("GRANT SELECT ON cruster." + view + " TO reader_of_views")
	}
	exec("SET LOCAL ROLE reader_of_views")
	for view := range views {
		exec("SELECT * FROM cruster." + view)
	}
	if _, err := conn.Exec(t.Context(), "SELECT * FROM cruster.message"); err == nil {
		t.Error("a table behind the views can be read: the test does not test")
	}
}

// TestViewsSayWhatTheAPISays compares every column with what the store reads.
func TestViewsSayWhatTheAPISays(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lease := f.own(t, 7)
	now := time.Now().UTC().Truncate(time.Microsecond)
	code := func(c crustertype.Code, name, text string) crustertype.Outcome {
		return crustertype.Outcome{Failure: &crustertype.Failure{Code: c, Name: name, Message: text}}
	}
	var messages []crustertype.Message
	for state := crustertype.MessagePending; state <= crustertype.MessageDead; state++ {
		m := message()
		m.State, m.Shard, m.Key, m.Seq, m.Attempts, m.DeliverAt = state, lease.Shard, "k-"+state.String(), int64(state), 3, now.Add(time.Hour)
		if m.Uninterrupted = state == crustertype.MessageDone; state != crustertype.MessagePending {
			m.FinishedAt = now
		}
		messages = append(messages, m)
	}
	messages[1].Outcome = crustertype.Outcome{Codec: "json", Payload: []byte("5")}
	messages[2].Outcome = code(crustertype.CodeUser, "no_stock", "vergriffen: Bücher, 本, 😀")
	// Every code by its name, and what no text column would take.
	for c := crustertype.CodeUnknown; c <= crustertype.CodeTxDone+1; c++ {
		m := message()
		m.State, m.Outcome = crustertype.MessageDone, code(c, "", strings.Repeat("x", int(c)*100))
		messages = append(messages, m)
	}
	for _, text := range []string{"a\x00b", "\xff", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80", "\xe4", ""} {
		m := message()
		m.State, m.Outcome = crustertype.MessageDone, code(crustertype.CodeUser, "", text)
		messages = append(messages, m)
	}
	var executions []crustertype.Execution
	for status := crustertype.StatusRunning; status <= crustertype.StatusDead; status++ {
		e := execution("o-" + status.String())
		e.Status, e.Shard, e.Run, e.Attempts, e.Key, e.WaitingFor, e.Deadline, e.WakeAt = status, lease.Shard, 2, 1, "k", "sleep", now, now
		e.CancelAt, e.CancelReason, e.Parent, e.Tags = now, "enough", crustertype.ExecutionRef{Type: "p", ID: "1"}, map[string]string{"a": "b"}
		if e.Outcome = code(crustertype.CodeParked, "n", "why"); status.Final() {
			e.FinishedAt = now
		}
		executions = append(executions, e)
	}
	executions = append(executions, execution("plain"))
	var steps []storage.StepWrite
	for kind := crustertype.StepActivity; kind <= crustertype.StepCancel; kind++ {
		steps = append(steps, storage.StepWrite{ExecutionRef: executions[0].ExecutionRef, Step: crustertype.Step{
			Run: 2, Pos: int(kind), Kind: kind, Name: kind.String(), Args: []byte("123"), Codec: "json", Seq: int64(kind) - 1, Attempts: 2, Due: now, At: now,
			Outcome: code(crustertype.CodeTimeout, "t", "late"),
		}})
	}
	schedules := []crustertype.Schedule{
		{Kind: crustertype.ScheduleCron, Name: "c", Shard: lease.Shard, LastTick: now, NextTick: now, Paused: true, UpdatedAt: now, Version: 1, LastError: "no"},
		{Kind: crustertype.ScheduleSingleton, Name: "s", Shard: lease.Shard, Holder: lease.Owner, Since: now, Restarts: 4, Version: 1},
	}
	if _, err := f.Commit(t.Context(), []storage.Unit{{
		Leases: []crustertype.Lease{lease}, Accepts: messages, Starts: executions, Steps: steps, Schedules: schedules,
	}}); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		got, err := f.Message(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := row(outcome(got.Outcome, map[string]any{
			"id": got.ID.String(), "entity_type": got.Address.Type, "entity_id": got.Address.ID, "method": got.Method, "state": got.State.String(),
			"attempts": got.Attempts, "created_at": got.CreatedAt, "deliver_at": got.DeliverAt, "finished_at": got.FinishedAt, "key": text(got.Key),
			"shard_group": got.Shard.Group, "shard": got.Shard.Index, "seq": got.Seq, "codec": got.Codec, "payload_bytes": len(got.Payload),
			"uninterrupted": got.Uninterrupted, "purged": false,
		}))
		f.same(t, "messages", want, "id = $1::text::uuid", m.ID.String())
		in := map[string]bool{"pending_messages": m.State == 1, "finished_messages": m.State != 1, "dead_letters": m.State == 3}
		for view, is := range in {
			if n := f.number(t, f.in("SELECT count(*) FROM @."+view+" WHERE id = $1::text::uuid"), m.ID.String()); (n == 1) != is {
				t.Errorf("a %s message is in %s %d times", m.State, view, n)
			}
		}
	}
	for _, e := range executions {
		got, err := f.Execution(t.Context(), e.ExecutionRef)
		if err != nil {
			t.Fatal(err)
		}
		tags := any(got.Tags)
		if got.Tags == nil {
			tags = nil
		}
		want := row(outcome(got.Outcome, map[string]any{
			"type": got.Type, "id": got.ID, "run": got.Run, "status": got.Status.String(), "attempts": got.Attempts, "created_at": got.CreatedAt,
			"updated_at": got.UpdatedAt, "finished_at": got.FinishedAt, "deadline": got.Deadline, "wake_at": got.WakeAt, "waiting_for": got.WaitingFor,
			"cancel_at": got.CancelAt, "cancel_reason": got.CancelReason, "key": text(got.Key), "parent_type": text(got.Parent.Type),
			"parent_id": text(got.Parent.ID), "tags": tags, "shard_group": got.Shard.Group, "shard": got.Shard.Index, "codec": got.Codec,
			"input_bytes": len(got.Input), "purged": false,
		}))
		f.same(t, "executions", want, "type = $1 AND id = $2", e.Type, e.ID)
		n := f.number(t, f.in("SELECT count(*) FROM @.unfinished_executions WHERE type = $1 AND id = $2"), e.Type, e.ID)
		if (n == 0) != e.Status.Final() || n > 1 {
			t.Errorf("a %s execution is in unfinished_executions %d times", e.Status, n)
		}
	}
	journal, err := f.Steps(t.Context(), executions[0].ExecutionRef, 2)
	if err != nil || len(journal) != len(steps) {
		t.Fatalf("%d steps, %v", len(journal), err)
	}
	for _, s := range journal {
		f.same(t, "steps", row(outcome(s.Outcome, map[string]any{
			"type": executions[0].Type, "id": executions[0].ID, "run": s.Run, "pos": s.Pos, "kind": s.Kind.String(), "name": s.Name, "done": s.Done(),
			"seq": s.Seq, "attempts": s.Attempts, "at": s.At, "due": s.Due, "codec": s.Codec, "args_bytes": len(s.Args),
		})), "pos = $1", s.Pos)
	}
	for _, want := range schedules {
		s, err := f.Schedule(t.Context(), want.Kind, want.Name)
		if err != nil {
			t.Fatal(err)
		}
		holder := any(s.Holder)
		if s.Holder == 0 {
			holder = nil
		}
		f.same(t, "schedules", row(map[string]any{
			"kind": map[crustertype.ScheduleKind]string{1: "cron", 2: "singleton"}[s.Kind], "name": s.Name, "paused": s.Paused, "last_tick": s.LastTick,
			"next_tick": s.NextTick, "holder": holder, "since": s.Since, "restarts": s.Restarts, "last_error": s.LastError, "updated_at": s.UpdatedAt,
			"shard_group": s.Shard.Group, "shard": s.Shard.Index, "version": s.Version,
		}), "name = $1", s.Name)
	}
	runners, err := f.Runners(t.Context())
	if err != nil || len(runners) != 1 {
		t.Fatalf("%d runners, %v", len(runners), err)
	}
	r := runners[0]
	f.same(t, "runners", row(map[string]any{
		"incarnation": r.Incarnation, "address": r.Address, "groups": []string{}, "weight": r.Weight, "version": r.Version, "draining": r.Draining,
		"lease_until": r.LeaseUntil, "alive": true, "shards": 1,
	}), "incarnation = $1", int64(r.Incarnation))
	f.same(t, "shards", row(map[string]any{
		"shard_group": lease.Shard.Group, "shard": lease.Shard.Index, "owner": lease.Owner, "owner_address": r.Address, "owner_alive": true,
		"epoch": lease.Epoch, "lock_rev": 0,
	}), "shard = $1", lease.Shard.Index)
	f.sameCounts(t)
}

// sameCounts compares the view counts with Counts.
func (f *fixture) sameCounts(t *testing.T) {
	t.Helper()
	c, err := f.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for name, states := range c.Messages {
		for state, n := range states {
			want++
			f.same(t, "counts", row(map[string]any{"kind": "message", "type": name, "state": state.String(), "total": n}), "kind = 'message' AND type = $1 AND state = $2", name, state.String())
		}
	}
	for name, statuses := range c.Executions {
		for status, n := range statuses {
			want++
			f.same(t, "counts", row(map[string]any{"kind": "execution", "type": name, "state": status.String(), "total": n}), "kind = 'execution' AND type = $1 AND state = $2", name, status.String())
		}
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.counts")); n != int64(want) || want != 6 {
		t.Errorf("counts has %d rows, Counts %d, want 6", n, want)
	}
}

// same compares one row of a view, as JSON, with what it should be.
func (f *fixture) same(t *testing.T, view string, want map[string]any, where string, args ...any) {
	t.Helper()
	var got []byte
	if err := f.pool.QueryRow(t.Context(), f.in("SELECT to_jsonb(v) FROM @."+view+" v WHERE "+where), args...).Scan(&got); err != nil {
		t.Errorf("%s: %v", view, err)
		return
	}
	var row map[string]any
	if err := json.Unmarshal(got, &row); err != nil {
		t.Fatal(err)
	}
	for name, v := range row { // times as the API gives them
		if s, ok := v.(string); ok && (strings.HasSuffix(name, "_at") || slices.Contains([]string{"at", "due", "deadline", "last_tick", "next_tick", "since", "lease_until"}, name)) {
			at, err := time.Parse(time.RFC3339, s)
			if err != nil {
				t.Fatal(err)
			}
			row[name] = at.UTC().Format(time.RFC3339Nano)
		}
	}
	delete(row, "outcome_bytes")
	delete(want, "outcome_bytes")
	if d := cmp.Diff(want, row); d != "" {
		t.Errorf("a row of %s differs from the API (-want +got):\n%s", view, d)
	}
}

// row brings values into the form that JSON gives them.
func row(v map[string]any) map[string]any {
	for name, x := range v {
		if at, ok := x.(time.Time); ok {
			if v[name] = at.Format(time.RFC3339Nano); at.IsZero() {
				v[name] = nil
			}
		}
	}
	b, _ := json.Marshal(v)
	var out map[string]any
	_ = json.Unmarshal(b, &out)
	return out
}

// text is NULL when it is empty.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// outcome adds the columns of an outcome.
func outcome(o crustertype.Outcome, v map[string]any) map[string]any {
	v["error_code"], v["error_name"], v["error"] = nil, nil, nil
	if o.Failure != nil {
		v["error_code"], v["error_name"], v["error"] = o.Failure.Code.String(), text(o.Failure.Name), text(strings.ToValidUTF8(o.Failure.Message, "?"))
		for _, bad := range []struct{ text, shown string }{
			{"a\x00b", `a\000b`}, {"\xff", `\377`}, {"\xed\xa0\x80", `\355\240\200`}, {"\xc0\xaf", `\300\257`}, {"\xf4\x90\x80\x80", `\364\220\200\200`}, {"\xe4", `\344`},
		} {
			if o.Failure.Message == bad.text {
				v["error"] = bad.shown
			}
		}
	}
	return v
}

// TestOlderBuildsLiveWithTheViews has the migration of the views say so. What an
// older build does to tables is what this one does: the views stand beside.
func TestOlderBuildsLiveWithTheViews(t *testing.T) {
	t.Parallel()
	f := setup(t, func(_ *pgxpool.Config, o *postgres.Options) { o.AutoMigrate = false })
	// Up to version 1, as an older build has left it, with a row of its.
	text, err := postgres.MigrationSQL(f.schema, 0)
	if err != nil {
		t.Fatal(err)
	}
	first, _, found := strings.Cut(text, "\n-- compatible-from: 1\n--\n-- What people read")
	if !found {
		t.Fatal("the second migration is not where it was")
	}
	f.exec(t, first+"\nCOMMIT", pgx.QueryExecModeSimpleProtocol)
	f.exec(t, f.in(`INSERT INTO @.message (id, shard, seq, state, attempts, uninterrupted, created_at, entity_type, entity_id, method, codec)
		VALUES (gen_random_uuid(), 65536, 1, 1, 0, false, now(), 'counter', 'old', 'Add', 'json')`))
	if _, err := f.Runners(t.Context()); err == nil || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("this build on version 1 = %v, want an error that names it", err)
	}
	if err := f.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := f.MigrationStatus(t.Context())
	if err != nil || st.Applied[1].CompatibleFrom != 1 {
		t.Errorf("status %+v, %v: a build that knows version 1 must go on working", st, err)
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.pending_messages WHERE entity_id = 'old'")); n != 1 {
		t.Errorf("%d rows of the older build are in the view, want 1", n)
	}
}
