package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
	"github.com/cruster-go/cruster/storage/storagetest"
)

// stores runs a benchmark in memory, with commits that the operating system
// has, and with commits on the disk. The benchmark closes the stores.
func stores(b *testing.B, bench func(b *testing.B, open func(b *testing.B) storage.Store)) {
	b.Helper()
	for _, kind := range []struct {
		name string
		open func(b *testing.B) (*sqlite.Store, error)
	}{
		{"memory", func(*testing.B) (*sqlite.Store, error) { return sqlite.OpenMemory() }},
		{"normal", func(b *testing.B) (*sqlite.Store, error) {
			return sqlite.Open(filepath.Join(b.TempDir(), "cruster.db"), &sqlite.Options{Synchronous: sqlite.Normal})
		}},
		{"full", func(b *testing.B) (*sqlite.Store, error) {
			return sqlite.Open(filepath.Join(b.TempDir(), "cruster.db"), nil)
		}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			bench(b, func(b *testing.B) storage.Store {
				s, err := kind.open(b)
				if err != nil {
					b.Fatal(err)
				}
				return s
			})
		})
	}
}

func BenchmarkStore(b *testing.B) {
	stores(b, storagetest.Bench)
}

// BenchmarkTx commits one statement of the user per transaction.
func BenchmarkTx(b *testing.B) {
	stores(b, func(b *testing.B, open func(b *testing.B) storage.Store) {
		s := open(b)
		b.Cleanup(func() {
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		})
		mustExec(b, s.(*sqlite.Store), `CREATE TABLE counters (id TEXT PRIMARY KEY, value INTEGER NOT NULL)`)
		b.ReportAllocs()
		for b.Loop() {
			tx, err := s.Begin(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			var v int64
			if err := tx.QueryRow(b.Context(), `INSERT INTO counters (id, value) VALUES ($1, $2)
				ON CONFLICT (id) DO UPDATE SET value = counters.value + excluded.value RETURNING value`, "c-1", 1).Scan(&v); err != nil {
				b.Fatal(err)
			}
			if _, err := tx.Commit(b.Context(), storage.Unit{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
