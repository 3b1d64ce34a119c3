package postgres_test

import (
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// TestStatementsAndCommits pins what each operation costs.
func TestStatementsAndCommits(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lease := f.own(t, 0)
	leases := []crustertype.Lease{lease}
	f.account(t)
	m, keyed, e := message(), message(), execution("o-1")
	keyed.Key = "k"
	step := func(pos int) storage.StepWrite {
		return storage.StepWrite{ExecutionRef: e.ExecutionRef, Step: crustertype.Step{Run: 1, Pos: pos, Kind: crustertype.StepActivity, Name: "Charge", Seq: int64(pos + 1)}}
	}
	commit := func(units ...storage.Unit) func() error {
		return func() error {
			_, err := f.Commit(t.Context(), units)
			return err
		}
	}
	for _, op := range []struct {
		name                string
		statements, commits int64
		run                 func() error
	}{
		{"accept", 1, 1, commit(storage.Unit{Leases: leases, Accepts: []crustertype.Message{m}})},
		{"accept with key", 1, 1, commit(storage.Unit{Leases: leases, Accepts: []crustertype.Message{keyed}})},
		{"accept of a key that is there", 2, 1, commit(storage.Unit{Leases: leases, Accepts: []crustertype.Message{keyed}})},
		{"accept sent again", 3, 1, commit(storage.Unit{Leases: leases, Accepts: []crustertype.Message{m}})},
		{"finish", 1, 1, commit(storage.Unit{Leases: leases, Finishes: []storage.Finish{{ID: m.ID, State: crustertype.MessageDone, At: time.Now()}}})},
		{"start", 1, 1, commit(storage.Unit{Leases: leases, Starts: []crustertype.Execution{e}})},
		{"step", 1, 1, commit(storage.Unit{Leases: leases, Steps: []storage.StepWrite{step(0)}})},
		{"end", 1, 1, commit(storage.Unit{Leases: leases, Updates: []storage.Update{{ExecutionRef: e.ExecutionRef, Run: 1, Status: crustertype.StatusRunning}}})},
		{"units of 60 entities", 2, 1, commit(many(leases)...)},
		{"nothing", 0, 0, commit(storage.Unit{})},
		{"only a lease", 0, 1, commit(storage.Unit{Leases: leases})},
		{"transaction that is not used", 1, 1, func() error {
			ctx, st := f.handler(t)
			_, err := st.Commit(ctx, storage.Unit{Leases: leases, Steps: []storage.StepWrite{step(1)}})
			return err
		}},
		{"transaction of two statements", 3, 1, func() error {
			ctx, st := f.handler(t)
			for range 2 {
				if _, err := st.Exec(ctx, f.in("UPDATE @.account SET n = n + $1"), 1); err != nil {
					return err
				}
			}
			_, err := st.Commit(ctx, storage.Unit{Leases: leases, Steps: []storage.StepWrite{step(2)}})
			return err
		}},
		{"transaction that is rolled back", 1, 0, func() error {
			ctx, st := f.handler(t)
			if _, err := st.Exec(ctx, f.in("UPDATE @.account SET n = n + $1"), 1); err != nil {
				return err
			}
			return st.Rollback(ctx)
		}},
		{"renew", 1, 0, func() error { return f.Renew(t.Context(), lease.Owner, false, time.Hour) }},
	} {
		before := f.Stats()
		if err := op.run(); err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
		after := f.Stats()
		if s, c := after.Statements-before.Statements, after.Commits-before.Commits; s != op.statements || c != op.commits {
			t.Errorf("%s: %d statements and %d commits, want %d and %d", op.name, s, c, op.statements, op.commits)
		}
	}
}

// many are an accept and a finish of each of 60 entities.
func many(leases []crustertype.Lease) []storage.Unit {
	var units []storage.Unit
	for range 60 {
		m := message()
		units = append(units, storage.Unit{
			Leases: leases, Accepts: []crustertype.Message{m},
			Finishes: []storage.Finish{{ID: m.ID, State: crustertype.MessageDone, At: time.Now()}},
		})
	}
	return units
}
