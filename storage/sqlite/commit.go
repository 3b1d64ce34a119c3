package sqlite

import (
	"bytes"
	"context"
	_ "embed" // the statements
	"errors"
	"fmt"
	"slices"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

var (
	//go:embed query/insert_execution.sql
	insertExecution string
	//go:embed query/write_step.sql
	writeStep string
	//go:embed query/update_execution.sql
	updateExecution string
	//go:embed query/insert_schedule.sql
	insertSchedule string
	//go:embed query/update_schedule.sql
	updateSchedule string
)

const (
	selectLease   = `SELECT owner, epoch, token FROM cruster_shard WHERE shard = ?`
	existExec     = `SELECT ` + executionNoBody + ` FROM cruster_execution WHERE type = ? AND id = ?`
	executionNum  = `SELECT num FROM cruster_execution WHERE type = ? AND id = ?`
	adoptMessage  = `UPDATE cruster_message SET seq = ? WHERE id = ? AND seq = 0 AND state = 1`
	countAttempt  = `UPDATE cruster_message SET attempts = ? WHERE id = ? AND state = 1 AND attempts < ?`
	finishMessage = `UPDATE cruster_message SET state = ?, attempts = max(attempts, ?), outcome = ?, finished_at = ?
	WHERE id = ? AND state = 1`
	storedStep   = `SELECT ` + stepColumns + ` FROM cruster_step WHERE execution = ? AND run = ? AND pos = ?`
	noticeCancel = `UPDATE cruster_execution SET cancel_seen = 1 WHERE num = ? AND run = ? AND cancel_seen = 0`
	cancelExec   = `UPDATE cruster_execution SET cancel_reason = ?, cancel_at = ?
	WHERE type = ? AND id = ? AND cancel_at IS NULL AND status NOT BETWEEN 3 AND 6`
	selectSchedule = `SELECT ` + scheduleColumns + ` FROM cruster_schedule WHERE kind = ? AND name = ?`
)

// Commit applies all units in one transaction.
func (s *Store) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	var results []storage.Result
	err := s.write(ctx, func(c *conn) error {
		var err error
		results, err = apply(context.WithoutCancel(ctx), c, units)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.units.Add(int64(len(units)))
	return results, nil
}

// applier writes the units of one transaction.
type applier struct {
	ctx     context.Context // of the one call
	c       *conn
	units   []storage.Unit
	results []storage.Result
	args    []any                              // of one statement; kept for its capacity
	nums    map[crustertype.ExecutionRef]int64 // rows of executions; 0: none
}

// apply checks the leases and writes the units field by field.
func apply(ctx context.Context, c *conn, units []storage.Unit) ([]storage.Result, error) {
	a := &applier{ctx: ctx, c: c, units: units, results: make([]storage.Result, len(units))}
	if err := a.fence(); err != nil {
		return nil, err
	}
	if err := a.accepts(); err != nil {
		return nil, err
	}
	fields := [...]func(u *storage.Unit, res *storage.Result) error{
		a.starts, a.adopts, a.attempts, a.finishes, a.steps, a.updates, a.cancels, a.schedules,
	}
	for _, field := range fields {
		for i := range units {
			if err := field(&units[i], &a.results[i]); err != nil {
				if errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrNotFound) {
					err = &storage.UnitError{Index: i, Err: err}
				}
				return nil, err
			}
		}
	}
	return a.results, nil
}

// fence compares each lease with the row of its shard, once.
func (a *applier) fence() error {
	var seen map[crustertype.Lease]bool
	var lost []crustertype.Shard
	for i := range a.units {
		for _, l := range a.units[i].Leases {
			if seen[l] {
				continue
			}
			if seen == nil {
				seen = make(map[crustertype.Lease]bool)
			}
			seen[l] = true
			now, _, err := currentLease(a.ctx, a.c, l.Shard)
			if err != nil {
				return err
			}
			if l.Owner == 0 || now != l {
				lost = append(lost, l.Shard)
			}
		}
	}
	return fenced(lost)
}

// currentLease returns the lease of a shard, and whether it has a row.
func currentLease(ctx context.Context, c *conn, sh crustertype.Shard) (l crustertype.Lease, found bool, err error) {
	l.Shard = sh
	err = c.query(ctx, selectLease, func(r *row) error {
		found = true
		l.Owner, l.Epoch, l.Token = crustertype.Incarnation(r.int64()), r.int64(), r.blob16()
		return nil
	}, sh.String())
	return l, found, err
}

func fenced(lost []crustertype.Shard) error {
	if len(lost) == 0 {
		return nil
	}
	slices.SortFunc(lost, crustertype.Shard.Compare)
	return &storage.FencedError{Shards: slices.Compact(lost)}
}

func (a *applier) starts(u *storage.Unit, res *storage.Result) error {
	for i := range u.Starts {
		e := &u.Starts[i]
		n, err := a.c.exec(a.ctx, insertExecution, executionArgs(e)...)
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if res.Starts == nil {
			res.Starts = make([]storage.StartResult, len(u.Starts))
		}
		if err := a.c.query(a.ctx, existExec, func(r *row) error {
			old := readExecution(r)
			res.Starts[i].Existing = &old
			return nil
		}, e.Type, e.ID); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) adopts(u *storage.Unit, _ *storage.Result) error {
	for _, ad := range u.Adopts {
		if _, err := a.c.exec(a.ctx, adoptMessage, ad.Seq, ad.ID[:]); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) attempts(u *storage.Unit, _ *storage.Result) error {
	for _, at := range u.Attempts {
		if _, err := a.c.exec(a.ctx, countAttempt, at.N, at.ID[:], at.N); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) finishes(u *storage.Unit, _ *storage.Result) error {
	for i := range u.Finishes {
		f := &u.Finishes[i]
		if _, err := a.c.exec(a.ctx, finishMessage,
			int(f.State), f.Attempts, outcomeBytes(f.Outcome), maybe(f.At), f.ID[:]); err != nil {
			return err
		}
	}
	return nil
}

// execution returns the row of an execution, or 0.
func (a *applier) execution(ref crustertype.ExecutionRef) (num int64, err error) {
	if num, ok := a.nums[ref]; ok {
		return num, nil
	}
	err = a.c.query(a.ctx, executionNum, func(r *row) error { num = r.int64(); return nil }, ref.Type, ref.ID)
	if err == nil {
		if a.nums == nil {
			a.nums = make(map[crustertype.ExecutionRef]int64)
		}
		a.nums[ref] = num
	}
	return num, err
}

func (a *applier) steps(u *storage.Unit, _ *storage.Result) error {
	for i := range u.Steps {
		if err := a.step(&u.Steps[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) step(w *storage.StepWrite) error {
	num, err := a.execution(w.ExecutionRef)
	if err != nil {
		return err
	}
	st := &w.Step
	if num == 0 {
		return fmt.Errorf("step %d of execution %s: start the execution first: %w", st.Pos, w.ExecutionRef, storage.ErrNotFound)
	}
	n, err := a.c.exec(a.ctx, writeStep, stepArgs(num, st)...)
	if err != nil {
		return err
	}
	if n == 0 {
		var old crustertype.Step
		if err := a.c.query(a.ctx, storedStep, func(r *row) error { old = readStep(r); return nil }, num, st.Run, st.Pos); err != nil {
			return err
		}
		same := old.Kind == st.Kind && old.Name == st.Name && old.Digest == st.Digest
		if !same || st.Done() && (old.Seq != st.Seq || !bytes.Equal(outcomeBytes(old.Outcome), outcomeBytes(st.Outcome))) {
			return fmt.Errorf("step %d of execution %s is %s %q with sequence %d, not %s %q with %d: %w", st.Pos, w.ExecutionRef,
				old.Kind, old.Name, old.Seq, st.Kind, st.Name, st.Seq, storage.ErrConflict)
		}
	}
	if st.Kind == crustertype.StepCancel {
		_, err = a.c.exec(a.ctx, noticeCancel, num, st.Run)
	}
	return err
}

func (a *applier) updates(u *storage.Unit, _ *storage.Result) error {
	for i := range u.Updates {
		up := &u.Updates[i]
		finished := maybe(up.At)
		if !up.Status.Final() {
			finished = nil
		}
		if _, err := a.c.exec(a.ctx, updateExecution, int(up.Status), up.Attempts, maybe(up.WakeAt), up.WaitingFor,
			outcomeBytes(up.Outcome), micros(up.At), finished, up.Type, up.ID, up.Run); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) cancels(u *storage.Unit, _ *storage.Result) error {
	for _, ca := range u.Cancels {
		if _, err := a.c.exec(a.ctx, cancelExec, ca.Reason, maybe(ca.At), ca.Type, ca.ID); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) schedules(u *storage.Unit, _ *storage.Result) error {
	for i := range u.Schedules {
		if err := a.schedule(&u.Schedules[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) schedule(w *crustertype.Schedule) error {
	args := scheduleArgs(w)
	query := insertSchedule
	if w.Version != 1 {
		query, args = updateSchedule, append(args, w.Version-1)
	}
	n, err := a.c.exec(a.ctx, query, args...)
	if err != nil || n > 0 {
		return err
	}
	var old crustertype.Schedule
	if err := a.c.query(a.ctx, selectSchedule, func(r *row) error { old = readSchedule(r); return nil }, int(w.Kind), w.Name); err != nil {
		return err
	}
	if old.Version == w.Version && slices.EqualFunc(scheduleArgs(&old), scheduleArgs(w), equalArg) {
		return nil // sent again
	}
	return fmt.Errorf("schedule %q has version %d, so %d cannot be written: read it again: %w", w.Name, old.Version, w.Version, storage.ErrConflict)
}

// equalArg compares two values on their way into the database.
func equalArg(a, b any) bool {
	if x, ok := a.([]byte); ok {
		y, ok := b.([]byte)
		return ok && bytes.Equal(x, y)
	}
	return a == b
}
