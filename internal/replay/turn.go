package replay

import (
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// takeTurn begins the completion of a step: one at a time, so that the order in
// which steps become visible is that of their sequence numbers. It reports false
// when the engine ends. A channel, not a mutex: whoever holds it may wait for
// storage.
func (r *Run) takeTurn() bool {
	select {
	case r.turn <- struct{}{}:
		return true
	case <-r.e.ctx.Done():
		return false
	}
}

func (r *Run) endTurn() { <-r.turn }

// mayWrite reports whether rows may still be added: not after the run was
// parked, has died or has lost its shard.
func (r *Run) mayWrite() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exit == nil || r.exit.kind == exitDrained
}

func (r *Run) nextSeq() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	return r.seq
}

// rows are the writes of journal rows.
func (r *Run) rows(rows ...crustertype.Step) []storage.StepWrite {
	w := make([]storage.StepWrite, len(rows))
	for i, row := range rows {
		w[i] = storage.StepWrite{ExecutionRef: r.x.ExecutionRef, Step: row}
	}
	return w
}

// progress adds to u, which completes a step, that the execution got further:
// runs that ended before it do not count any more.
func (r *Run) progress(u storage.Unit) storage.Unit {
	r.mu.Lock()
	stored := r.stored
	r.stored, r.moved, r.marked = 0, true, false
	r.mu.Unlock()
	if stored > 0 {
		u.Updates = append(u.Updates, r.update(crustertype.StatusRunning, 0, time.Time{}, "", crustertype.Outcome{}))
	}
	return u
}

// finished is the step's row with its outcome.
func (s *step) finished(out crustertype.Outcome) crustertype.Step {
	row := s.row
	row.Seq, row.Outcome, row.At, row.Due = s.r.nextSeq(), out, now(), time.Time{}
	if s.call.Kind == crustertype.StepSleep {
		row.Due = s.row.Due
	} else if out.Failure == nil {
		row.Attempts++
	}
	return row
}

// show makes the step's outcome visible to the workflow's code.
func (s *step) show(row crustertype.Step) {
	s.r.mu.Lock()
	s.row, s.done = row, true
	s.r.mu.Unlock()
	s.r.kickIt()
}

// pause waits for d, and reports false when the run is to end.
func (r *Run) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.life.Done():
	case <-r.e.ctx.Done():
	}
	return false
}
