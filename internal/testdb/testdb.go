package testdb

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// EnvURL names the variable that holds the connection string of a server to
// use instead of starting one. Its user must be allowed to create databases.
const EnvURL = "CRUSTER_TEST_POSTGRES_URL"

// shared is the server of this test binary.
var shared struct {
	sync.Mutex
	server *Server
	err    error
	tried  bool
}

// names makes names unique within the binary.
var names atomic.Int64

// Main runs the tests of a package and stops the server that they started.
// Call it from TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }
//
// Each check runs after that and may fail the run, for example by finding
// goroutines that were left behind.
func Main(m interface{ Run() int }, checks ...func() error) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if s := shared.server; s != nil {
		shared.server = nil
		checks = append([]func() error{s.close}, checks...)
	}
	for _, check := range checks {
		if err := check(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, "after the tests:", err)
			code = 1
		}
	}
	return code
}

// URL returns the connection string of the shared server, starting it if this
// is the first call. The test fails when there is no PostgreSQL.
func URL(t testing.TB) string {
	t.Helper()
	if u := os.Getenv(EnvURL); u != "" {
		return u
	}
	shared.Lock()
	defer shared.Unlock()
	if !shared.tried {
		shared.tried = true
		shared.server, shared.err = start(Config{})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server.URL()
}

// Schema returns a name for a schema that no other test uses, and drops the
// schema when the test ends, if the test has created it by then.
func Schema(t testing.TB) string {
	t.Helper()
	base, name := URL(t), unique("t")
	t.Cleanup(func() { execute(t, base, "DROP SCHEMA IF EXISTS "+pgx.Identifier{name}.Sanitize()+" CASCADE") })
	return name
}

// Database creates an empty database for the test and returns its connection
// string. It is dropped when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	base, name := URL(t), unique("test")
	execute(t, base, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0")
	t.Cleanup(func() { execute(t, base, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)") })
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("%s is not a URL: %v", EnvURL, err)
	}
	u.Path = "/" + name
	return u.String()
}

// Pool returns a pool on the given connection string that is closed when the
// test ends, before the schemas and databases made earlier are dropped. Its
// search_path is empty, so that SQL which forgets a schema fails.
func Pool(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.RuntimeParams["search_path"] = ""
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func unique(prefix string) string {
	return fmt.Sprintf("%s_%d_%d_%d", prefix, os.Getpid(), time.Now().UnixMilli()%1_000_000, names.Add(1))
}

// execute runs one statement on a connection of its own.
func execute(t testing.TB, dsn, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Errorf("connect to the test database: %v", err)
		return
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Errorf("%s: %v", sql, err)
	}
}
