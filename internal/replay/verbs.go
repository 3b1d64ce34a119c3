package replay

import (
	"encoding/binary"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/journal"
	"github.com/cruster-go/cruster/storage"
)

// Sleep waits for d, durably. A cancel ends it early.
func (r *Run) Sleep(d time.Duration) error {
	var digest [16]byte
	binary.BigEndian.PutUint64(digest[8:], uint64(d))
	return r.sleep("sleep", digest, func() time.Time { return after(d) })
}

// SleepUntil waits until t, durably. A cancel ends it early.
func (r *Run) SleepUntil(t time.Time) error {
	var digest [16]byte
	binary.BigEndian.PutUint64(digest[:8], uint64(t.Unix()))
	binary.BigEndian.PutUint64(digest[8:], uint64(t.Nanosecond()))
	return r.sleep("sleep until", digest, func() time.Time { return ceil(t) })
}

func (r *Run) sleep(name string, digest [16]byte, due func() time.Time) error {
	if err := r.begin(name); err != nil {
		return err
	}
	s, err := r.requestSleep(name, digest, due)
	if err != nil {
		return err
	}
	if !s.done && !s.execute() {
		r.leave()
	}
	r.cursor.Observe(&s.row)
	if s.row.Outcome.Failure == nil {
		return nil
	}
	// The cancel that ended it is noticed by this very operation.
	if err := r.notice(); err != nil {
		return err
	}
	return decodeFailure(s.row.Outcome.Failure)
}

func (r *Run) requestSleep(name string, digest [16]byte, due func() time.Time) (*step, error) {
	s := &step{r: r, call: Call{Kind: crustertype.StepSleep, Name: name}, free: r.detached}
	pos, recorded, err := r.next(journal.Request{Kind: crustertype.StepSleep, Name: name, Digest: digest})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	s.work = r.work
	r.mu.Unlock()
	if recorded != nil {
		s.row, s.done = *recorded, recorded.Done()
		return s, nil
	}
	s.row = crustertype.Step{Run: r.x.Run, Pos: pos, Kind: crustertype.StepSleep, Name: name, Digest: digest, Due: due(), At: now()}
	if !reached(s.row.Due) {
		r.submit(storage.Unit{Steps: r.rows(s.row)})
	}
	return s, nil
}

// Timer is a sleep whose end can be awaited together with other futures.
func (r *Run) Timer(d time.Duration) *Future {
	call := Call{Kind: crustertype.StepSleep, Name: "timer"}
	err := r.check("timer")
	if err == nil && !r.detached && r.cancelled != nil {
		err = r.cancelled
	}
	if err != nil {
		return &Future{s: &step{r: r, call: call, done: true, err: err}}
	}
	var digest [16]byte
	binary.BigEndian.PutUint64(digest[8:], uint64(d))
	s, err := r.requestSleep("timer", digest, func() time.Time { return after(d) })
	if err != nil {
		return &Future{s: &step{r: r, call: call, done: true, err: err}}
	}
	r.launch(s)
	return &Future{s: s}
}

// Changed answers whether the code may take the branch of a change.
func (r *Run) Changed(id string) bool {
	if r.check("Changed") != nil {
		return false
	}
	changed, write, pos := r.cursor.Changed(id)
	if write {
		r.submit(r.progress(storage.Unit{Steps: r.rows(crustertype.Step{
			Run: r.x.Run, Pos: pos, Kind: crustertype.StepMarker, Name: id, Seq: r.nextSeq(), At: now(),
		})}))
	}
	return changed
}

// OnFailure registers a compensation. It runs, journaled, when the execution
// fails or is cancelled; the one registered last runs first.
func (r *Run) OnFailure(f func(*Run) error) {
	if r.check("OnFailure") == nil {
		r.undo = append(r.undo, f)
	}
}

// Now returns the time of the latest step that the code has seen.
func (r *Run) Now() time.Time { return r.cursor.Now() }

// NewID returns an ID that is the same at every replay, and unique.
func (r *Run) NewID() crustertype.RequestID {
	r.ids++
	return crustertype.ChildRequestID(r.x.ExecutionRef, r.x.Run, -r.ids)
}

// Cancelled returns the cancel that the code has noticed, or nil.
func (r *Run) Cancelled() error { return r.cancelled }

// Execution returns which execution this is, without its input.
func (r *Run) Execution() crustertype.Execution {
	x := r.x
	x.Input = nil
	return x
}

// Replaying reports whether the code does again what is recorded.
func (r *Run) Replaying() bool { return !r.cursor.Frontier() }

// Refuse parks the execution for a recorded result that the code cannot read,
// and does not return.
func (r *Run) Refuse(err error) {
	r.park(crustertype.Errorf(crustertype.CodeNondeterminism, "a recorded result does not fit the code any more, at %s: %w", place(), err))
	r.leave()
}
