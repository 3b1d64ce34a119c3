package postgres_test

import (
	"testing"

	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/storagetest"
)

// Benchmark measures the store. Set CRUSTER_TEST_POSTGRES_FSYNC=on for commits
// that reach the disk.
func Benchmark(b *testing.B) {
	storagetest.Bench(b, func(b *testing.B) storage.Store { return setup(b).Store })
}
