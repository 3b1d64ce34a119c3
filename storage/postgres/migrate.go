package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migration/*.up.sql
var migrationFiles embed.FS

// Migration is one numbered change of the schema. Migrations go forward only,
// and never touch anything outside of cruster's schema.
type Migration struct {
	Version int
	Name    string
	// CompatibleFrom is the oldest version of this package, as the number of
	// its newest migration, that still works once this one is applied. It is
	// what makes rolling upgrades safe.
	CompatibleFrom int
	AppliedAt      time.Time // zero: not yet

	text string
}

// MigrationStatus says where a schema stands.
type MigrationStatus struct {
	Version int // of the schema; 0: nothing there
	Latest  int // that this build knows
	Applied []Migration
	Pending []Migration

	compatibleFrom int // highest CompatibleFrom of the applied ones
}

// fits reports a schema that this build cannot work with.
func (m MigrationStatus) fits(schema string) error {
	switch {
	case m.Version < m.Latest:
		return fmt.Errorf("postgres: schema %q has version %d, this build needs %d: call Migrate, set Options.AutoMigrate, "+
			"or have a DBA run what postgres.MigrationSQL prints", schema, m.Version, m.Latest)
	case m.compatibleFrom > m.Latest:
		return fmt.Errorf("postgres: schema %q has version %d, which needs a build that knows version %d; this one knows %d: upgrade this program",
			schema, m.Version, m.compatibleFrom, m.Latest)
	}
	return nil
}

// migrations returns all migrations in order.
func migrations() ([]Migration, error) {
	files, err := fs.Glob(migrationFiles, "migration/*.up.sql")
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	var out []Migration
	for i, file := range files {
		b, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("postgres: %w", err)
		}
		number, name, _ := strings.Cut(strings.TrimSuffix(path.Base(file), ".up.sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("postgres: %s is not migration %d", file, i+1)
		}
		m := Migration{Version: version, Name: name, text: string(b)}
		head, _, _ := strings.Cut(m.text, "\n")
		if _, err := fmt.Sscanf(head, "-- compatible-from: %d", &m.CompatibleFrom); err != nil {
			return nil, fmt.Errorf("postgres: %s does not begin with \"-- compatible-from: N\"", file)
		}
		out = append(out, m)
	}
	return out, nil
}

const migrationTable = `CREATE TABLE IF NOT EXISTS {{schema}}.migration (
    version         integer PRIMARY KEY,
    name            text NOT NULL,
    compatible_from integer NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT now()
)`

// MigrationSQL returns the statements that bring a schema from a version to
// the newest one, as one transaction, for a DBA to read and run. 0 is the
// version of a schema that does not exist.
func MigrationSQL(schema string, from int) (string, error) {
	if err := checkSchema(schema); err != nil {
		return "", err
	}
	all, err := migrations()
	if err != nil {
		return "", err
	}
	if from < 0 || from > len(all) {
		return "", fmt.Errorf("postgres: version %d does not exist: 0 to %d do", from, len(all))
	}
	var b strings.Builder
	b.WriteString("BEGIN;\n")
	if from == 0 {
		b.WriteString(inSchema("CREATE SCHEMA IF NOT EXISTS {{schema}};\n", schema))
	}
	fmt.Fprintf(&b, "%s;\n%s;\n", lockMigrations(schema), inSchema(migrationTable, schema))
	for _, m := range all[from:] {
		fmt.Fprintf(&b, "\n%s\n%s;\n", inSchema(m.text, schema), m.record(schema))
	}
	b.WriteString("COMMIT;\n")
	return b.String(), nil
}

// record notes that m is applied. Applying it twice fails there.
func (m *Migration) record(schema string) string {
	return inSchema(fmt.Sprintf("INSERT INTO {{schema}}.migration (version, name, compatible_from) VALUES (%d, '%s', %d)",
		m.Version, m.Name, m.CompatibleFrom), schema)
}

// lockMigrations lets one migrator of a schema in at a time.
func lockMigrations(schema string) string {
	return fmt.Sprintf("SELECT pg_advisory_xact_lock(hashtext('cruster migration'), hashtext('%s'))", schema)
}

// Migrate applies what is missing, in one transaction. It may be called by many
// processes at once, and does nothing when the schema is up to date.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.hold(); err != nil {
		return err
	}
	defer s.calls.Done()
	return s.migrate(ctx)
}

func (s *Store) migrate(ctx context.Context) error {
	st, err := s.status(ctx)
	if err != nil || len(st.Pending) == 0 {
		return err
	}
	err = pgx.BeginTxFunc(ctx, s.control, txOptions, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockMigrations(s.opt.Schema)); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "SELECT to_regnamespace($1::text) IS NOT NULL", s.opt.Schema).Scan(&there); err != nil {
			return err
		}
		if !there { // IF NOT EXISTS would ask for the privilege all the same
			if _, err := tx.Exec(ctx, inSchema("CREATE SCHEMA {{schema}}", s.opt.Schema)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, inSchema(migrationTable, s.opt.Schema)); err != nil {
			return err
		}
		st, err := statusOf(ctx, tx, s.opt.Schema)
		if err != nil {
			return err
		}
		for _, m := range st.Pending {
			// Without arguments the whole text is one simple query.
			if _, err := tx.Exec(ctx, inSchema(m.text, s.opt.Schema), pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("migration %03d_%s: %w", m.Version, m.Name, err)
			}
			if _, err := tx.Exec(ctx, m.record(s.opt.Schema)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return classify(ctx, fmt.Errorf("postgres: migrate schema %q: %w", s.opt.Schema, err), true)
	}
	return nil
}

// MigrationStatus returns where the schema stands.
func (s *Store) MigrationStatus(ctx context.Context) (MigrationStatus, error) {
	if err := s.hold(); err != nil {
		return MigrationStatus{}, err
	}
	defer s.calls.Done()
	return s.status(ctx)
}

func (s *Store) status(ctx context.Context) (MigrationStatus, error) {
	st, err := statusOf(ctx, s.control, s.opt.Schema)
	if err != nil {
		return st, classify(ctx, fmt.Errorf("postgres: read the version of schema %q: %w", s.opt.Schema, err), false)
	}
	return st, nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

var (
	_ querier = (*pgxpool.Pool)(nil)
	_ querier = pgx.Tx(nil)
)

func statusOf(ctx context.Context, db querier, schema string) (MigrationStatus, error) {
	all, err := migrations()
	if err != nil {
		return MigrationStatus{}, err
	}
	st := MigrationStatus{Latest: len(all), Pending: all}
	var there bool
	err = db.QueryRow(ctx, "SELECT to_regclass($1::text) IS NOT NULL", pgx.Identifier{schema, "migration"}.Sanitize()).Scan(&there)
	if err != nil || !there {
		return st, err
	}
	rows, _ := db.Query(ctx, inSchema("SELECT version, name, compatible_from, applied_at FROM {{schema}}.migration ORDER BY version", schema))
	var m Migration
	_, err = pgx.ForEachRow(rows, []any{&m.Version, &m.Name, &m.CompatibleFrom, &m.AppliedAt}, func() error {
		if m.Version != len(st.Applied)+1 {
			return errors.New("the versions have a gap: restore the migration table")
		}
		st.Applied = append(st.Applied, m)
		st.compatibleFrom = max(st.compatibleFrom, m.CompatibleFrom)
		return nil
	})
	st.Version = len(st.Applied)
	st.Pending = all[min(st.Version, len(all)):]
	return st, err
}
