package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// Commit applies the units.
func (s *store) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.commit(units)
}

// commit checks everything that can be refused, undoing on a refusal what it
// had to write for the check, and then applies the rest, which cannot fail.
func (s *store) commit(units []storage.Unit) ([]storage.Result, error) {
	if err := s.fence(units); err != nil {
		return nil, err
	}
	results := make([]storage.Result, len(units))
	for i := range units {
		s.start(&units[i], &results[i])
	}
	if i, err := s.refusable(units); err != nil {
		s.rollback()
		return nil, &storage.UnitError{Index: i, Err: err}
	}
	clear(s.undo)
	s.undo = s.undo[:0]
	for i := range units {
		s.accept(&units[i], &results[i])
	}
	for i := range units {
		for _, a := range units[i].Adopts {
			s.adopt(a)
		}
	}
	for i := range units {
		for _, a := range units[i].Attempts {
			if m := s.messages[a.ID]; m != nil && m.State == crustertype.MessagePending {
				m.Attempts = max(m.Attempts, a.N)
			}
		}
	}
	for i := range units {
		for j := range units[i].Finishes {
			s.finish(&units[i].Finishes[j])
		}
	}
	for i := range units {
		for j := range units[i].Steps {
			s.noticeCancel(&units[i].Steps[j])
		}
	}
	for i := range units {
		for j := range units[i].Updates {
			s.update(&units[i].Updates[j])
		}
	}
	for i := range units {
		for _, c := range units[i].Cancels {
			s.cancel(c)
		}
	}
	s.stats.Commits++
	s.stats.Units += int64(len(units))
	return results, nil
}

// fence reports the leases that are not current.
func (s *store) fence(units []storage.Unit) error {
	var lost []crustertype.Shard
	for i := range units {
		lost = s.stale(lost, units[i].Leases)
	}
	return fenced(lost)
}

// stale appends the shards of those leases that are not current.
func (s *store) stale(lost []crustertype.Shard, leases []crustertype.Lease) []crustertype.Shard {
	for _, l := range leases {
		if sh := s.shards[l.Shard]; sh == nil || sh.lease != l || l.Owner == 0 {
			lost = append(lost, l.Shard)
		}
	}
	return lost
}

func fenced(lost []crustertype.Shard) error {
	if len(lost) == 0 {
		return nil
	}
	slices.SortFunc(lost, crustertype.Shard.Compare)
	return &storage.FencedError{Shards: slices.Compact(lost)}
}

// undo takes back one write that was made while a later one could still be
// refused.
type undo struct {
	exec     *execution // of a start, or of a step; nil: a schedule
	isStep   bool
	run, pos int
	step     *crustertype.Step // what was there; nil: nothing
	sched    scheduleKey
	old      *crustertype.Schedule // what was there; nil: nothing
}

func (s *store) rollback() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		u := &s.undo[i]
		switch {
		case u.isStep:
			u.exec.setStep(u.run, u.pos, u.step)
		case u.exec != nil:
			s.dropExecution(u.exec)
		case u.old == nil:
			delete(s.schedules, u.sched)
		default:
			s.schedules[u.sched] = u.old
		}
	}
	clear(s.undo)
	s.undo = s.undo[:0]
}

// start inserts executions. It runs before all else because steps need them;
// nothing between the two fields can see the difference.
func (s *store) start(u *storage.Unit, res *storage.Result) {
	for i := range u.Starts {
		in := &u.Starts[i]
		if e := s.execs[in.ExecutionRef]; e != nil {
			if res.Starts == nil {
				res.Starts = make([]storage.StartResult, len(u.Starts))
			}
			existing := cloneExecution(e.Execution, false)
			res.Starts[i].Existing = &existing
			continue
		}
		e := &execution{Execution: cloneExecution(*in, true), home: s.shard(in.Shard), kind: s.execType(in.Type)}
		stampExecution(&e.Execution)
		s.execs[in.ExecutionRef] = e
		s.execLog.insert(e)
		e.index()
		s.undo = append(s.undo, undo{exec: e})
	}
}

