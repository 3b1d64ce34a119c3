package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

// TestPurgeDoesNotBeginAnew removes old items in small batches beside 10,000
// tombstones and 10,000 items that are too young, and looks at what the last
// batches read: as much as the first ones, although what these have removed is
// still in the tables until a vacuum.
func TestPurgeDoesNotBeginAnew(t *testing.T) {
	t.Parallel()
	rec := new(recorder)
	f := setup(t, func(c *pgxpool.Config, _ *postgres.Options) { c.ConnConfig.Tracer = rec })
	if _, err := f.Runners(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"INSERT INTO @.shard_group VALUES (1, 'default') ON CONFLICT DO NOTHING",
		// A third each: tombstones, old items, young items. Half of the old ones
		// have a key and become tombstones. They are spread over the table.
		`INSERT INTO @.message (id, shard, seq, state, attempts, uninterrupted, purged, created_at, finished_at, entity_type, entity_id, method, key, codec)
		 SELECT gen_random_uuid(), 65536, i, 2, 0, false, i % 3 = 0, now(), CASE WHEN i % 3 = 2 THEN now() ELSE now() - interval '2 days' + i * interval '1 ms' END,
		        CASE WHEN i % 10 = 0 THEN 'rare' ELSE 'counter' END, 'a', 'Add', CASE WHEN i % 2 = 0 OR i % 3 = 0 THEN 'k' || i END, 'json'
		   FROM generate_series(1, 30000) AS i`,
		`INSERT INTO @.execution (type, id, shard, run, status, attempts, purged, created_at, updated_at, finished_at, key, codec, waiting_for, cancel_reason)
		 SELECT 'order', i::text, 65536, 1, 3, 0, i % 3 = 0, now(), now(), CASE WHEN i % 3 = 2 THEN now() ELSE now() - interval '2 days' + i * interval '1 ms' END,
		        CASE WHEN i % 2 = 0 OR i % 3 = 0 THEN 'k' || i END, 'json', '', '' FROM generate_series(1, 30000) AS i`,
		"INSERT INTO @.step (num, run, pos, kind, attempts, seq, at, name, codec) SELECT num, 1, 0, 1, 0, 1, now(), 'a', 'json' FROM @.execution",
		"ANALYZE @.message", "ANALYZE @.execution", "ANALYZE @.step",
	} {
		f.exec(t, f.in(sql))
	}
	plain, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close(context.WithoutCancel(t.Context()))
	day := time.Now().Add(-24 * time.Hour)
	const batch = 1000
	for name, p := range map[string]storage.Purge{
		"messages":       {Before: day, Messages: storage.AllTypes, Limit: batch},
		"executions":     {Before: day, Executions: storage.AllTypes, Limit: batch},
		"message keys":   {KeysBefore: day, Messages: storage.AllTypes, Limit: batch},
		"execution keys": {KeysBefore: day, Executions: storage.AllTypes, Limit: batch},
	} {
		removed := 0
		for range 8 { // of 10 that there are
			n, err := f.Purge(t.Context(), p)
			if err != nil || n > batch {
				t.Fatalf("purge of %s = %d, %v, want at most %d in one transaction", name, n, err, batch)
			}
			removed += n
		}
		if removed != 8*batch {
			t.Errorf("8 purges of %s removed %d, want %d", name, removed, 8*batch)
		}
		// The next batch, as the server runs it, undone. An item costs the rows
		// and index entries that it has; 20,000 of others would cost theirs.
		tx, err := plain.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), rec.settings); err != nil {
			t.Fatal(err)
		}
		explainer{rec, plain, 40 * batch}.check(t, "purge of "+name, batch, "force_custom_plan")
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
