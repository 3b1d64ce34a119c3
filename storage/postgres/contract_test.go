package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
	"github.com/cruster-go/cruster/storage/storagetest"
)

// contract runs the suite on stores that are opened in a given way.
func contract(t *testing.T, tune ...func(*pgxpool.Config, *postgres.Options)) {
	storagetest.Run(t, func(t *testing.T) storagetest.Harness {
		f := setup(t, tune...)
		if err := f.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
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

func TestContract(t *testing.T) {
	t.Parallel()
	contract(t)
}

// TestContractInModesForPoolers runs the suite without prepared statements, as
// an old transaction-mode pooler needs it.
func TestContractInModesForPoolers(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]pgx.QueryExecMode{
		"exec": pgx.QueryExecModeExec, "simple_protocol": pgx.QueryExecModeSimpleProtocol, "cache_describe": pgx.QueryExecModeCacheDescribe,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract(t, func(c *pgxpool.Config, _ *postgres.Options) { c.ConnConfig.DefaultQueryExecMode = mode })
		})
	}
}
