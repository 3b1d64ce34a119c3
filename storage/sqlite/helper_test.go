package sqlite_test

import (
	"context"
	"testing"

	"github.com/cruster-go/cruster/storage/sqlite"
)

func tryExec(t testing.TB, s *sqlite.Store, query string, args ...any) error {
	t.Helper()
	return sqlite.InTx(t.Context(), s, func(ctx context.Context, tx *sqlite.Transaction) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

// mustExec runs a statement in a transaction of the program.
func mustExec(t testing.TB, s *sqlite.Store, query string, args ...any) {
	t.Helper()
	if err := tryExec(t, s, query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
