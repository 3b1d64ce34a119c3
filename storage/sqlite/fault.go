package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/cruster-go/cruster/storage"
)

// code returns SQLite's primary result code of an error, or 0.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return sqlite3.SQLITE_OK
}

func isBusy(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_BUSY || c == sqlite3.SQLITE_LOCKED
}

// explain marks the errors of the machine, which trying again can mend.
func explain(err error) error {
	switch code(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return transient(fmt.Errorf("another program holds the database: %w", err), false)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_READONLY:
		return transient(err, false)
	}
	return err
}

// explainCommit is explain for COMMIT. A commit of which the disk reported an
// error may be found there later.
func explainCommit(err error) error {
	if code(err) == sqlite3.SQLITE_IOERR {
		return transient(err, true)
	}
	return explain(fmt.Errorf("commit: %w", err))
}

func transient(err error, unknown bool) error {
	if storage.IsTransient(err) {
		return err
	}
	return &storage.TransientError{Err: err, Unknown: unknown}
}
