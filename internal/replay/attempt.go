package replay

import (
	"context"
	"errors"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/storage"
)

type verdictKind uint8

const (
	verdictDone  verdictKind = iota + 1 // the step is done and visible
	verdictFinal                        // failed for good
	verdictRetry                        // failed, and is tried again
	verdictFault                        // says nothing about the user's code: tried again
	verdictGone                         // the run is to end
)

// verdict is what became of an attempt.
type verdict struct {
	kind    verdictKind
	failure *crustertype.Failure
	counts  bool // fault: counts against MaxDeliveries
}

// attempt runs the step's function once and judges the result.
func (s *step) attempt() verdict {
	r := s.r
	parent, stop := s.work, context.CancelFunc(func() {})
	if s.call.Timeout > 0 {
		parent, stop = context.WithTimeoutCause(s.work, s.call.Timeout, crustertype.ErrTimeout)
	}
	defer stop()
	ictx := invoke.New(parent, r.life, &invoke.Info{
		Address: r.x.Address(), Method: s.call.Name, RequestID: crustertype.ChildRequestID(r.x.ExecutionRef, r.x.Run, s.row.Pos),
		Attempt: s.row.Attempts + 1, Lease: r.lease, Execution: r.x.ExecutionRef, Meta: r.meta, Begin: r.e.cfg.Store.Begin, Collect: true, Rest: r.restsIn(),
	})
	defer ictx.End()
	end := func(error) {}
	if s.call.Kind == crustertype.StepActivity {
		end = r.e.cfg.Probe.Begin(ictx, observe.Activity, r.meta, s.row.Attempts+1)
	}
	out, err, panicked := s.invoke(ictx)
	switch {
	case panicked != nil:
		end(&crustertype.Error{Code: panicked.Code, Message: panicked.Message})
	case err == nil && out.Failure != nil:
		end(&crustertype.Error{Code: out.Failure.Code, Message: out.Failure.Message})
	default:
		end(err)
	}
	fault := ictx.Fault()
	if fault == nil && storage.IsTransient(err) {
		fault = err
	}
	if err == nil && fault == nil && panicked == nil {
		if err = r.fits(s, out); err == nil {
			return s.succeed(ictx, out)
		}
		err = permanent(err)
	}
	if rb := ictx.Rollback(r.e.ctx); rb != nil {
		r.e.cfg.Logger.Debug("rollback", "execution", r.x.String(), "error", rb)
	}
	return s.judge(ictx, err, fault, panicked)
}

// judge says what an attempt that did not succeed means.
func (s *step) judge(ictx *invoke.Context, err, fault error, panicked *crustertype.Failure) verdict {
	r := s.r
	switch {
	case ictx.Interrupted():
		return verdict{kind: verdictGone}
	case panicked != nil:
		return verdict{kind: verdictFault, failure: panicked, counts: true}
	case fault != nil:
		return verdict{kind: verdictFault, failure: encodeFailure(fault), counts: true}
	}
	var e *crustertype.Error
	known := errors.As(err, &e)
	if known && elsewhere(e.Code) {
		return verdict{kind: verdictFault, failure: encodeFailure(err), counts: e.Executed || s.call.Kind == crustertype.StepActivity || s.call.Kind == crustertype.StepLocal}
	}
	f := r.e.cfg.Encode(err)
	if f.Permanent || s.row.Attempts >= s.call.Retries || s.unwanted() != nil {
		return verdict{kind: verdictFinal, failure: f}
	}
	return verdict{kind: verdictRetry, failure: f}
}

// elsewhere reports conditions of the cluster that an attempt met: they pass,
// and must not become the step's outcome for ever.
func elsewhere(c crustertype.Code) bool {
	switch c {
	case crustertype.CodeUnavailable, crustertype.CodeNotOwner, crustertype.CodeShuttingDown, crustertype.CodeFenced, crustertype.CodeNotStarted,
		crustertype.CodeMailboxFull, crustertype.CodeNotRegistered, crustertype.CodeDeadLettered, crustertype.CodeParked:
		return true
	}
	return false
}

// invoke calls the step's function. A panic becomes a failure; a Goexit ends the
// run, since the goroutine cannot be kept.
func (s *step) invoke(ictx *invoke.Context) (out crustertype.Outcome, err error, panicked *crustertype.Failure) { //nolint:revive // the panic is not an error of the function
	r := s.r
	if !s.own {
		r.inside = s.call.Kind.String() + " " + s.call.Name
	}
	returned := false
	defer func() {
		if !s.own {
			r.inside = ""
		}
		if returned {
			return
		}
		if p := recover(); p != nil {
			panicked = panicFailure(p)
			return
		}
		r.stop(&exit{kind: exitRetry, cause: &crustertype.Failure{
			Code: crustertype.CodePanic, Message: s.call.Kind.String() + " " + s.call.Name + " ended its goroutine with runtime.Goexit",
		}})
		ictx.End()
		if rb := ictx.Rollback(r.e.ctx); rb != nil {
			r.e.cfg.Logger.Debug("rollback", "execution", r.x.String(), "error", rb)
		}
	}()
	out, err = s.call.Fn(ictx, s.args)
	returned = true
	return out, err, nil
}

// fits reports a result that is too large to be kept.
func (r *Run) fits(s *step, out crustertype.Outcome) error {
	if len(out.Payload) <= r.e.cfg.MaxPayload {
		return nil
	}
	return crustertype.Errorf(crustertype.CodeTooLarge, "the result of %s %s has %d bytes: at most %d are allowed",
		s.call.Kind, s.call.Name, len(out.Payload), r.e.cfg.MaxPayload)
}

