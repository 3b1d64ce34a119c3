package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/journal"
	"github.com/cruster-go/cruster/storage"
)

// step is one requested step, under way or done.
type step struct {
	r    *Run
	call Call
	args []byte
	work context.Context // of its attempts
	own  bool            // has a goroutine of its own
	free bool            // detached: a cancel does not concern it

	// row is what is stored, or will be. It is guarded by r.mu once done is set;
	// before, it belongs to whoever executes the step.
	row  crustertype.Step
	done bool  // visible to workflow code
	err  error // why there is no row: refused or cancelled before it began
}

// request takes the next position for a call and returns its step, which is
// done if the journal has its outcome. When the journal has another step there,
// it does not return.
func (r *Run) request(c Call) (*step, error) {
	s := &step{r: r, call: c, free: r.detached}
	req := journal.Request{Kind: c.Kind, Name: c.Name}
	if c.In != nil {
		var err error
		if req.Digest, err = codec.Digest(c.In); err == nil {
			s.args, err = r.e.cfg.Codec.Marshal(c.In)
		}
		if err != nil {
			return nil, crustertype.Errorf(crustertype.CodeEncoding, "encode the arguments of %s %q: %w", c.Kind, c.Name, err)
		}
		if len(s.args) > r.e.cfg.MaxPayload {
			return nil, crustertype.Errorf(crustertype.CodeTooLarge, "the arguments of %s %q have %d bytes: at most %d are allowed",
				c.Kind, c.Name, len(s.args), r.e.cfg.MaxPayload)
		}
		if len(s.args) <= r.e.cfg.MaxArgs {
			req.Args, req.Codec = s.args, r.e.cfg.Codec.Name()
		}
	}
	pos, recorded, err := r.next(req)
	if err != nil {
		return nil, err
	}
	if recorded != nil {
		s.row, s.done = *recorded, recorded.Done()
	} else {
		s.row = crustertype.Step{Run: r.x.Run, Pos: pos, Kind: c.Kind, Name: c.Name, Digest: req.Digest, Args: req.Args, Codec: req.Codec, At: now()}
	}
	r.mu.Lock()
	s.work = r.work
	r.mu.Unlock()
	return s, nil
}

// next asks the journal. When that refuses, it does not return, unless the
// history is too long.
func (r *Run) next(req journal.Request) (int, *crustertype.Step, error) {
	pos, recorded, err := r.cursor.Next(req)
	switch {
	case err == nil:
		return pos, recorded, nil
	case crustertype.CodeOf(err) == crustertype.CodeHistoryTooLong:
		if r.refused++; r.refused > 1000 {
			r.stop(&exit{kind: exitDead, cause: encodeFailure(crustertype.Errorf(crustertype.CodeHistoryTooLong, "%w, and it goes on after it was refused", err))})
			r.leave()
		}
		return 0, nil, err
	}
	m := err.(*journal.Mismatch) //nolint:errorlint // the two errors of Next
	m.Place = place()
	r.explain(m)
	r.park(m)
	r.leave()
	return 0, nil, nil
}

// explain fills in how the arguments of two steps differ.
func (r *Run) explain(m *journal.Mismatch) {
	if m.Requested == nil || len(m.Recorded.Args) == 0 || len(m.Requested.Args) == 0 {
		return
	}
	was, err := r.e.cfg.Lookup(m.Recorded.Codec)
	if err != nil {
		return
	}
	is, err := r.e.cfg.Lookup(m.Requested.Codec)
	if err != nil {
		return
	}
	var a, b any
	if was.Unmarshal(m.Recorded.Args, &a) == nil && is.Unmarshal(m.Requested.Args, &b) == nil {
		m.TimeArg = timeDiffers(a, b)
	}
	if m.Recorded.Codec == m.Requested.Codec {
		m.Diff = codec.DiffPayloads(m.Recorded.Args, m.Requested.Args, is)
	}
}

// timeDiffers reports whether two loosely decoded values differ in a time.
func timeDiffers(a, b any) bool {
	switch x := a.(type) {
	case time.Time:
		y, ok := b.(time.Time)
		return ok && !x.Equal(y)
	case string: // JSON keeps times as text
		y, _ := b.(string)
		t, err := time.Parse(time.RFC3339Nano, x)
		u, err2 := time.Parse(time.RFC3339Nano, y)
		return err == nil && err2 == nil && !t.Equal(u)
	case []any:
		y, _ := b.([]any)
		for i := range min(len(x), len(y)) {
			if timeDiffers(x[i], y[i]) {
				return true
			}
		}
	case map[string]any:
		y, _ := b.(map[string]any)
		for k := range x {
			if timeDiffers(x[k], y[k]) {
				return true
			}
		}
	}
	return false
}

