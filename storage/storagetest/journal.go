package storagetest

import (
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

func journalRules() []Rule {
	return []Rule{
		rule("StepsAreOrderedByPos", "Steps returns the journal of one run in order of Pos, with all fields", func(k *kit) {
			e, other := k.execution(), k.execution()
			end := done(step(10, "b"), 2, "x")
			fails := done(step(1, "c"), 1, "")
			fails.Outcome = failed("no")
			k.commit(starts(e, other), storage.Unit{Steps: []storage.StepWrite{write(e, end), write(e, step(2, "a"))}}, storage.Unit{Steps: []storage.StepWrite{write(e, fails), write(other, step(0, "z"))}})
			next := step(0, "next run")
			next.Run = 2
			k.commit(storage.Unit{Steps: []storage.StepWrite{write(e, next)}})
			k.wantSteps(e.ExecutionRef, 1, fails, step(2, "a"), end)
			k.wantSteps(e.ExecutionRef, 2, next)
			k.wantSteps(e.ExecutionRef, 3)
			k.wantSteps(other.ExecutionRef, 1, step(0, "z"))
			k.wantSteps(crustertype.ExecutionRef{Type: e.Type, ID: "unknown"}, 1)
		}),
		rule("EveryStepKindIsKept", "a step keeps its kind", func(k *kit) {
			e := k.execution()
			k.commit(starts(e))
			var want []crustertype.Step
			for kind := crustertype.StepActivity; kind <= crustertype.StepCancel; kind++ {
				s := step(int(kind), kind.String())
				s.Kind = kind
				want = append(want, s)
				k.commit(storage.Unit{Steps: []storage.StepWrite{write(e, s)}})
			}
			k.wantSteps(e.ExecutionRef, 1, want...)
		}),
		rule("PendingStepIsReplaced", "a row that is not done may be replaced by another one of the same kind, name and digest", func(k *kit) {
			e, s := k.execution(), step(0, "a")
			k.commit(starts(e), storage.Unit{Steps: []storage.StepWrite{write(e, s)}})
			s.Attempts, s.Due, s.Outcome = 2, at(time.Hour), failed("again")
			k.commit(storage.Unit{Steps: []storage.StepWrite{write(e, s)}})
			k.wantSteps(e.ExecutionRef, 1, s)
			end := done(s, 1, "result")
			k.commit(storage.Unit{Steps: []storage.StepWrite{write(e, end)}})
			k.wantSteps(e.ExecutionRef, 1, end)
		}),
		rule("PendingStepOfOtherIdentityConflicts", "a row of another kind, name or digest is refused with ErrConflict and the stored one stays", func(k *kit) {
			e, s := k.execution(), step(0, "a")
			k.commit(starts(e), storage.Unit{Steps: []storage.StepWrite{write(e, s)}})
			for _, other := range otherIdentities(s) {
				k.refused(0, storage.ErrConflict, storage.Unit{Steps: []storage.StepWrite{write(e, other)}})
				k.refused(0, storage.ErrConflict, storage.Unit{Steps: []storage.StepWrite{write(e, done(other, 1, "x"))}})
			}
			k.wantSteps(e.ExecutionRef, 1, s)
		}),
		rule("DoneStepNeverChanges", "a done row never changes: writing one with another Seq or outcome is refused with ErrConflict", func(k *kit) {
			e := k.execution()
			end := done(step(0, "a"), 3, "x")
			k.commit(starts(e), storage.Unit{Steps: []storage.StepWrite{write(e, end)}})
			for _, change := range []func(s *crustertype.Step){
				func(s *crustertype.Step) { s.Seq = 4 },
				func(s *crustertype.Step) { s.Outcome = ok("y") },
				func(s *crustertype.Step) { s.Outcome = ok("") },
				func(s *crustertype.Step) { s.Outcome.Codec = "json" },
				func(s *crustertype.Step) { s.Outcome = failed("x") },
			} {
				other := end
				change(&other)
				m := k.message()
				k.refused(0, storage.ErrConflict, storage.Unit{Steps: []storage.StepWrite{write(e, other)}, Accepts: []crustertype.Message{m}})
				k.noMessage(m.ID)
			}
			for _, other := range otherIdentities(end) {
				k.refused(0, storage.ErrConflict, storage.Unit{Steps: []storage.StepWrite{write(e, other)}})
			}
			for _, other := range otherIdentities(step(0, "a")) {
				k.refused(0, storage.ErrConflict, storage.Unit{Steps: []storage.StepWrite{write(e, other)}})
			}
			k.wantSteps(e.ExecutionRef, 1, end)
		}),
		rule("EqualDoneStepSucceeds", "writing an equal done row (same Seq and outcome) succeeds and changes nothing", func(k *kit) {
			e := k.execution()
			end := done(step(0, "a"), 3, "x")
			k.commit(starts(e), storage.Unit{Steps: []storage.StepWrite{write(e, end)}})
			again := end
			again.At = at(time.Hour) // not compared
			k.commit(storage.Unit{Steps: []storage.StepWrite{write(e, again)}})
			k.wantSteps(e.ExecutionRef, 1, end)
		}),
		rule("LatePendingStepIsIgnored", "writing a row that is not done over a done one of the same kind, name and digest succeeds without effect", func(k *kit) {
			e, s := k.execution(), step(0, "a")
			end := done(s, 3, "x")
			k.commit(starts(e), storage.Unit{Steps: []storage.StepWrite{write(e, end)}})
			k.commit(storage.Unit{Steps: []storage.StepWrite{write(e, s)}})
			k.wantSteps(e.ExecutionRef, 1, end)
		}),
		rule("ConflictWithinOneCommit", "a row is compared with earlier ones of the same commit too", func(k *kit) {
			e := k.execution()
			k.commit(starts(e))
			k.refused(1, storage.ErrConflict,
				storage.Unit{Steps: []storage.StepWrite{write(e, done(step(0, "a"), 1, "x"))}},
				storage.Unit{Steps: []storage.StepWrite{write(e, done(step(0, "a"), 1, "y"))}})
			k.wantSteps(e.ExecutionRef, 1)
		}),
		rule("StepNeedsItsExecution", "a step of an execution that does not exist is refused with ErrNotFound", func(k *kit) {
			e := k.execution()
			k.refused(0, storage.ErrNotFound, storage.Unit{Steps: []storage.StepWrite{write(e, step(0, "a"))}})
			k.commit(storage.Unit{Starts: []crustertype.Execution{e}, Steps: []storage.StepWrite{write(e, step(0, "a"))}})
			k.wantSteps(e.ExecutionRef, 1, step(0, "a"))
		}),
		rule("UpdateReplacesTheState", "Update replaces status, attempts, wake-up time, what is waited for, outcome and UpdatedAt, and nothing else", func(k *kit) {
			e := k.fullExecution()
			k.commit(starts(e))
			for i, status := range []crustertype.Status{
				crustertype.StatusRunning, crustertype.StatusParked, crustertype.StatusDead, crustertype.StatusSuspended, crustertype.StatusCompleted,
			} {
				u := update(e, func(u *storage.Update) {
					u.Status, u.Attempts, u.WakeAt, u.WaitingFor = status, i, time.Time{}, "sleep"
					u.Outcome, u.At = failed(status.String()), at(time.Duration(i)*time.Hour)
				})
				if status == crustertype.StatusSuspended {
					u.WakeAt, u.Outcome = at(90*time.Hour), crustertype.Outcome{}
				}
				k.commit(storage.Unit{Updates: []storage.Update{u}})
				e.Status, e.Attempts, e.WakeAt, e.WaitingFor, e.Outcome, e.UpdatedAt = u.Status, u.Attempts, u.WakeAt, u.WaitingFor, u.Outcome, u.At
				if status.Final() {
					e.FinishedAt = u.At
				}
				k.wantExecution(e)
			}
		}),
		rule("FinalRunNeverChanges", "Update changes nothing when the stored run is final", func(k *kit) {
			for status := crustertype.StatusCompleted; status <= crustertype.StatusTerminated; status++ {
				e := k.execution()
				k.commit(starts(e), storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status, u.Outcome = status, ok("first") })}})
				e.Status, e.Outcome, e.UpdatedAt, e.FinishedAt = status, ok("first"), at(time.Minute), at(time.Minute)
				for _, late := range []crustertype.Status{crustertype.StatusRunning, crustertype.StatusFailed, crustertype.StatusSuspended} {
					k.commit(storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) {
						u.Status, u.Outcome, u.At, u.WakeAt = late, failed("second"), at(time.Hour), at(2*time.Hour)
					})}})
				}
				k.wantExecution(e)
			}
		}),
		rule("UpdateOfOtherRunIsNothing", "Update changes nothing when the stored run is another one, or there is no execution", func(k *kit) {
			e := k.fullExecution()
			k.commit(starts(e))
			for _, run := range []int{0, e.Run - 1, e.Run + 1} {
				k.commit(storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) { u.Run, u.Status = run, crustertype.StatusFailed })}})
			}
			ghost := k.execution()
			k.commit(storage.Unit{Updates: []storage.Update{update(ghost)}})
			k.wantExecution(e)
			k.noExecution(ghost.ExecutionRef)
		}),
		rule("FirstCancelWins", "the first cancel request wins; an update leaves it in place", func(k *kit) {
			e := k.execution()
			k.commit(starts(e))
			cancel := func(reason string, d time.Duration) storage.Cancel {
				return storage.Cancel{ExecutionRef: e.ExecutionRef, Reason: reason, At: at(d)}
			}
			k.commit(storage.Unit{Cancels: []storage.Cancel{cancel("first", time.Hour), cancel("second", 0)}})
			k.commit(storage.Unit{Cancels: []storage.Cancel{cancel("third", time.Second)}})
			e.CancelReason, e.CancelAt = "first", at(time.Hour)
			k.wantExecution(e)
			k.commit(storage.Unit{Updates: []storage.Update{update(e)}})
			e.UpdatedAt = at(time.Minute)
			k.wantExecution(e)
		}),
		rule("CancelOfFinalIsNothing", "Cancel changes nothing on a final execution, or when there is none", func(k *kit) {
			e, ghost := k.execution(), k.execution()
			k.commit(starts(e), storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status = crustertype.StatusFailed })}})
			k.commit(storage.Unit{Cancels: []storage.Cancel{{ExecutionRef: e.ExecutionRef, Reason: "r", At: at(0)}, {ExecutionRef: ghost.ExecutionRef, Reason: "r", At: at(0)}}})
			e.Status, e.UpdatedAt, e.FinishedAt = crustertype.StatusFailed, at(time.Minute), at(time.Minute)
			k.wantExecution(e)
			k.noExecution(ghost.ExecutionRef)
		}),
	}
}

// otherIdentities returns rows at the place of s that are not the same step.
func otherIdentities(s crustertype.Step) []crustertype.Step {
	kind, name, digest := s, s, s
	kind.Kind, name.Name, digest.Digest = crustertype.StepLocal, s.Name+"2", [16]byte{0xee}
	return []crustertype.Step{kind, name, digest}
}
