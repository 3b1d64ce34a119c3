package sqlite

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

//go:embed migration/*.up.sql
var migrationFiles embed.FS

// migration is one step of the tables' history.
type migration struct {
	version int
	name    string
	text    string
}

// migrations returns the embedded ones in order.
func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migration/*.up.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	out := make([]migration, len(names))
	for i, file := range names {
		number, name, _ := strings.Cut(strings.TrimSuffix(path.Base(file), ".up.sql"), "_")
		text, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		out[i] = migration{i + 1, name, string(text)}
		if want := fmt.Sprintf("%03d", i+1); number != want {
			return nil, fmt.Errorf("bug in cruster: migration %q is not number %s", file, want)
		}
	}
	return out, nil
}

const migrationTable = `CREATE TABLE IF NOT EXISTS cruster_migration (
	version INTEGER NOT NULL PRIMARY KEY,
	name    TEXT    NOT NULL,
	at      INTEGER NOT NULL
) STRICT`

// version returns the version of the tables; 0 when there are none.
func version(ctx context.Context, c *conn) (int, error) {
	var marked bool
	var others []string
	if err := c.queryOnce(ctx, `SELECT name FROM sqlite_schema WHERE name LIKE 'cruster!_%' ESCAPE '!' ORDER BY name`, func(r *row) error {
		if name := r.text(); name == "cruster_migration" {
			marked = true
		} else {
			others = append(others, name)
		}
		return nil
	}); err != nil {
		return 0, err
	}
	if !marked {
		if len(others) > 0 {
			return 0, fmt.Errorf("the file has a table %q, but cruster did not make it: names that begin with %q are cruster's", others[0], ownPrefix)
		}
		return 0, nil
	}
	v := 0
	return v, c.queryOnce(ctx, `SELECT coalesce(max(version), 0) FROM cruster_migration`, func(r *row) error { v = r.int(); return nil })
}

// checkVersion refuses tables of a newer cruster.
func checkVersion(ctx context.Context, c *conn, all []migration) error {
	v, err := version(ctx, c)
	if err == nil && v > len(all) {
		err = fmt.Errorf("its tables have version %d, and this program knows %d at most: use the newer version of cruster that wrote them", v, len(all))
	}
	return err
}

// migrate runs what is missing, all or nothing. It runs before the store is
// used, and is not counted.
func (w *writer) migrate(ctx context.Context, all []migration) error {
	return w.do(func(c *conn) error {
		counted := c.count.Load()
		defer c.count.Store(counted)
		if err := checkVersion(ctx, c, all); err != nil {
			return err
		}
		if v, err := version(ctx, c); err != nil || v == len(all) {
			return err
		}
		if err := w.begin(ctx); err != nil {
			return err
		}
		err := migrateNow(ctx, c, all)
		if err == nil {
			err = c.control(ctx, commit)
		}
		if err != nil {
			w.rollback(ctx)
		}
		return err
	})
}

// migrateNow is migrate inside the transaction.
func migrateNow(ctx context.Context, c *conn, all []migration) error {
	if err := c.script(ctx, migrationTable); err != nil {
		return err
	}
	v, err := version(ctx, c)
	if err != nil {
		return err
	}
	for _, m := range all[v:] {
		if err := c.script(ctx, m.text); err != nil {
			return fmt.Errorf("migration %d (%s): %w", m.version, m.name, err)
		}
		if _, err := c.exec(ctx, `INSERT INTO cruster_migration (version, name, at) VALUES (?, ?, ?)`,
			m.version, m.name, micros(time.Now())); err != nil {
			return err
		}
	}
	return nil
}
