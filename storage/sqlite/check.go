package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// readOnly makes a connection that cannot write.
const readOnly = "&mode=ro&_busy_timeout=5000"

// quickCheckBelow is the size up to which a file is read through when it is
// opened.
const quickCheckBelow = 16 << 20

// smallestPage is the size of SQLite's smallest page. It takes a shorter file
// for an empty database, and overwrites it.
const smallestPage = 512

func connect(ctx context.Context, path string) (driver.Conn, error) {
	connector, err := sqlite.NewConnector(dsn(path, readOnly))
	if err != nil {
		return nil, err
	}
	return connector.Connect(ctx)
}

// check refuses a file that is not a database this version can use, without
// writing to it. It asks SQLite and never opens the file itself: closing it
// would drop the locks of other connections of this process.
func check(ctx context.Context, path string, all []migration) (err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("it is not a regular file (%s)", info.Mode().Type())
	case info.Size() == 0:
		return nil // SQLite's empty database
	case info.Size() < smallestPage:
		return errors.New("the file is not a SQLite database, which has no so small one: choose another name")
	}
	raw, err := connect(ctx, path)
	if err != nil {
		return checked(err)
	}
	var uncounted atomic.Int64
	c := newConn(raw, &uncounted)
	defer func() {
		if e := c.close(); err == nil {
			err = e
		}
	}()
	err = checkVersion(ctx, c, all)
	if code(err) == sqlite3.SQLITE_READONLY {
		return nil // another program crashed in a transaction, which only a writer can roll back; migrate checks again
	}
	if err != nil {
		return checked(err)
	}
	if info.Size() > quickCheckBelow {
		return nil
	}
	return checked(c.queryOnce(ctx, "PRAGMA quick_check(1)", func(r *row) error {
		if verdict := r.text(); verdict != "ok" {
			return fmt.Errorf("the file is damaged (%s): restore it from a copy", verdict)
		}
		return nil
	}))
}

// checked says what an error of the first reads means.
func checked(err error) error {
	switch code(err) {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("the file is not a SQLite database: choose another name: %w", err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("the file is damaged: restore it from a copy: %w", err)
	}
	return explain(err)
}
