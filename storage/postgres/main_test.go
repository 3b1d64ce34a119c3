package postgres_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m, func() error { return goleak.Find() })) }

// fixture is a store in a schema of its own.
type fixture struct {
	*postgres.Store
	pool   *pgxpool.Pool // of the user
	dsn    string
	schema string
}

// setup makes a fixture on the shared server.
func setup(t testing.TB, tune ...func(*pgxpool.Config, *postgres.Options)) *fixture {
	t.Helper()
	f := &fixture{dsn: testdb.URL(t), schema: testdb.Schema(t)}
	f.Store, f.pool = f.open(t, tune...)
	return f
}

// open opens another store on the fixture's schema, as another process would.
func (f *fixture) open(t testing.TB, tune ...func(*pgxpool.Config, *postgres.Options)) (*postgres.Store, *pgxpool.Pool) {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 8
	cfg.ConnConfig.RuntimeParams["search_path"] = "" // SQL that forgets a schema must fail
	o := &postgres.Options{Schema: f.schema, AutoMigrate: true, Logger: logger(t)}
	for _, f := range tune {
		f(cfg, o)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s, err := postgres.New(pool, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, pool
}

// logger writes to the test's log, until the test is over.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testLog{t}, nil))
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Logf("%s", b)
	}
	return len(b), nil
}

// exec runs a statement on the user's pool.
func (f *fixture) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := f.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// number returns the only number that a query gives.
func (f *fixture) number(t testing.TB, sql string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := f.pool.QueryRow(context.WithoutCancel(t.Context()), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// in puts the schema into a statement.
func (f *fixture) in(sql string) string { return strings.ReplaceAll(sql, "@", f.schema) }

// own registers a runner and makes it the owner of a shard.
func (f *fixture) own(t *testing.T, index int) crustertype.Lease {
	t.Helper()
	inc, err := f.Register(t.Context(), storage.Runner{Weight: 1}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.TakeOver(t.Context(), storage.TakeOver{By: inc, Shards: []crustertype.Shard{{Group: "default", Index: index}}})
	if err != nil || len(got) != 1 {
		t.Fatalf("TakeOver = %v, %v", got, err)
	}
	return got[0]
}

// message returns a new pending message.
func message() crustertype.Message {
	return crustertype.Message{
		ID: crustertype.NewRequestID(), Shard: crustertype.Shard{Group: "default"}, State: crustertype.MessagePending,
		Address: crustertype.Address{Type: "counter", ID: "a"}, Method: "Add", Codec: "json", Payload: []byte("1"), CreatedAt: time.Now(),
	}
}

// execution returns a new running execution.
func execution(id string) crustertype.Execution {
	now := time.Now()
	return crustertype.Execution{
		ExecutionRef: crustertype.ExecutionRef{Type: "order", ID: id}, Shard: crustertype.Shard{Group: "default"}, Run: 1,
		Codec: "json", Input: []byte("1"), Status: crustertype.StatusRunning, CreatedAt: now, UpdatedAt: now,
	}
}

// eventually asks again until a query gives at least one row.
func (f *fixture) eventually(t *testing.T, sql string, args ...any) {
	t.Helper()
	for f.number(t, "SELECT count(*) FROM ("+sql+") AS q", args...) == 0 {
		if t.Context().Err() != nil {
			t.Fatalf("never happened: %s", sql)
		}
	}
}

// awaitAdvisoryWaiter waits until a session waits for a lock of this schema.
func (f *fixture) awaitAdvisoryWaiter(t *testing.T) {
	t.Helper()
	f.eventually(t, f.in("SELECT 1 FROM pg_locks l, @.space s WHERE l.locktype = 'advisory' AND NOT l.granted AND l.classid = s.lock_space::bigint::oid"))
}
