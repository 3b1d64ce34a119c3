package storagetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// runnable reads all pages.
func (k *kit) runnable(shards []crustertype.Shard, limit int) []crustertype.Execution {
	k.Helper()
	var all []crustertype.Execution
	var after storage.Cursor
	for range 1000 {
		page, next, err := k.s.Runnable(k.ctx, shards, after, limit)
		k.must("Runnable", err)
		if len(page) > limit {
			k.Fatalf("Runnable returned %d executions, limit %d", len(page), limit)
		}
		if all = append(all, page...); next == "" {
			return all
		}
		after = next
	}
	k.Fatalf("Runnable always has a next page")
	return nil
}

// timers reads all pages.
func (k *kit) timers(q storage.TimerQuery) []storage.Timer {
	k.Helper()
	var all []storage.Timer
	if q.Limit == 0 {
		q.Limit = 100
	}
	for range 1000 {
		page, next, err := k.s.Timers(k.ctx, q)
		k.must("Timers", err)
		if len(page) > q.Limit {
			k.Fatalf("Timers returned %d entries, limit %d", len(page), q.Limit)
		}
		if all = append(all, page...); next == "" {
			return all
		}
		q.Cursor = next
	}
	k.Fatalf("Timers always has a next page")
	return nil
}

func (k *kit) wantTimers(what string, got []storage.Timer, want ...storage.Timer) {
	k.Helper()
	if d := diff(want, got); d != "" {
		k.Errorf("%s differs:\n%s", what, d)
	}
}

func timerOf(m crustertype.Message) storage.Timer {
	return storage.Timer{At: m.DeliverAt, Shard: m.Shard, Message: m.ID}
}

func wakeOf(e crustertype.Execution, at time.Time) storage.Timer {
	return storage.Timer{At: at, Shard: e.Shard, Execution: e.ExecutionRef}
}

func suspended(d time.Duration) func(*crustertype.Execution) {
	return func(e *crustertype.Execution) { e.Status, e.WakeAt = crustertype.StatusSuspended, at(d) }
}