// Do makes a step and waits for its outcome. The error says why there is none:
// the step was refused, or the execution is cancelled.
func (r *Run) Do(c Call) (crustertype.Outcome, error) {
	if err := r.begin(c.Kind.String() + " " + c.Name); err != nil {
		return crustertype.Outcome{}, err
	}
	s, err := r.request(c)
	if err != nil {
		return crustertype.Outcome{}, err
	}
	if !s.done && !s.execute() {
		r.leave()
	}
	r.cursor.Observe(&s.row)
	return s.row.Outcome, nil
}

// Go makes a step on a goroutine of its own.
func (r *Run) Go(c Call) *Future {
	err := r.check("go " + c.Name)
	if err == nil && !r.detached && r.cancelled != nil {
		err = r.cancelled
	}
	if err != nil {
		return &Future{s: &step{r: r, call: c, done: true, err: err}}
	}
	s, err := r.request(c)
	if err != nil {
		return &Future{s: &step{r: r, call: c, done: true, err: err}}
	}
	r.launch(s)
	return &Future{s: s}
}

// launch executes a step on a goroutine of its own, unless it is done.
func (r *Run) launch(s *step) {
	if s.done {
		return
	}
	s.own = true
	r.mu.Lock()
	if r.exit != nil {
		r.mu.Unlock()
		r.leave()
	}
	r.busy++
	r.active++
	r.mu.Unlock()
	r.steps.Add(1)
	go func() {
		defer r.steps.Done()
		defer func() {
			r.mu.Lock()
			r.busy--
			r.active--
			r.mu.Unlock()
			r.kickIt()
		}()
		s.execute()
	}()
}

// execute works on the step until it is done, and reports false when the run is
// to end before.
func (s *step) execute() bool {
	r := s.r
	faults, pauses := 0, 0
	for {
		if !s.rest() {
			return false
		}
		if err := s.unwanted(); err != nil {
			return s.complete(crustertype.Outcome{Failure: encodeFailure(err)}, nil) == nil
		}
		if s.call.Kind == crustertype.StepSleep {
			return s.complete(crustertype.Outcome{}, nil) == nil
		}
		r.retake(false)
		if !r.flushed() {
			return false
		}
		v := s.attempt()
		switch v.kind {
		case verdictDone:
			return true
		case verdictGone:
			return false
		case verdictFinal:
			s.row.Attempts++
			return s.complete(crustertype.Outcome{Failure: v.failure}, nil) == nil
		case verdictRetry:
			s.row.Attempts++
			s.postpone(s.call.Backoff.Delay(s.row.Attempts, rand.Float64), v.failure)
		case verdictFault:
			if v.counts {
				faults++
			}
			if faults >= r.e.cfg.MaxDeliveries {
				r.stop(&exit{kind: exitDead, cause: &crustertype.Failure{
					Code: v.failure.Code, Message: fmt.Sprintf("%s %s failed %d times in the infrastructure: %s", s.call.Kind, s.call.Name, faults, v.failure.Message),
				}})
				return false
			}
			pauses++
			r.e.cfg.Logger.Warn("step is run again", "execution", r.x.String(), "step", s.call.Name, "attempt", pauses, "error", v.failure.Message)
			s.postpone(r.e.cfg.Redelivery.Delay(pauses, rand.Float64), v.failure)
		}
	}
}

// unwanted says why the step is not to be begun, or begun again.
func (s *step) unwanted() error {
	if s.free {
		return nil
	}
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.cancel != nil && s.call.Kind == crustertype.StepSleep && reached(s.row.Due):
		return nil // it has slept its time
	case r.cancel != nil:
		return r.cancel
	case r.ending:
		return crustertype.Errorf(crustertype.CodeCancelled, "the workflow has ended")
	}
	return nil
}

// postpone records a failed attempt and when the next one is due, so that both
// survive a crash.
func (s *step) postpone(pause time.Duration, f *crustertype.Failure) {
	s.row.Due = after(pause)
	s.row.Outcome = crustertype.Outcome{Failure: f}
	s.r.submit(storage.Unit{Steps: s.r.rows(s.row)})
}

// rest waits until the step is due, or is no longer wanted. It reports false
// when the run is to end.
func (s *step) rest() bool {
	if s.row.Due.IsZero() || reached(s.row.Due) {
		return true
	}
	if !s.own {
		s.r.block(func() bool { return !s.free && (s.r.cancel != nil || s.r.ending) }, s.row.Due, s.waitingFor())
		return true
	}
	return s.restAside()
}

func (s *step) waitingFor() string {
	if s.call.Kind == crustertype.StepSleep {
		return "sleep"
	}
	return "retry of " + s.call.Kind.String() + " " + s.call.Name
}

// restAside is rest on a goroutine of the step's own. Meanwhile the step does
// nothing, so the execution may suspend.
func (s *step) restAside() bool {
	r := s.r
	r.mu.Lock()
	r.busy--
	r.far[s] = s.row.Due
	then := r.rested()
	r.mu.Unlock()
	then()
	r.kickIt()
	t := time.NewTimer(time.Until(s.row.Due))
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.work.Done():
	case <-r.life.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.far, s)
	r.busy++
	r.active++
	return r.exit == nil || r.exit.kind == exitEnded
}
