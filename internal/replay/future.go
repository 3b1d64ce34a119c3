package replay

import (
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// Future is a step that may still be under way.
type Future struct{ s *step }

// Await waits for futures and returns their outcomes in the same order. Unless
// all is set, it waits for the first and returns its index as well: the one
// that ended first, the same at every replay. The error says why there are no
// outcomes: a step was refused, or the execution is cancelled.
func (r *Run) Await(all bool, fs ...*Future) ([]crustertype.Outcome, int, error) {
	if err := r.begin("wait for futures"); err != nil {
		return nil, -1, err
	}
	if len(fs) == 0 {
		return nil, -1, crustertype.Errorf(crustertype.CodeInvalid, "wait for futures: there are none")
	}
	for _, f := range fs {
		switch {
		case f == nil || f.s == nil:
			return nil, -1, crustertype.Errorf(crustertype.CodeInvalid, "wait for futures: one is the zero Future: make it with Go")
		case f.s.r != r:
			return nil, -1, crustertype.Errorf(crustertype.CodeInvalid, "wait for futures: %s %q belongs to another execution", f.s.call.Kind, f.s.call.Name)
		case f.s.err != nil:
			return nil, -1, f.s.err
		}
	}
	r.block(func() bool {
		n := 0
		for _, f := range fs {
			if f.s.done {
				n++
			}
		}
		return n == len(fs) || (!all && n > 0)
	}, time.Time{}, "steps")
	if all {
		outs := make([]crustertype.Outcome, len(fs))
		for i, f := range fs {
			outs[i] = r.see(f.s)
		}
		return outs, 0, nil
	}
	// Completions become visible in the order of their numbers, so the lowest
	// number among the visible is the lowest that there will ever be.
	first := -1
	r.mu.Lock()
	for i, f := range fs {
		if f.s.done && (first < 0 || f.s.row.Seq < fs[first].s.row.Seq) {
			first = i
		}
	}
	r.mu.Unlock()
	return []crustertype.Outcome{r.see(fs[first].s)}, first, nil
}

// see observes a step that is done.
func (r *Run) see(s *step) crustertype.Outcome {
	r.mu.Lock()
	row := s.row
	r.mu.Unlock()
	r.cursor.Observe(&row)
	return row.Outcome
}
