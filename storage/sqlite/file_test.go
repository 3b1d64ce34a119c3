package sqlite_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// plain opens a file as any other program would.
func plain(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range statements {
		if _, err := db.ExecContext(t.Context(), st); err != nil {
			t.Fatalf("%s: %v", st, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		want string
		make func(t *testing.T, path string)
	}{
		"not SQLite": {"not a SQLite database", func(t *testing.T, path string) {
			write(t, path, strings.Repeat("PK\x03\x04 some archive ", 500))
		}},
		"damaged header": {"", func(t *testing.T, path string) {
			plain(t, path, `CREATE TABLE t (x)`, `INSERT INTO t VALUES (1)`)
			damage(t, path, 16, 64)
		}},
		"damaged schema": {"damaged", func(t *testing.T, path string) {
			plain(t, path, `CREATE TABLE t (x)`, `INSERT INTO t VALUES (1)`)
			damage(t, path, 100, 900)
		}},
		"damaged table": {"damaged", func(t *testing.T, path string) {
			plain(t, path, `CREATE TABLE t (x)`, `INSERT INTO t VALUES (randomblob(60000))`)
			damage(t, path, 4096, 4096)
		}},
		"cut short": {"damaged", func(t *testing.T, path string) {
			plain(t, path, `CREATE TABLE t (x)`, `INSERT INTO t VALUES (randomblob(60000))`)
			if err := os.Truncate(path, 3*4096); err != nil {
				t.Fatal(err)
			}
		}},
		"newer version": {"version 999", func(t *testing.T, path string) {
			s := open(t, path, nil)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			plain(t, path, `INSERT INTO cruster_migration VALUES (999, 'future', 0)`)
		}},
		"foreign tables of our names": {"cruster_message", func(t *testing.T, path string) {
			plain(t, path, `CREATE TABLE cruster_message (x)`)
		}},
		"foreign marker": {"", func(t *testing.T, path string) {
			plain(t, path, `CREATE TABLE cruster_migration (x)`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file.db")
			c.make(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = sqlite.Open(path, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Open() = %v, want an error with %q and the name", err, c.want)
			}
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(before, after) {
				t.Error("the file has changed")
			}
			if _, err := sqlite.Open(path, nil); err == nil || strings.Contains(err.Error(), "this process") {
				t.Errorf("the second Open() = %v: a refused file must not stay locked", err)
			}
		})
	}
}

// TestUsersCrashIsRecovered opens a file whose last program died in the middle
// of a transaction with a rollback journal.
func TestUsersCrashIsRecovered(t *testing.T) {
	t.Parallel()
	path, crashed := filepath.Join(t.TempDir(), "a.db"), filepath.Join(t.TempDir(), "b.db")
	plain(t, path, `CREATE TABLE t (x)`, `INSERT INTO t VALUES (1)`)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=cache_size(5)")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 { // more than the cache holds, so that pages are written before the commit
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO t VALUES (randomblob(9000))`); err != nil {
			t.Fatal(err)
		}
	}
	for _, suffix := range []string{"", "-journal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(crashed+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, open(t, crashed, nil), `SELECT count(*) FROM t`); n != 1 {
		t.Errorf("%d rows, want the 1 that was committed", n)
	}
}

// damage overwrites a part of a file.
func damage(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0x5a}, n), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestUsersDatabaseIsWelcome(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app %41?#.db") // characters that mean something in a URI
	write(t, path, "")
	first := open(t, path, nil) // an empty file is an empty database
	mustExec(t, first, `CREATE TABLE orders (id TEXT PRIMARY KEY)`)
	mustExec(t, first, `INSERT INTO orders VALUES ('a')`)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file has another name: %v", err)
	}
	old := filepath.Join(t.TempDir(), "old.db")
	plain(t, old, `PRAGMA application_id = 77`, `PRAGMA user_version = 5`, `CREATE TABLE cruster (x)`, `INSERT INTO cruster VALUES (1)`)
	s := open(t, old, nil)
	m := message()
	if _, err := s.Commit(t.Context(), []storage.Unit{{Accepts: []crustertype.Message{m}}}); err != nil {
		t.Fatal(err)
	}
	var app, version, n int
	if err := s.DB().QueryRowContext(t.Context(), `SELECT a.application_id, u.user_version, (SELECT count(*) FROM cruster)
		FROM pragma_application_id a, pragma_user_version u`).Scan(&app, &version, &n); err != nil {
		t.Fatal(err)
	}
	if app != 77 || version != 5 || n != 1 {
		t.Errorf("application_id %d, user_version %d, %d rows: want 77, 5, 1: they are the user's", app, version, n)
	}
}
