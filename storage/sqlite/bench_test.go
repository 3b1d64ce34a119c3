package sqlite_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// stores runs a benchmark in memory, with commits that the operating system
// has, and with commits on the disk.
func stores(b *testing.B, bench func(b *testing.B, s *sqlite.Store)) {
	b.Helper()
	b.Run("memory", func(b *testing.B) { bench(b, openMemory(b)) })
	b.Run("normal", func(b *testing.B) {
		bench(b, open(b, filepath.Join(b.TempDir(), "cruster.db"), &sqlite.Options{Synchronous: sqlite.Normal}))
	})
	b.Run("full", func(b *testing.B) { bench(b, open(b, filepath.Join(b.TempDir(), "cruster.db"), nil)) })
}

func BenchmarkAccept(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			stores(b, func(b *testing.B, s *sqlite.Store) {
				b.ReportAllocs()
				units := make([]storage.Unit, n)
				messages := 0
				for b.Loop() {
					for i := range units {
						units[i].Accepts = []crustertype.Message{message()}
					}
					if _, err := s.Commit(b.Context(), units); err != nil {
						b.Fatal(err)
					}
					messages += n
				}
				b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "messages/s")
			})
		})
	}
}

// BenchmarkCall accepts and finishes 64 messages in two commits.
func BenchmarkCall(b *testing.B) {
	stores(b, func(b *testing.B, s *sqlite.Store) {
		b.ReportAllocs()
		var accepts, finishes [64]storage.Unit
		messages := 0
		for b.Loop() {
			for i := range accepts {
				m := message()
				m.Seq = int64(messages + 1)
				accepts[i].Accepts = []crustertype.Message{m}
				finishes[i].Finishes = []storage.Finish{{ID: m.ID, State: crustertype.MessageDone, At: m.CreatedAt}}
				messages++
			}
			for _, units := range [][]storage.Unit{accepts[:], finishes[:]} {
				if _, err := s.Commit(b.Context(), units); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "calls/s")
	})
}

func BenchmarkTx(b *testing.B) {
	stores(b, func(b *testing.B, s *sqlite.Store) {
		mustExec(b, s, `CREATE TABLE counters (id TEXT PRIMARY KEY, value INTEGER NOT NULL)`)
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

func BenchmarkSteps(b *testing.B) {
	stores(b, func(b *testing.B, s *sqlite.Store) {
		e := crustertype.Execution{
			ExecutionRef: crustertype.ExecutionRef{Type: "order", ID: "1"}, Shard: crustertype.Shard{Group: "default"}, Run: 1,
			Status: crustertype.StatusRunning,
		}
		if _, err := s.Commit(b.Context(), []storage.Unit{{Starts: []crustertype.Execution{e}}}); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		units := make([]storage.Unit, 64)
		pos := 0
		for b.Loop() {
			for i := range units {
				units[i].Steps = []storage.StepWrite{{ExecutionRef: e.ExecutionRef, Step: crustertype.Step{
					Run: 1, Pos: pos, Kind: crustertype.StepActivity, Name: "Charge", Codec: "json", Args: []byte(`{"n":1}`), Seq: int64(pos + 1),
					Outcome: crustertype.Outcome{Codec: "json", Payload: []byte(`"ok"`)},
				}}}
				pos++
			}
			if _, err := s.Commit(b.Context(), units); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(pos)/b.Elapsed().Seconds(), "steps/s")
	})
}