func permanent(err error) error {
	var e *crustertype.Error
	if errors.As(err, &e) {
		e.Permanent = true
	}
	return err
}

// succeed makes a result durable, or on its way to it, and visible.
func (s *step) succeed(ictx *invoke.Context, out crustertype.Outcome) verdict {
	r := s.r
	if out.Failure != nil || !ictx.TxOpen() {
		if out.Failure != nil {
			if rb := ictx.Rollback(r.e.ctx); rb != nil {
				r.e.cfg.Logger.Debug("rollback", "execution", r.x.String(), "error", rb)
			}
			ictx = nil
		}
		if err := s.complete(out, ictx); err != nil {
			return verdict{kind: verdictGone}
		}
		return verdict{kind: verdictDone}
	}
	return s.commit(ictx, out)
}

var (
	errGone     = errors.New("the run is to end")
	errNotBegun = errors.New("the transaction could not begin")
)

// complete ends the step: its row, and what its function sent, are on their way
// to storage, and the workflow's code can see it.
func (s *step) complete(out crustertype.Outcome, ictx *invoke.Context) error {
	r := s.r
	if !r.takeTurn() {
		return errGone
	}
	defer r.endTurn()
	if !r.mayWrite() {
		return errGone
	}
	row := s.finished(out)
	unit := storage.Unit{Steps: r.rows(row)}
	var after []func()
	if ictx != nil {
		sends := ictx.Sends()
		unit.Accepts, unit.Starts, after = sends.Accepts, sends.Starts, sends.After
	}
	r.submit(r.progress(unit), after...)
	s.show(row)
	return nil
}

// commit ends the step in the transaction that its function wrote to. Other
// steps that complete meanwhile wait: were they visible first, the workflow's
// code could see an order that a replay does not find. It does not wait for
// earlier rows: those that the step depends on were durable before its attempt,
// and on a database with one writer the others may wait for this transaction.
func (s *step) commit(ictx *invoke.Context, out crustertype.Outcome) verdict {
	r := s.r
	if !r.takeTurn() {
		return s.abandon(ictx)
	}
	defer r.endTurn()
	if !r.mayWrite() {
		return s.abandon(ictx)
	}
	row := s.finished(out)
	sends := ictx.Sends()
	r.mu.Lock()
	stored, moved, marked := r.stored, r.moved, r.marked
	r.mu.Unlock()
	unit := r.progress(storage.Unit{Leases: []crustertype.Lease{r.lease}, Accepts: sends.Accepts, Starts: sends.Starts, Steps: r.rows(row)})
	sent := func([]storage.AcceptResult, error) {}
	if len(unit.Accepts) > 0 {
		sent = r.e.cfg.Sending(unit.Accepts)
	}
	res, begun, err := ictx.Commit(r.e.ctx, unit)
	if err == nil && !begun { // it could not begin, and the function did not mind
		sent(nil, errNotBegun)
		unit.Leases = nil
		r.submit(unit, sends.After...)
		s.show(row)
		return verdict{kind: verdictDone}
	}
	sent(res.Accepts, err)
	if err != nil {
		r.mu.Lock()
		r.stored, r.moved, r.marked = stored, moved, marked
		r.mu.Unlock()
	}
	var bad *storage.UnitError
	switch {
	case err == nil:
		r.e.Started(unit.Starts, res.Starts)
		r.e.async(sends.After)
		r.absolve()
		s.show(row)
		return verdict{kind: verdictDone}
	case errors.Is(err, storage.ErrFenced):
		var f *storage.FencedError
		if errors.As(err, &f) {
			r.e.cfg.Fenced(f.Shards)
		}
		r.stop(r.laneExit(err))
		return verdict{kind: verdictGone}
	case r.e.ctx.Err() != nil:
		return verdict{kind: verdictGone}
	case storage.IsTransient(err), errors.As(err, &bad) && errors.Is(err, storage.ErrConflict):
		// It may have been committed all the same, by this commit or by one
		// before whose answer was lost: what is stored decides.
		return s.lookUp(err)
	}
	return s.judge(ictx, err, nil, nil) // a deferred constraint of the user's, for example
}

// abandon rolls back a transaction whose run is to end.
func (s *step) abandon(ictx *invoke.Context) verdict {
	if rb := ictx.Rollback(s.r.e.ctx); rb != nil {
		s.r.e.cfg.Logger.Debug("rollback", "execution", s.r.x.String(), "error", rb)
	}
	return verdict{kind: verdictGone}
}

// lookUp asks storage whether the step is done, after a commit of unknown
// outcome.
func (s *step) lookUp(cause error) verdict {
	r := s.r
	for try := 1; ; try++ {
		rows, err := r.e.cfg.Store.Steps(r.e.ctx, r.x.ExecutionRef, r.x.Run)
		if err == nil {
			for i := range rows {
				if rows[i].Pos == s.row.Pos && rows[i].Done() {
					r.mu.Lock()
					r.seq = max(r.seq, rows[i].Seq)
					r.mu.Unlock()
					s.show(rows[i])
					return verdict{kind: verdictDone}
				}
			}
			return verdict{kind: verdictFault, failure: encodeFailure(cause), counts: true}
		}
		if !r.pause(r.e.cfg.Redelivery.Delay(try, nil)) {
			return verdict{kind: verdictGone}
		}
	}
}
