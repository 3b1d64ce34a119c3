package storagetest

import (
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// setStatus gives a new execution a status, with an outcome, a journal and a
// cancel request, and returns it as it is stored.
func (k *kit) setStatus(status crustertype.Status) crustertype.Execution {
	k.Helper()
	e := k.fullExecution()
	e.Run, e.Status = 1, crustertype.StatusRunning
	k.commit(starts(e), storage.Unit{
		Cancels: []storage.Cancel{{ExecutionRef: e.ExecutionRef, Reason: "stop", At: at(time.Second)}},
		Steps:   []storage.StepWrite{write(e, done(step(0, "a"), 1, "x"))},
	})
	u := update(e, func(u *storage.Update) { u.Status, u.Outcome, u.Attempts = status, failed("why"), 6 })
	k.commit(storage.Unit{Updates: []storage.Update{u}})
	e.CancelReason, e.CancelAt = "stop", at(time.Second)
	e.Status, e.Outcome, e.Attempts, e.UpdatedAt = status, u.Outcome, u.Attempts, u.At
	if status.Final() {
		e.FinishedAt = u.At
	}
	return e
}

func adminRules() []Rule {
	return []Rule{
		rule("RetryMessageRevivesADeadLetter", "RetryMessage makes a dead letter pending again with no attempts and no place in the order", func(k *kit) {
			m := k.fullMessage()
			k.commit(accepts(m), storage.Unit{Finishes: []storage.Finish{finishOf(m, crustertype.MessageDead, failed("gave up"))}})
			k.must("RetryMessage", k.s.RetryMessage(k.ctx, m.ID))
			m.Seq, m.Attempts = 0, 0
			k.wantMessage(m)
			q := storage.PendingQuery{Shards: []crustertype.Shard{home}, Unadopted: true, AfterSeq: 1 << 50}
			k.wantIDs("Pending of unadopted ones", k.pending(q), m)
			k.commit(storage.Unit{Adopts: []storage.Adopt{{ID: m.ID, Seq: 9}}, Attempts: []storage.Attempt{{ID: m.ID, N: 1}}})
			f := finishOf(m, crustertype.MessageDone, ok("at last"))
			k.commit(storage.Unit{Finishes: []storage.Finish{f}})
			m.Seq = 9
			k.wantMessage(finished(m, f))
		}),
		rule("DiscardMessageDeletesADeadLetter", "DiscardMessage deletes a dead letter", func(k *kit) {
			m := k.message()
			k.commit(accepts(m), storage.Unit{Finishes: []storage.Finish{finishOf(m, crustertype.MessageDead, failed("gave up"))}})
			k.must("DiscardMessage", k.s.DiscardMessage(k.ctx, m.ID))
			k.noMessage(m.ID)
			if res := k.commit(accepts(m)); res[0].Accepts != nil {
				k.Errorf("a discarded message is met by a new accept: %+v", res[0].Accepts)
			}
		}),
		rule("OnlyDeadLettersAreRevived", "RetryMessage and DiscardMessage return ErrNotFound when there is no dead letter of that ID, and change nothing", func(k *kit) {
			pending, end := k.message(), k.message()
			f := finishOf(end, crustertype.MessageDone, ok("r"))
			k.commit(accepts(pending, end), storage.Unit{Finishes: []storage.Finish{f}})
			for _, id := range []crustertype.RequestID{pending.ID, end.ID, crustertype.NewRequestID()} {
				if err := k.s.RetryMessage(k.ctx, id); !errors.Is(err, storage.ErrNotFound) {
					k.Errorf("RetryMessage of what is no dead letter = %v, want ErrNotFound", err)
				}
				if err := k.s.DiscardMessage(k.ctx, id); !errors.Is(err, storage.ErrNotFound) {
					k.Errorf("DiscardMessage of what is no dead letter = %v, want ErrNotFound", err)
				}
			}
			k.wantMessage(pending)
			k.wantMessage(finished(end, f))
		}),
		rule("RetryOfParkedGoesOn", "RetryExecution makes a parked or dead execution running again, in the same run with its journal and Attempts 0", func(k *kit) {
			for _, status := range []crustertype.Status{crustertype.StatusParked, crustertype.StatusDead} {
				e := k.setStatus(status)
				got, err := k.s.RetryExecution(k.ctx, e.ExecutionRef, at(time.Hour))
				k.must("RetryExecution of a "+status.String()+" one", err)
				if got.Status != crustertype.StatusRunning || got.Run != 1 || got.Attempts != 0 || string(got.Input) != string(e.Input) {
					k.Errorf("RetryExecution of a %s one returned %+v", status, got)
				}
				e.Status, e.Attempts, e.UpdatedAt = crustertype.StatusRunning, 0, at(time.Hour)
				e.Outcome, e.WaitingFor, e.WakeAt = got.Outcome, got.WaitingFor, got.WakeAt // mean nothing while running
				if d := diff(e, got); d != "" {
					k.Errorf("RetryExecution of a %s one changed more than it says:\n%s", status, d)
				}
				k.wantExecution(e)
				k.wantSteps(e.ExecutionRef, 1, done(step(0, "a"), 1, "x"))
				k.wantRefs("Runnable", k.runnable([]crustertype.Shard{home}, 10), e)
				k.commit(storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status = crustertype.StatusCompleted })}})
			}
		}),
		rule("RetryOfFailedOpensTheNextRun", "RetryExecution opens the next run of a failed, cancelled or terminated execution: empty journal, no outcome, cancel or wake-up time", func(k *kit) {
			for _, status := range []crustertype.Status{crustertype.StatusFailed, crustertype.StatusCancelled, crustertype.StatusTerminated} {
				e := k.setStatus(status)
				got, err := k.s.RetryExecution(k.ctx, e.ExecutionRef, at(time.Hour))
				k.must("RetryExecution of a "+status.String()+" one", err)
				e.Status, e.Run, e.Attempts, e.Outcome = crustertype.StatusRunning, 2, 0, crustertype.Outcome{}
				e.CancelReason, e.CancelAt, e.WakeAt = "", time.Time{}, time.Time{}
				e.UpdatedAt, e.FinishedAt = at(time.Hour), time.Time{}
				e.WaitingFor = got.WaitingFor // means nothing while running
				if d := diff(e, got); d != "" {
					k.Errorf("RetryExecution of a %s one returned something else:\n%s", status, d)
				}
				k.wantExecution(e)
				k.wantSteps(e.ExecutionRef, 2)
				k.wantSteps(e.ExecutionRef, 1, done(step(0, "a"), 1, "x"))
				late := update(e, func(u *storage.Update) { u.Run, u.Status, u.At = 1, crustertype.StatusCompleted, at(2*time.Hour) })
				k.commit(storage.Unit{Updates: []storage.Update{late}})
				k.wantExecution(e)
				fresh := done(step(0, "another"), 1, "y")
				fresh.Run = 2
				k.commit(storage.Unit{
					Steps:   []storage.StepWrite{write(e, fresh)},
					Cancels: []storage.Cancel{{ExecutionRef: e.ExecutionRef, Reason: "again", At: at(3 * time.Hour)}},
					Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status, u.WakeAt = crustertype.StatusSuspended, at(9*time.Hour) })},
				})
				k.wantSteps(e.ExecutionRef, 2, fresh)
				want := storage.Timer{At: at(3 * time.Hour), Shard: home, Execution: e.ExecutionRef}
				k.wantTimers("Timers of the new run", k.timers(storage.TimerQuery{Until: at(4 * time.Hour)}), want)
				k.commit(storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status = crustertype.StatusCompleted })}})
			}
		}),
		rule("RetryOfOthersIsRefused", "RetryExecution returns ErrNotFound when there is no execution, ErrConflict when its status is another", func(k *kit) {
			if _, err := k.s.RetryExecution(k.ctx, k.execution().ExecutionRef, start); !errors.Is(err, storage.ErrNotFound) {
				k.Errorf("RetryExecution of an unknown one = %v, want ErrNotFound", err)
			}
			for _, status := range []crustertype.Status{crustertype.StatusRunning, crustertype.StatusSuspended, crustertype.StatusCompleted} {
				e := k.setStatus(status)
				if _, err := k.s.RetryExecution(k.ctx, e.ExecutionRef, start); !errors.Is(err, storage.ErrConflict) {
					k.Errorf("RetryExecution of a %s one = %v, want ErrConflict", status, err)
				}
				k.wantExecution(e)
			}
		}),
		rule("OneOfRacingRetriesWins", "of concurrent retries of one execution exactly one opens the next run", func(k *kit) {
			e := k.setStatus(crustertype.StatusFailed)
			var errs [6]error
			together(len(errs), func(i int) { _, errs[i] = k.s.RetryExecution(k.ctx, e.ExecutionRef, start) })
			won := 0
			for _, err := range errs {
				if err == nil {
					won++
				} else if !errors.Is(err, storage.ErrConflict) {
					k.Errorf("a racing RetryExecution = %v, want ErrConflict", err)
				}
			}
			got, err := k.s.Execution(k.ctx, e.ExecutionRef)
			k.must("Execution", err)
			if won != 1 || got.Run != 2 {
				k.Errorf("%d of %d retries succeeded and the run is %d, want 1 and 2", won, len(errs), got.Run)
			}
		}),
	}
}
