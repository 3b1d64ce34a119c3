package invoke

import (
	"context"

	"github.com/cruster-go/cruster/storage"
)

// NoSQL returns a transaction whose every statement returns err.
func NoSQL(err error) storage.SQL { return noSQL{err} }

type noSQL struct{ err error }

func (n noSQL) Exec(context.Context, string, ...any) (int64, error)         { return 0, n.err }
func (n noSQL) Query(context.Context, string, ...any) (storage.Rows, error) { return nil, n.err }
func (n noSQL) QueryRow(context.Context, string, ...any) storage.Row        { return failedRow(n) }

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }
