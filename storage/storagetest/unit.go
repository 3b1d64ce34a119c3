package storagetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

func unitRules() []Rule {
	return []Rule{
		rule("CommitGivesOneResultPerUnit", "results has one entry per unit, also for units that say nothing and for no units", func(k *kit) {
			if res, err := k.s.Commit(k.ctx, nil); err != nil || len(res) != 0 {
				k.Errorf("Commit of no units = %v, %v", res, err)
			}
			m := k.message()
			k.commit(storage.Unit{}, accepts(m), storage.Unit{})
			k.wantMessage(m)
		}),
		rule("CommitIsAtomic", "Commit applies all units, or none of them: one unit that is refused leaves nothing of the others", commitIsAtomic),
		rule("RefusedUnitIsNamed", "a *UnitError names the unit that can never be applied, counted in the commit", func(k *kit) {
			e := k.execution()
			k.commit(starts(e))
			bad := storage.Unit{Steps: []storage.StepWrite{write(k.execution(), step(0, "a"))}}
			first, last := k.message(), k.message()
			k.refused(1, storage.ErrNotFound, accepts(first), bad, accepts(last))
			k.refused(2, storage.ErrNotFound, accepts(first), accepts(last), bad)
			k.refused(0, storage.ErrNotFound, bad, accepts(first))
			k.noMessage(first.ID)
			k.noMessage(last.ID)
		}),
		rule("FieldsApplyInOrder", "within a unit the fields apply in the order in which they are declared", func(k *kit) {
			m, e := k.message(func(m *crustertype.Message) { m.Seq = 0 }), k.execution()
			end := update(e, func(u *storage.Update) { u.Status, u.Outcome = crustertype.StatusCompleted, ok("end") })
			k.commit(storage.Unit{
				Accepts:  []crustertype.Message{m},
				Starts:   []crustertype.Execution{e},
				Adopts:   []storage.Adopt{{ID: m.ID, Seq: 40}},
				Attempts: []storage.Attempt{{ID: m.ID, N: 3}},
				Finishes: []storage.Finish{{ID: m.ID, State: crustertype.MessageDone, Attempts: 3, Outcome: ok("r"), At: at(time.Minute)}},
				Steps:    []storage.StepWrite{write(e, step(0, "a"))},
				Updates:  []storage.Update{end},
				Cancels:  []storage.Cancel{{ExecutionRef: e.ExecutionRef, Reason: "too late", At: at(time.Minute)}},
			})
			m.Seq, m.Attempts, m.State, m.Outcome, m.FinishedAt = 40, 3, crustertype.MessageDone, ok("r"), at(time.Minute)
			k.wantMessage(m)
			e.Status, e.Outcome, e.UpdatedAt, e.FinishedAt = crustertype.StatusCompleted, ok("end"), at(time.Minute), at(time.Minute)
			k.wantExecution(e)
			k.wantSteps(e.ExecutionRef, 1, step(0, "a"))
		}),
		rule("FieldsApplyInOrderAcrossUnits", "within a commit the fields apply in the order in which they are declared: updates of all units before cancels of all units", func(k *kit) {
			e := k.execution()
			k.commit(starts(e))
			k.commit(
				storage.Unit{Cancels: []storage.Cancel{{ExecutionRef: e.ExecutionRef, Reason: "r", At: at(0)}}},
				storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status = crustertype.StatusCompleted })}},
			)
			e.Status, e.UpdatedAt, e.FinishedAt = crustertype.StatusCompleted, at(time.Minute), at(time.Minute)
			k.wantExecution(e)
		}),
		rule("UnitsApplyInOrder", "within one commit units are applied in order", func(k *kit) {
			e := k.execution()
			k.commit(starts(e))
			var units []storage.Unit
			for i := range 20 {
				units = append(units, storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) { u.WaitingFor = fmt.Sprint("step ", i) })}})
			}
			k.commit(units...)
			e.WaitingFor, e.UpdatedAt = "step 19", at(time.Minute)
			k.wantExecution(e)
		}),
		rule("StepsApplyInOrder", "within one commit writes of one journal row are applied in order", func(k *kit) {
			e := k.execution()
			first, second := step(0, "a"), step(0, "a")
			second.Attempts = 2
			end := done(second, 1, "x")
			k.commit(starts(e), storage.Unit{Steps: []storage.StepWrite{write(e, first), write(e, second)}}, storage.Unit{Steps: []storage.StepWrite{write(e, end)}})
			k.wantSteps(e.ExecutionRef, 1, end)
			first.Pos, second.Pos = 1, 1
			k.commit(storage.Unit{Steps: []storage.StepWrite{write(e, first)}}, storage.Unit{Steps: []storage.StepWrite{write(e, second)}})
			k.wantSteps(e.ExecutionRef, 1, end, second)
		}),
		rule("ResentUnitsChangeNothing", "every unit may be sent twice: applying one again succeeds and changes nothing", func(k *kit) {
			units := k.everyMutation()
			k.commit(units...)
			before := k.dump()
			k.commit(units...)
			if after := k.dump(); after != before {
				k.Errorf("sent again, the units changed the store:\n%s", lineDiff(before, after))
			}
			for _, u := range units { // alone, as the engine sends them after a refusal
				k.commit(u)
			}
			if after := k.dump(); after != before {
				k.Errorf("sent again one by one, the units changed the store:\n%s", lineDiff(before, after))
			}
		}),
		rule("ResentStepsOfOneCommitChangeNothing", "a commit with an attempt and the completion of one step may be sent again", func(k *kit) {
			e := k.execution()
			k.commit(starts(e))
			try := step(0, "a")
			end := done(try, 1, "x")
			units := []storage.Unit{{Steps: []storage.StepWrite{write(e, try)}}, {Steps: []storage.StepWrite{write(e, end)}}}
			k.commit(units...)
			k.commit(units...)
			k.wantSteps(e.ExecutionRef, 1, end)
		}),
		rule("ConcurrentCommitsAllHappen", "all methods may be called concurrently", func(k *kit) {
			const workers, each = 8, 20
			var all [workers][each]crustertype.Message
			var errs [workers]error
			together(workers, func(i int) {
				for j := range each {
					all[i][j] = k.message(func(m *crustertype.Message) { m.Shard.Index = i })
					if _, err := k.s.Commit(k.ctx, []storage.Unit{accepts(all[i][j])}); err != nil {
						errs[i] = err
						return
					}
				}
			})
			k.must("a concurrent Commit", errors.Join(errs[:]...))
			for i := range all {
				k.wantIDs("Pending", k.pending(storage.PendingQuery{Shards: []crustertype.Shard{{Group: home.Group, Index: i}}}), all[i][:]...)
			}
		}),
	}
}

func commitIsAtomic(k *kit) {
	old, e := k.message(func(m *crustertype.Message) { m.Seq = 0 }), k.execution()
	sched := schedule("tick", 1)
	k.commit(accepts(old), starts(e), storage.Unit{Steps: []storage.StepWrite{write(e, step(0, "a"))}, Schedules: []crustertype.Schedule{sched}})
	before := k.dump()
	next := schedule("tick", 2)
	all := storage.Unit{
		Accepts: []crustertype.Message{k.message()}, Starts: []crustertype.Execution{k.execution()},
		Adopts: []storage.Adopt{{ID: old.ID, Seq: 99}}, Attempts: []storage.Attempt{{ID: old.ID, N: 5}},
		Finishes:  []storage.Finish{{ID: old.ID, State: crustertype.MessageDone, Outcome: ok("x"), At: at(0)}},
		Steps:     []storage.StepWrite{write(e, done(step(0, "a"), 1, "x")), write(e, step(1, "b"))},
		Updates:   []storage.Update{update(e, func(u *storage.Update) { u.Status = crustertype.StatusSuspended })},
		Cancels:   []storage.Cancel{{ExecutionRef: e.ExecutionRef, Reason: "r", At: at(0)}},
		Schedules: []crustertype.Schedule{next, schedule("other", 1)},
	}
	badStep := storage.Unit{Steps: []storage.StepWrite{write(k.execution(), step(0, "a"))}}
	badSchedule := storage.Unit{Schedules: []crustertype.Schedule{schedule("third", 7)}}
	for _, units := range [][]storage.Unit{{all, badStep}, {badStep, all}, {all, badSchedule}, {badSchedule, all}} {
		if _, err := k.s.Commit(k.ctx, units); err == nil {
			k.Fatalf("Commit of a unit that cannot be applied succeeded")
		}
		if after := k.dump(); after != before {
			k.Fatalf("a refused commit left something behind:\n%s", lineDiff(before, after))
		}
	}
	k.commit(all)
	if k.dump() == before {
		k.Errorf("the same unit without the refused one changed nothing")
	}
}

