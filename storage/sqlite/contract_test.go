package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
	"github.com/cruster-go/cruster/storage/storagetest"
)

func TestContractInMemory(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storagetest.Harness {
		return storagetest.Harness{Store: openMemory(t)}
	})
}

func TestContractOnFile(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storagetest.Harness {
		path := filepath.Join(t.TempDir(), "cruster.db")
		return storagetest.Harness{
			Store: open(t, path, nil),
			Reopen: func(t storagetest.TB) storage.Store {
				t.Helper()
				s, err := sqlite.Open(path, nil)
				if err != nil {
					t.Fatalf("Open again = %v", err)
				}
				return s
			},
		}
	})
}

// openMemory opens a store that the test closes.
func openMemory(t testing.TB) *sqlite.Store {
	t.Helper()
	s, err := sqlite.OpenMemory()
	if err != nil {
		t.Fatalf("OpenMemory() = %v", err)
	}
	closeLater(t, s)
	return s
}

// open opens a file that the test closes.
func open(t testing.TB, path string, o *sqlite.Options) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(path, o)
	if err != nil {
		t.Fatalf("Open(%q) = %v", path, err)
	}
	closeLater(t, s)
	return s
}

func closeLater(t testing.TB, s *sqlite.Store) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
}