// dropExecution removes e and its journal.
func (s *store) dropExecution(e *execution) {
	e.unindex()
	s.execLog.remove(e)
	delete(s.execs, e.ExecutionRef)
}

// refusable writes what a stored row can refuse. It returns the unit that was
// refused and why.
func (s *store) refusable(units []storage.Unit) (int, error) {
	for i := range units {
		for j := range units[i].Steps {
			if err := s.writeStep(&units[i].Steps[j]); err != nil {
				return i, err
			}
		}
	}
	for i := range units {
		for j := range units[i].Schedules {
			if err := s.writeSchedule(&units[i].Schedules[j]); err != nil {
				return i, err
			}
		}
	}
	return 0, nil
}

func (s *store) writeStep(w *storage.StepWrite) error {
	e := s.execs[w.ExecutionRef]
	if e == nil {
		return fmt.Errorf("step %d of execution %s: start the execution first: %w", w.Step.Pos, w.ExecutionRef, storage.ErrNotFound)
	}
	old := e.step(w.Step.Run, w.Step.Pos)
	if old != nil {
		same := old.Kind == w.Step.Kind && old.Name == w.Step.Name && old.Digest == w.Step.Digest
		switch {
		case same && !old.Done():
		case same && (!w.Step.Done() || old.Seq == w.Step.Seq && equalOutcome(old.Outcome, w.Step.Outcome)):
			return nil // sent again
		default:
			return fmt.Errorf("step %d of execution %s is %s %q with sequence %d, not %s %q with %d: %w", w.Step.Pos, w.ExecutionRef,
				old.Kind, old.Name, old.Seq, w.Step.Kind, w.Step.Name, w.Step.Seq, storage.ErrConflict)
		}
	}
	st := cloneStep(w.Step)
	st.Due, st.At = stamp(st.Due), stamp(st.At)
	e.setStep(st.Run, st.Pos, &st)
	s.undo = append(s.undo, undo{exec: e, isStep: true, run: st.Run, pos: st.Pos, step: old})
	return nil
}

// step returns a row of the journal, or nil.
func (e *execution) step(run, pos int) *crustertype.Step {
	if r, ok := e.journal(run); ok {
		if i, ok := e.runs[r].find(pos); ok {
			return e.runs[r].steps[i]
		}
	}
	return nil
}

// setStep puts a row into the journal, or takes it out when st is nil.
func (e *execution) setStep(run, pos int, st *crustertype.Step) {
	r, ok := e.journal(run)
	if !ok {
		e.runs = slices.Insert(e.runs, r, journal{run: run})
	}
	j := &e.runs[r]
	i, ok := j.find(pos)
	switch {
	case ok && st != nil:
		j.steps[i] = st
	case ok:
		j.steps = slices.Delete(j.steps, i, i+1)
	case st != nil:
		j.steps = slices.Insert(j.steps, i, st)
	}
}

func (s *store) writeSchedule(in *crustertype.Schedule) error {
	w := cloneSchedule(*in)
	stampSchedule(&w)
	key := scheduleKey{w.Kind, w.Name}
	old := s.schedules[key]
	stored := int64(0)
	if old != nil {
		stored = old.Version
	}
	if w.Version != stored+1 {
		if old != nil && equalSchedule(old, &w) {
			return nil // sent again
		}
		return fmt.Errorf("schedule %q has version %d, so %d cannot be written: read it again: %w", w.Name, stored, w.Version, storage.ErrConflict)
	}
	s.schedules[key] = &w
	s.undo = append(s.undo, undo{sched: key, old: old})
	return nil
}

func (s *store) accept(u *storage.Unit, res *storage.Result) {
	for i := range u.Accepts {
		in := &u.Accepts[i]
		if m := s.messages[in.ID]; m != nil {
			if res.Accepts == nil {
				res.Accepts = make([]storage.AcceptResult, len(u.Accepts))
			}
			existing := cloneMessage(m.Message, false)
			res.Accepts[i].Existing = &existing
			continue
		}
		m := &message{Message: cloneMessage(*in, true), home: s.shard(in.Shard), kind: s.messageType(in.Address.Type)}
		stampMessage(&m.Message)
		s.messages[in.ID] = m
		s.messageLog.insert(m)
		m.index()
	}
}