func dueRules() []Rule {
	shards := []crustertype.Shard{home, shardAt(8)}
	return []Rule{
		rule("RunnableListsRunning", "Runnable returns executions with StatusRunning of the shards, without Input, ordered by (CreatedAt, Type, ID) in byte order", func(k *kit) {
			on := func(typ, id string, d time.Duration, s crustertype.Shard) crustertype.Execution {
				return k.execution(func(e *crustertype.Execution) {
					e.ExecutionRef, e.CreatedAt, e.Shard, e.Key = crustertype.ExecutionRef{Type: typ, ID: id}, at(d), s, "k"
				})
			}
			want := []crustertype.Execution{
				on("z", "1", 0, home), on("A", "b", time.Second, home), on("a", "B", time.Second, shards[1]), on("a", "a", time.Second, home), on("a", "ä", time.Second, home),
				on("B", "1", time.Minute, shards[1]),
			}
			mixed := slices.Clone(want)
			slices.Reverse(mixed)
			k.commit(starts(mixed[:3]...), starts(mixed[3:]...), starts(on("o", "o", 0, shardAt(9))))
			for status := crustertype.StatusSuspended; status <= crustertype.StatusDead; status++ {
				e := k.execution()
				k.commit(starts(e), storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status = status })}})
			}
			for _, limit := range []int{1, 2, 6, 100} {
				got := k.runnable(shards, limit)
				k.wantRefs("Runnable", got, want...)
				for i := range min(len(got), len(want)) {
					w := want[i]
					w.Input = nil
					if d := diff(w, got[i]); d != "" {
						k.Errorf("execution %d of Runnable differs:\n%s", i, d)
					}
				}
			}
			if n := len(k.runnable(nil, 100)); n != len(want)+1 {
				k.Errorf("Runnable of nil shards returned %d executions, want all %d", n, len(want)+1)
			}
		}),
		rule("RunnablePagesAreStable", "pages continue behind the cursor, whatever became of the executions before it", func(k *kit) {
			var all []crustertype.Execution
			for range 9 {
				all = append(all, k.execution())
			}
			k.commit(starts(all...))
			page, next, err := k.s.Runnable(k.ctx, shards, "", 3)
			k.must("Runnable", err)
			k.wantRefs("the first page", page, all[:3]...)
			fail := func(e crustertype.Execution) storage.Update {
				return update(e, func(u *storage.Update) { u.Status = crustertype.StatusFailed })
			}
			k.commit(storage.Unit{Updates: []storage.Update{fail(all[2]), fail(all[0]), fail(all[5])}})
			page, _, err = k.s.Runnable(k.ctx, shards, next, 3)
			k.must("Runnable", err)
			k.wantRefs("the second page", page, all[3], all[4], all[6])
		}),
		rule("TimersAreOrderedByTime", "Timers returns pending messages by DeliverAt and suspended executions by WakeAt in (After, Until], ordered by time", func(k *kit) {
			m1 := k.message(func(m *crustertype.Message) { m.DeliverAt = at(time.Minute) })
			m2 := k.message(unadopted, func(m *crustertype.Message) { m.DeliverAt, m.Shard = at(3*time.Minute), shards[1] })
			e1, e2 := k.execution(suspended(2*time.Minute)), k.execution(suspended(4*time.Minute), func(e *crustertype.Execution) { e.Shard = shards[1] })
			elsewhere := k.execution(suspended(2*time.Minute), func(e *crustertype.Execution) { e.Shard = shardAt(9) })
			forever := k.execution(func(e *crustertype.Execution) { e.Status = crustertype.StatusSuspended })
			running := k.execution(func(e *crustertype.Execution) { e.WakeAt = at(time.Minute) })
			k.commit(storage.Unit{Accepts: []crustertype.Message{m2, k.message(), m1}, Starts: []crustertype.Execution{e2, elsewhere, forever, running, e1}})
			all := []storage.Timer{timerOf(m1), wakeOf(e1, e1.WakeAt), timerOf(m2), wakeOf(e2, e2.WakeAt)}
			k.wantTimers("Timers from the beginning", k.timers(storage.TimerQuery{Shards: shards, Until: at(time.Hour)}), all...)
			k.wantTimers("Timers between", k.timers(storage.TimerQuery{Shards: shards, After: m1.DeliverAt, Until: m2.DeliverAt}), all[1:3]...)
			k.wantTimers("Timers just before", k.timers(storage.TimerQuery{Shards: shards, After: at(time.Minute - time.Microsecond), Until: at(4*time.Minute - time.Microsecond)}), all[:3]...)
			k.wantTimers("Timers of one shard", k.timers(storage.TimerQuery{Shards: shards[1:], Until: at(time.Hour)}), all[2:]...)
			if got := k.timers(storage.TimerQuery{Until: at(time.Hour)}); len(got) != 5 {
				k.Errorf("Timers of nil shards returned %d entries, want all 5", len(got))
			}
		}),
		rule("TimersPage", "pages continue behind the cursor, also among timers of one time", func(k *kit) {
			want := make(map[string]int)
			u := storage.Unit{}
			for i := range 20 {
				m := k.message(func(m *crustertype.Message) { m.DeliverAt, m.Shard = at(time.Duration(i/8)*time.Second), shards[i%2] })
				e := k.execution(suspended(time.Duration(i/8)*time.Second), func(e *crustertype.Execution) { e.Shard = shards[i%2] })
				u.Accepts, u.Starts = append(u.Accepts, m), append(u.Starts, e)
				want[fmt.Sprint(m.ID)], want[fmt.Sprint(e.ExecutionRef)] = 1, 1
			}
			k.commit(u)
			for _, limit := range []int{1, 3, 7, 40} {
				got := make(map[string]int)
				last := time.Time{}
				for _, t := range k.timers(storage.TimerQuery{Shards: shards, Until: at(time.Hour), Limit: limit}) {
					if t.At.Before(last) {
						k.Errorf("Timers returned %v after %v", t.At, last)
					}
					last = t.At
					if t.Message.IsZero() {
						got[fmt.Sprint(t.Execution)]++
					} else {
						got[fmt.Sprint(t.Message)]++
					}
				}
				if d := diff(want, got); d != "" {
					k.Errorf("with limit %d not every timer came once:\n%s", limit, d)
				}
			}
		}),
		rule("TimersGoWhenDone", "a finished message and an execution that is not suspended any more are not due", func(k *kit) {
			m := k.message(func(m *crustertype.Message) { m.DeliverAt = at(time.Minute) })
			e := k.execution(suspended(time.Minute))
			k.commit(accepts(m), starts(e))
			k.commit(storage.Unit{
				Finishes: []storage.Finish{finishOf(m, crustertype.MessageDone, ok("r"))},
				Updates:  []storage.Update{update(e, func(u *storage.Update) { u.Status = crustertype.StatusRunning })},
			})
			k.wantTimers("Timers", k.timers(storage.TimerQuery{Shards: shards, Until: at(time.Hour)}))
			k.commit(storage.Unit{Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status, u.WakeAt = crustertype.StatusSuspended, at(2*time.Minute) })}})
			k.wantTimers("Timers", k.timers(storage.TimerQuery{Shards: shards, Until: at(time.Hour)}), wakeOf(e, at(2*time.Minute)))
		}),
		rule("CancelRequestIsDue", "a suspended execution with a cancel request that it may not have seen is due at the request's time, whether the request or the suspension was stored first", func(k *kit) {
			asleep, forever, late := k.execution(suspended(time.Hour)), k.execution(func(e *crustertype.Execution) { e.Status = crustertype.StatusSuspended }), k.execution()
			k.commit(starts(asleep, forever, late))
			var cancels []storage.Cancel
			for _, e := range []crustertype.Execution{asleep, forever, late} {
				cancels = append(cancels, storage.Cancel{ExecutionRef: e.ExecutionRef, Reason: "r", At: at(time.Minute)})
			}
			k.commit(storage.Unit{Cancels: cancels})
			k.commit(storage.Unit{Updates: []storage.Update{update(late, func(u *storage.Update) {
				u.Status, u.WakeAt, u.At = crustertype.StatusSuspended, at(time.Hour), at(2*time.Minute)
			})}})
			due := func(q storage.TimerQuery) (out []string) {
				for _, t := range k.timers(q) {
					out = append(out, t.Execution.ID)
				}
				slices.Sort(out)
				return out
			}
			want := []string{asleep.ID, forever.ID, late.ID}
			slices.Sort(want)
			if got := due(storage.TimerQuery{Shards: shards, After: at(time.Minute - time.Second), Until: at(time.Minute)}); !slices.Equal(got, want) {
				k.Errorf("at the request's time %v are due, want %v", got, want)
			}
			want = []string{asleep.ID, late.ID}
			slices.Sort(want)
			if got := due(storage.TimerQuery{Shards: shards, After: at(time.Minute), Until: at(time.Hour)}); !slices.Equal(got, want) {
				k.Errorf("at the wake-up time %v are due, want %v: a request does not replace it", got, want)
			}
		}),
		rule("SeenCancelLeavesTheTimer", "an execution that has seen its cancel request and sleeps again is due at its WakeAt", func(k *kit) {
			e := k.execution()
			seen := step(0, "cancel")
			seen.Kind = crustertype.StepCancel
			k.commit(starts(e), storage.Unit{Cancels: []storage.Cancel{{ExecutionRef: e.ExecutionRef, Reason: "r", At: at(time.Minute)}}})
			k.commit(storage.Unit{
				Steps:   []storage.StepWrite{write(e, done(seen, 1, ""))},
				Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status, u.WakeAt = crustertype.StatusSuspended, at(time.Hour) })},
			})
			k.wantTimers("Timers after the request", k.timers(storage.TimerQuery{Shards: shards, After: at(time.Minute), Until: at(2 * time.Hour)}), wakeOf(e, at(time.Hour)))
		}),
	}
}