// everyMutation returns units that use every field of a unit on items that the
// store has.
func (k *kit) everyMutation() []storage.Unit {
	k.Helper()
	leases := k.own(home)
	msgs := []crustertype.Message{k.fullMessage(), k.message(func(m *crustertype.Message) { m.Seq = 0 }), k.message(), k.message(), k.message()}
	a, b, c := k.fullExecution(), k.execution(), k.execution()
	a.Run = 1
	k.commit(accepts(msgs[:4]...), starts(a, b), storage.Unit{Schedules: []crustertype.Schedule{schedule("tick", 1)}})
	next := schedule("tick", 2)
	return []storage.Unit{
		{
			Leases: leases, Accepts: []crustertype.Message{msgs[4]}, Starts: []crustertype.Execution{c},
			Adopts: []storage.Adopt{{ID: msgs[1].ID, Seq: 77}}, Attempts: []storage.Attempt{{ID: msgs[2].ID, N: 2}},
		},
		{
			Finishes: []storage.Finish{
				{ID: msgs[2].ID, State: crustertype.MessageDone, Attempts: 2, Outcome: ok("done"), At: at(time.Minute)},
				{ID: msgs[3].ID, State: crustertype.MessageDead, Attempts: 10, Outcome: failed("dead"), At: at(time.Minute)},
			},
			Steps: []storage.StepWrite{write(a, step(0, "a")), write(a, done(step(1, "b"), 1, "x")), write(b, step(0, "a"))},
		},
		{
			Updates: []storage.Update{
				update(a, func(u *storage.Update) { u.Attempts = 3 }),
				update(b, func(u *storage.Update) { u.Status, u.Outcome = crustertype.StatusFailed, failed("no") }),
			},
			Cancels:   []storage.Cancel{{ExecutionRef: c.ExecutionRef, Reason: "stop", At: at(time.Minute)}},
			Schedules: []crustertype.Schedule{next, schedule("other", 1)},
		},
	}
}

// dump describes everything that the store has, except for owners.
func (k *kit) dump() string {
	k.Helper()
	var b strings.Builder
	msgs, _, err := k.s.Messages(k.ctx, storage.MessageFilter{})
	k.must("Messages", err)
	for _, m := range msgs {
		m, err := k.s.Message(k.ctx, m.ID)
		k.must("Message", err)
		m.DeliverAt, m.CreatedAt, m.FinishedAt = utc(m.DeliverAt), utc(m.CreatedAt), utc(m.FinishedAt)
		o := fmt.Sprintf("%q", crustertype.EncodeOutcome(m.Outcome))
		m.Outcome = crustertype.Outcome{}
		fmt.Fprintf(&b, "message %+v outcome %s\n", m, o)
	}
	execs, _, err := k.s.Executions(k.ctx, storage.ExecutionFilter{})
	k.must("Executions", err)
	for _, e := range execs {
		e, err := k.s.Execution(k.ctx, e.ExecutionRef)
		k.must("Execution", err)
		e.WakeAt, e.CancelAt, e.CreatedAt, e.UpdatedAt = utc(e.WakeAt), utc(e.CancelAt), utc(e.CreatedAt), utc(e.UpdatedAt)
		e.FinishedAt, e.Deadline = utc(e.FinishedAt), utc(e.Deadline)
		o := fmt.Sprintf("%q", crustertype.EncodeOutcome(e.Outcome))
		e.Outcome = crustertype.Outcome{}
		fmt.Fprintf(&b, "execution %+v outcome %s\n", e, o)
		for run := range e.Run + 1 {
			steps, err := k.s.Steps(k.ctx, e.ExecutionRef, run)
			k.must("Steps", err)
			for _, s := range steps {
				s.Due, s.At = utc(s.Due), utc(s.At)
				o := fmt.Sprintf("%q", crustertype.EncodeOutcome(s.Outcome))
				s.Outcome = crustertype.Outcome{}
				fmt.Fprintf(&b, "step %+v outcome %s\n", s, o)
			}
		}
	}
	for _, kind := range []crustertype.ScheduleKind{crustertype.ScheduleCron, crustertype.ScheduleSingleton} {
		list, err := k.s.Schedules(k.ctx, kind)
		k.must("Schedules", err)
		for _, s := range list {
			s.LastTick, s.NextTick, s.Since, s.UpdatedAt = utc(s.LastTick), utc(s.NextTick), utc(s.Since), utc(s.UpdatedAt)
			fmt.Fprintf(&b, "schedule %+v\n", s)
		}
	}
	return b.String()
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// lineDiff returns the lines that only one of two dumps has.
func lineDiff(before, after string) string {
	var b strings.Builder
	only := func(mark, x, y string) {
		have := make(map[string]bool)
		for l := range strings.Lines(y) {
			have[l] = true
		}
		for l := range strings.Lines(x) {
			if !have[l] {
				b.WriteString("\t" + mark + " " + l)
			}
		}
	}
	only("-", before, after)
	only("+", after, before)
	return b.String()
}
