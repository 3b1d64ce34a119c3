package postgres_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage/postgres"
)

func TestSchemaNamesThatAreNotIdentifiersAreRefused(t *testing.T) {
	t.Parallel()
	pool := testdb.Pool(t, testdb.URL(t))
	for _, name := range []string{
		`a"; DROP TABLE x; --`, "a b", "A", "1a", "pg_x", "a.b", "ä", "a-b", strings.Repeat("a", 64), "a\x00", "$1", "{{schema}}", `a'b`,
	} {
		if s, err := postgres.New(pool, &postgres.Options{Schema: name}); err == nil {
			s.Close()
			t.Errorf("schema %q was accepted", name)
		} else if !strings.Contains(err.Error(), "schema") {
			t.Errorf("schema %q: %v, want an error that names the schema", name, err)
		}
		if _, err := postgres.MigrationSQL(name, 0); err == nil {
			t.Errorf("MigrationSQL accepted schema %q", name)
		}
	}
	for _, name := range []string{"select", "user", "_x", strings.Repeat("a", 63)} { // words of SQL are quoted
		s, err := postgres.New(pool, &postgres.Options{Schema: name})
		if err != nil {
			t.Errorf("schema %q: %v", name, err)
			continue
		}
		s.Close()
	}
}

func TestReservedWordAsSchema(t *testing.T) {
	t.Parallel()
	f := &fixture{dsn: testdb.Database(t), schema: "select"}
	f.Store, f.pool = f.open(t)
	f.own(t, 0)
}

// TestMigrateManyAtOnce starts several processes on an empty database.
func TestMigrateManyAtOnce(t *testing.T) {
	t.Parallel()
	f := &fixture{dsn: testdb.URL(t), schema: testdb.Schema(t)}
	var wg sync.WaitGroup
	for range 5 {
		s, _ := f.open(t, func(c *pgxpool.Config, o *postgres.Options) {
			o.AutoMigrate = false
			c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
		})
		wg.Go(func() {
			for range 2 {
				if err := s.Migrate(t.Context()); err != nil {
					t.Errorf("Migrate = %v", err)
				}
			}
			if st, err := s.MigrationStatus(t.Context()); err != nil || st.Version != st.Latest || len(st.Pending) != 0 || st.Applied[0].AppliedAt.IsZero() {
				t.Errorf("status = %+v, %v", st, err)
			}
		})
	}
	wg.Wait()
}

func TestFirstUseChecksTheSchema(t *testing.T) {
	t.Parallel()
	f := &fixture{dsn: testdb.URL(t), schema: testdb.Schema(t)}
	f.Store, f.pool = f.open(t, func(_ *pgxpool.Config, o *postgres.Options) { o.AutoMigrate = false })
	_, err := f.Runners(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Migrate") || !strings.Contains(err.Error(), f.schema) {
		t.Errorf("Runners on an empty schema = %v, want an error that names the schema and the way out", err)
	}
	if err := f.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Runners(t.Context()); err != nil {
		t.Errorf("Runners after Migrate = %v: the check must be made again", err)
	}
	// A newer build has migrated: compatible, and not.
	st, err := f.MigrationStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for compatible, want := range map[int]bool{1: true, st.Latest: true, st.Latest + 1: false} {
		f.exec(t, f.in("DELETE FROM @.migration WHERE version > $1"), st.Latest)
		f.exec(t, f.in("INSERT INTO @.migration VALUES ($1, 'future', $2)"), st.Latest+1, compatible)
		old, _ := f.open(t)
		if _, err := old.Runners(t.Context()); (err == nil) != want {
			t.Errorf("an old build on a schema compatible from %d: %v", compatible, err)
		}
	}
}

// TestMigrationSQLIsWhatMigrateDoes has a DBA run the printed text.
func TestMigrationSQLIsWhatMigrateDoes(t *testing.T) {
	t.Parallel()
	f := &fixture{dsn: testdb.Database(t), schema: "cruster"}
	f.Store, f.pool = f.open(t, func(_ *pgxpool.Config, o *postgres.Options) { o.AutoMigrate = false })
	text, err := postgres.MigrationSQL("cruster", 0)
	if err != nil {
		t.Fatal(err)
	}
	f.exec(t, text, pgx.QueryExecModeSimpleProtocol)
	f.own(t, 0)
	if n := f.number(t, `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND n.nspname NOT IN ('cruster', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'`); n != 0 {
		t.Errorf("%d tables outside of the schema", n)
	}
	if _, err := postgres.MigrationSQL("cruster", 99); err == nil {
		t.Error("a version that does not exist was accepted")
	}
}

func TestAsyncCommitIsRefused(t *testing.T) {
	t.Parallel()
	off := func(c *pgxpool.Config, _ *postgres.Options) { c.ConnConfig.RuntimeParams["synchronous_commit"] = "off" }
	f := setup(t, off)
	if _, err := f.Runners(t.Context()); err == nil || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Errorf("Runners = %v, want an error about synchronous_commit", err)
	}
	s, _ := f.open(t, off, func(_ *pgxpool.Config, o *postgres.Options) { o.AllowAsyncCommit = true })
	if _, err := s.Runners(t.Context()); err != nil {
		t.Errorf("Runners with AllowAsyncCommit = %v", err)
	}
}

// TestTwoSchemasShareADatabase has two clusters whose incarnations have the
// same numbers.
func TestTwoSchemasShareADatabase(t *testing.T) {
	t.Parallel()
	a, b := setup(t), setup(t)
	a.own(t, 0)
	b.own(t, 0)
	if x, y := a.number(t, a.in("SELECT lock_space FROM @.space")), b.number(t, b.in("SELECT lock_space FROM @.space")); x == y {
		t.Errorf("both schemas lock in space %d", x)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	schema := testdb.Schema(t)
	s, err := postgres.Open(t.Context(), testdb.URL(t), &postgres.Options{Schema: schema, AutoMigrate: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := postgres.Open(t.Context(), testdb.URL(t), &postgres.Options{Schema: "nothing_here"}); err == nil {
		t.Error("Open on an empty schema succeeds")
	}
	if _, err := postgres.Open(t.Context(), "postgres://%", nil); err == nil {
		t.Error("Open with a broken connection string succeeds")
	}
	if _, err := postgres.New(nil, nil); err == nil {
		t.Error("New without a pool succeeds")
	}
	if _, err := postgres.New(testdb.Pool(t, testdb.URL(t)), &postgres.Options{EngineConns: 1}); err == nil {
		t.Error("New with one connection succeeds")
	}
}
