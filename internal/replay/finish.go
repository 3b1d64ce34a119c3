package replay

import (
	"math/rand/v2"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// finish ends the run after its code has ended: it waits for the goroutines of
// its steps, writes what the exit asks for, and gives the slot back.
func (r *Run) finish() {
	r.dead = true
	r.release()
	r.steps.Wait()
	r.marks.Lock() // a mark that is being taken back is on its way by then
	r.mu.Lock()
	x := *r.exit
	r.mu.Unlock()
	r.marks.Unlock()
	again, a := r.write(&x)
	r.acquit()
	r.slot.leave(again, a)
}

// write makes the exit durable. It returns after which pause the execution is
// to be run again, if at all, and what its waiters get.
func (r *Run) write(x *exit) (again time.Duration, a *answer) {
	switch x.kind {
	case exitEnded:
		return r.settled(x.status, x.outcome, "")
	case exitParked:
		r.e.cfg.Logger.Error("workflow execution is parked", "execution", r.x.String(), "error", x.cause.Message)
		return r.settled(crustertype.StatusParked, crustertype.Outcome{Failure: x.cause}, "")
	case exitDead:
		return r.die(x.cause)
	case exitRetry:
		return r.again(x)
	case exitSuspended:
		r.submit(storage.Unit{Updates: []storage.Update{r.update(crustertype.StatusSuspended, 0, x.wakeAt, x.what, crustertype.Outcome{})}})
		if !r.flushed() {
			return r.lost()
		}
		if !x.wakeAt.IsZero() {
			r.e.cfg.WakeAt(r.x.ExecutionRef, r.x.Shard, x.wakeAt)
		}
		return 0, nil
	case exitDrained:
		if stored, marked := r.storedAttempts(); marked {
			// A planned end is no crash: take the mark back.
			r.submit(storage.Unit{Updates: []storage.Update{r.update(crustertype.StatusRunning, stored-1, time.Time{}, r.x.WaitingFor, r.x.Outcome)}})
		}
		r.flushed()
	}
	return 0, &answer{err: x.err}
}

// settled writes a status that ends the run for good, or until a person acts.
func (r *Run) settled(s crustertype.Status, out crustertype.Outcome, what string) (time.Duration, *answer) {
	stored, _ := r.storedAttempts()
	r.submit(storage.Unit{Updates: []storage.Update{r.update(s, stored, time.Time{}, what, out)}})
	if !r.flushed() {
		return r.lost()
	}
	r.x.Status, r.x.Outcome = s, out
	return 0, answerOf(&r.x)
}

func (r *Run) die(cause *crustertype.Failure) (time.Duration, *answer) {
	r.e.cfg.Logger.Error("workflow execution is dead", "execution", r.x.String(), "error", cause.Message)
	return r.settled(crustertype.StatusDead, crustertype.Outcome{Failure: cause}, "")
}

// again repeats a run that panicked or could not write, unless it did so too
// often without getting any further.
func (r *Run) again(x *exit) (time.Duration, *answer) {
	n, marked := r.storedAttempts()
	if !x.free && !marked {
		n++ // this run, which nothing has counted yet
	}
	r.e.cfg.Logger.Warn("workflow run is repeated", "execution", r.x.String(), "attempt", n, "error", x.cause.Message)
	r.lane.mu.Lock()
	broken := r.lane.err != nil
	r.lane.mu.Unlock()
	switch {
	case broken, x.free: // what this run would write may contradict what is stored: look there
		r.slot.cause, r.slot.forgive = x.cause, x.free && marked
	case n >= r.e.cfg.MaxDeliveries:
		return r.die(x.cause)
	default:
		r.submit(storage.Unit{Updates: []storage.Update{r.update(crustertype.StatusRunning, n, time.Time{}, "", crustertype.Outcome{Failure: x.cause})}})
		if !r.flushed() {
			return r.lost()
		}
	}
	return max(r.e.cfg.Redelivery.Delay(n, rand.Float64), 1), nil
}

// lost ends a run whose last write did not happen: somebody goes on from what
// is stored.
func (r *Run) lost() (time.Duration, *answer) {
	r.lane.mu.Lock()
	err := r.lane.err
	r.lane.mu.Unlock()
	if err == nil { // the engine ends
		return 0, &answer{err: crustertype.ErrShuttingDown}
	}
	if x := r.laneExit(err); x.kind != exitRetry {
		return 0, &answer{err: x.err}
	}
	n, _ := r.storedAttempts()
	return max(r.e.cfg.Redelivery.Delay(max(1, n), rand.Float64), 1), nil
}

// storedAttempts returns how many runs without progress are stored, and whether
// this one is among them.
func (r *Run) storedAttempts() (n int, marked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored, r.marked
}

func (r *Run) update(s crustertype.Status, attempts int, wake time.Time, what string, out crustertype.Outcome) storage.Update {
	return storage.Update{
		ExecutionRef: r.x.ExecutionRef, Run: r.x.Run, Status: s, Attempts: attempts, WakeAt: wake, WaitingFor: what, Outcome: out, At: now(),
	}
}
