package postgres_test

import "testing"

// TestSchemaHasNoTriggers keeps out what would run for each row; a trigger that
// notifies makes all commits of a database wait for each other.
func TestSchemaHasNoTriggers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if _, err := f.Runners(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := f.number(t, `SELECT count(*) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1`, f.schema); n != 0 {
		t.Errorf("%d triggers (or foreign keys, which are made of them), want none", n)
	}
	if n := f.number(t, `SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname = $1 AND p.prosrc ~* 'notify'`, f.schema); n != 0 {
		t.Errorf("%d functions notify, want none", n)
	}
}
