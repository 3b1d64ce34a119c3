package postgres_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
	"github.com/cruster-go/cruster/storage/storagetest"
)

// contract runs the suite on stores that are opened in a given way. Its rules
// hand their schemas on, emptied: making one costs more than most rules.
func contract(t *testing.T, tune ...func(*pgxpool.Config, *postgres.Options)) {
	var mu sync.Mutex
	var free []string
	parent := t
	storagetest.Run(t, func(t *testing.T) storagetest.Harness {
		f := &fixture{dsn: testdb.URL(t)}
		mu.Lock()
		if n := len(free); n > 0 {
			f.schema, free = free[n-1], free[:n-1]
		} else {
			f.schema = testdb.Schema(parent)
		}
		mu.Unlock()
		t.Cleanup(func() { // runs last: the stores are closed by then
			if t.Failed() {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			free = append(free, f.schema)
		})
		f.Store, f.pool = f.open(t, tune...)
		if err := f.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.empty(t)
		return storagetest.Harness{
			Store: f.Store,
			Reopen: func(storagetest.TB) storage.Store {
				s, _ := f.open(t, tune...)
				return s
			},
			Table: f.schema + ".storagetest_rows",
		}
	})
}

// empty removes all rows but the schema's own.
func (f *fixture) empty(t *testing.T) {
	t.Helper()
	sql := "DROP TABLE IF EXISTS @.storagetest_rows"
	for _, table := range []string{"runner", "shard", "message", "execution", "step", "schedule"} {
		sql += "; DELETE FROM @." + table
	}
	f.exec(t, strings.ReplaceAll(sql, "@", f.schema), pgx.QueryExecModeSimpleProtocol)
}

func TestContract(t *testing.T) {
	t.Parallel()
	contract(t)
}

// TestContractInSimpleProtocol runs the suite as the oldest poolers need it.
// TestNoSessionState covers the mode "exec".
func TestContractInSimpleProtocol(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole suite a third time")
	}
	t.Parallel()
	contract(t, func(c *pgxpool.Config, _ *postgres.Options) {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	})
}