// dropMessage removes m.
func (s *store) dropMessage(m *message) {
	m.unindex()
	s.messageLog.remove(m)
	delete(s.messages, m.ID)
}

func (s *store) adopt(a storage.Adopt) {
	m := s.messages[a.ID]
	if m == nil || m.Seq != 0 || m.State != crustertype.MessagePending {
		return
	}
	m.unindex()
	m.Seq = a.Seq
	m.index()
}

func (s *store) finish(f *storage.Finish) {
	m := s.messages[f.ID]
	if m == nil || m.State != crustertype.MessagePending {
		return
	}
	m.unindex()
	m.State, m.Attempts = f.State, max(m.Attempts, f.Attempts)
	m.Outcome, m.FinishedAt = cloneOutcome(f.Outcome), stamp(f.At)
	m.index()
}

// noticeCancel remembers that a journal shows the cancel.
func (s *store) noticeCancel(w *storage.StepWrite) {
	if w.Step.Kind != crustertype.StepCancel {
		return
	}
	if e := s.execs[w.ExecutionRef]; e != nil && e.Run == w.Step.Run && !e.cancelSeen {
		e.unindex()
		e.cancelSeen = true
		e.index()
	}
}

func (s *store) update(u *storage.Update) {
	e := s.execs[u.ExecutionRef]
	if e == nil || e.Run != u.Run || e.Status.Final() {
		return
	}
	e.unindex()
	e.Status, e.Attempts, e.WakeAt, e.WaitingFor = u.Status, u.Attempts, stamp(u.WakeAt), u.WaitingFor
	e.Outcome, e.UpdatedAt = cloneOutcome(u.Outcome), stamp(u.At)
	if e.Status.Final() {
		e.FinishedAt = e.UpdatedAt
	}
	e.index()
}

func (s *store) cancel(c storage.Cancel) {
	e := s.execs[c.ExecutionRef]
	if e == nil || e.Status.Final() || !e.CancelAt.IsZero() {
		return
	}
	e.unindex()
	e.CancelReason, e.CancelAt = c.Reason, stamp(c.At)
	e.index()
}

// Begin returns a transaction, whose only statement is its commit.
func (s *store) Begin(ctx context.Context) (storage.Tx, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	s.mu.Unlock()
	return &tx{store: s}, nil
}

// errNoSQL names the way out.
var errNoSQL = fmt.Errorf("memory storage executes no SQL, use sqlite.OpenMemory() for tests that need it: %w", storage.ErrNoSQL)

// tx is a transaction without statements.
type tx struct {
	store *store
	done  bool
}

// Exec returns an error that wraps ErrNoSQL.
func (t *tx) Exec(context.Context, string, ...any) (int64, error) { return 0, t.refuse() }

// Query returns an error that wraps ErrNoSQL.
func (t *tx) Query(context.Context, string, ...any) (storage.Rows, error) { return nil, t.refuse() }

// QueryRow returns a row whose Scan gives an error that wraps ErrNoSQL.
func (t *tx) QueryRow(context.Context, string, ...any) storage.Row { return failedRow{t.refuse()} }

func (t *tx) refuse() error {
	if t.done {
		return storage.ErrTxDone
	}
	return errNoSQL
}

// Commit applies unit.
func (t *tx) Commit(ctx context.Context, unit storage.Unit) (storage.Result, error) {
	if t.done {
		return storage.Result{}, storage.ErrTxDone
	}
	t.done = true
	results, err := t.store.Commit(ctx, []storage.Unit{unit})
	if err != nil {
		return storage.Result{}, err
	}
	return results[0], nil
}

// Rollback ends the transaction.
func (t *tx) Rollback(context.Context) error {
	t.done = true
	return nil
}

type failedRow struct{ err error }

// Scan returns the error of the query.
func (r failedRow) Scan(...any) error { return r.err }
