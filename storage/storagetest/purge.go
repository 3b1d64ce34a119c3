package storagetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// purge calls Purge until nothing is left and returns the sum.
func (k *kit) purge(p storage.Purge) int {
	k.Helper()
	sum := 0
	for range 1000 {
		n, err := k.s.Purge(k.ctx, p)
		k.must("Purge", err)
		if n < 0 || p.Limit > 0 && n > p.Limit {
			k.Fatalf("Purge with limit %d says it removed %d", p.Limit, n)
		}
		if n == 0 {
			return sum
		}
		sum += n
	}
	k.Fatalf("Purge always finds something: it must not count what it has done already")
	return 0
}

func all(before time.Time) storage.Purge {
	return storage.Purge{Before: before, Messages: storage.AllTypes, Executions: storage.AllTypes}
}

// finishedMessage stores a message that finished at a time.
func (k *kit) finishedMessage(when time.Time, o crustertype.Outcome, change ...func(*crustertype.Message)) crustertype.Message {
	k.Helper()
	m := k.message(change...)
	f := finishOf(m, crustertype.MessageDone, o)
	f.At = when
	k.commit(accepts(m), storage.Unit{Finishes: []storage.Finish{f}})
	return finished(m, f)
}

// finishedExecution stores an execution of one step that ended at a time.
func (k *kit) finishedExecution(when time.Time, o crustertype.Outcome, change ...func(*crustertype.Execution)) crustertype.Execution {
	k.Helper()
	e := k.execution(change...)
	k.commit(storage.Unit{
		Starts: []crustertype.Execution{e}, Steps: []storage.StepWrite{write(e, step(0, "a"))},
		Updates: []storage.Update{update(e, func(u *storage.Update) { u.Status, u.Outcome, u.At = crustertype.StatusCompleted, o, when })},
	})
	e.Status, e.Outcome, e.UpdatedAt, e.FinishedAt = crustertype.StatusCompleted, o, when, when
	return e
}

func keyed(m *crustertype.Message)      { m.Key, m.Digest = "k", [16]byte{7, 0, 7} }
func keyedRun(e *crustertype.Execution) { e.Key, e.Digest = "k", [16]byte{7, 0, 7} }

func purgeRules() []Rule {
	return []Rule{
		rule("PurgeDeletesOldItems", "an item without a key that finished before Before is deleted, with its journal; later ones stay", func(k *kit) {
			m, e := k.finishedMessage(at(0), ok("r")), k.finishedExecution(at(0), ok("r"))
			newM, newE := k.finishedMessage(at(time.Hour), ok("r")), k.finishedExecution(at(time.Hour), ok("r"))
			if n := k.purge(all(at(0))); n != 0 {
				k.Errorf("Purge before the time at which items finished removed %d", n)
			}
			k.wantMessage(m)
			if n := k.purge(all(at(time.Hour))); n != 2 {
				k.Errorf("Purge removed %d items, want 2", n)
			}
			k.noMessage(m.ID)
			k.noExecution(e.ExecutionRef)
			k.wantSteps(e.ExecutionRef, 1)
			k.wantMessage(newM)
			k.wantExecution(newE)
			k.wantSteps(newE.ExecutionRef, 1, step(0, "a"))
			if res := k.commit(storage.Unit{Accepts: []crustertype.Message{k.message(func(c *crustertype.Message) { c.ID = m.ID })}, Starts: []crustertype.Execution{e}}); res[0].Accepts != nil || res[0].Starts != nil {
				k.Errorf("purged items are met by new ones: %+v", res[0])
			}
			k.wantSteps(e.ExecutionRef, 1)
		}),
		rule("PurgeKeepsTombstones", "an item with a key keeps a tombstone: ID, state, digest and a small outcome; payloads and steps go", func(k *kit) {
			m, e := k.finishedMessage(at(0), ok("small"), keyed), k.finishedExecution(at(0), failed("small"), keyedRun)
			if n := k.purge(all(at(time.Hour))); n != 2 {
				k.Errorf("Purge removed the payloads of %d items, want 2", n)
			}
			gotM, err := k.s.Message(k.ctx, m.ID)
			k.must("Message of a tombstone", err)
			gotE, err := k.s.Execution(k.ctx, e.ExecutionRef)
			k.must("Execution of a tombstone", err)
			k.wantTombstone(m, gotM)
			k.wantRunTombstone(e, gotE)
			if len(gotM.Payload)+len(gotE.Input) > 0 {
				k.Errorf("tombstones still have payloads %q, %q", gotM.Payload, gotE.Input)
			}
			k.wantSteps(e.ExecutionRef, 1)
			again := k.message(keyed, func(c *crustertype.Message) { c.ID = m.ID })
			res := k.commit(storage.Unit{Accepts: []crustertype.Message{again}, Starts: []crustertype.Execution{e}})
			if res[0].Accepts == nil || res[0].Accepts[0].Existing == nil || res[0].Starts == nil || res[0].Starts[0].Existing == nil {
				k.Fatalf("result of a key used again = %+v, want the tombstones", res[0])
			}
			k.wantTombstone(m, *res[0].Accepts[0].Existing)
			k.wantRunTombstone(e, *res[0].Starts[0].Existing)
			k.commit(storage.Unit{Finishes: []storage.Finish{finishOf(m, crustertype.MessageDead, failed("late"))}})
			gotM, err = k.s.Message(k.ctx, m.ID)
			k.must("Message of a tombstone", err)
			k.wantTombstone(m, gotM)
		}),
		rule("TombstonesKeepSmallOutcomesOnly", "a tombstone keeps an outcome of at most 1 KiB as EncodeOutcome writes it", func(k *kit) {
			outcome := func(size int) crustertype.Outcome {
				o := ok(strings.Repeat("x", size))
				o.Payload = o.Payload[:len(o.Payload)-(len(crustertype.EncodeOutcome(o))-size)]
				return o
			}
			for _, c := range []struct {
				size int
				kept bool
			}{{1024, true}, {1025, false}, {100_000, false}} {
				m, e := k.finishedMessage(at(0), outcome(c.size), keyed), k.finishedExecution(at(0), outcome(c.size), keyedRun)
				k.purge(all(at(time.Hour)))
				if !c.kept {
					m.Outcome, e.Outcome = crustertype.Outcome{}, crustertype.Outcome{}
				}
				gotM, err := k.s.Message(k.ctx, m.ID)
				k.must("Message of a tombstone", err)
				k.wantTombstone(m, gotM)
				gotE, err := k.s.Execution(k.ctx, e.ExecutionRef)
				k.must("Execution of a tombstone", err)
				k.wantRunTombstone(e, gotE)
			}
		}),
		rule("TombstonesGoByKeysBefore", "tombstones that finished before KeysBefore are deleted; zero keeps them", func(k *kit) {
			old, young := k.finishedMessage(at(0), ok("r"), keyed), k.finishedMessage(at(time.Hour), ok("r"), keyed)
			oldE, youngE := k.finishedExecution(at(0), ok("r"), keyedRun), k.finishedExecution(at(time.Hour), ok("r"), keyedRun)
			p := all(at(24 * time.Hour))
			k.purge(p)
			p.KeysBefore = at(time.Hour)
			if n := k.purge(p); n != 2 {
				k.Errorf("Purge deleted %d tombstones, want 2", n)
			}
			k.noMessage(old.ID)
			k.noExecution(oldE.ExecutionRef)
			got, err := k.s.Message(k.ctx, young.ID)
			k.must("Message of a tombstone", err)
			k.wantTombstone(young, got)
			_, err = k.s.Execution(k.ctx, youngE.ExecutionRef)
			k.must("Execution of a tombstone", err)
			both := k.finishedMessage(at(0), ok("r"), keyed)
			k.purge(p)
			k.noMessage(both.ID)
		}),
		rule("TombstonesAreNotRetried", "RetryExecution returns ErrNotFound when only a tombstone is left: its input is gone", func(k *kit) {
			e := k.setStatus(crustertype.StatusFailed)
			k.purge(all(at(time.Hour)))
			if got, err := k.s.RetryExecution(k.ctx, e.ExecutionRef, at(0)); !errors.Is(err, storage.ErrNotFound) {
				k.Errorf("RetryExecution of a tombstone = %+v, %v, want ErrNotFound", got, err)
			}
		}),
		rule("PurgeLeavesUnfinishedAlone", "dead, parked and pending items are never touched", func(k *kit) {
			var ms []crustertype.Message
			pending, later := k.fullMessage(), k.message(unadopted, func(m *crustertype.Message) { m.DeliverAt = at(time.Hour) })
			dead := k.message(keyed)
			f := finishOf(dead, crustertype.MessageDead, failed("gave up"))
			k.commit(accepts(pending, later, dead), storage.Unit{Finishes: []storage.Finish{f}})
			ms = append(ms, pending, later, finished(dead, f))
			var es []crustertype.Execution
			for _, status := range []crustertype.Status{crustertype.StatusRunning, crustertype.StatusSuspended, crustertype.StatusParked, crustertype.StatusDead} {
				es = append(es, k.setStatus(status))
			}
			p := all(at(1000 * time.Hour))
			p.KeysBefore = p.Before
			if n := k.purge(p); n != 0 {
				k.Errorf("Purge removed %d items although none is finished", n)
			}
			for _, m := range ms {
				k.wantMessage(m)
			}
			for _, e := range es {
				k.wantExecution(e)
				k.wantSteps(e.ExecutionRef, 1, done(step(0, "a"), 1, "x"))
			}
		}),
		rule("PurgeIsByType", "Messages and Executions limit a purge to some types; nil is none of that sort", func(k *kit) {
			m1, m2 := k.finishedMessage(at(0), ok("r")), k.finishedMessage(at(0), ok("r"), func(m *crustertype.Message) { m.Address.Type = "cart" })
			e1, e2 := k.finishedExecution(at(0), ok("r")), k.finishedExecution(at(0), ok("r"), func(e *crustertype.Execution) { e.Type = "cart" })
			before := at(time.Hour)
			if n := k.purge(storage.Purge{Before: before}); n != 0 {
				k.Errorf("Purge of no types removed %d items", n)
			}
			if n := k.purge(storage.Purge{Before: before, Messages: []string{"cart", "other"}}); n != 1 {
				k.Errorf("Purge of messages of one type removed %d items, want 1", n)
			}
			k.noMessage(m2.ID)
			if n := k.purge(storage.Purge{Before: before, Executions: []string{"cart"}}); n != 1 {
				k.Errorf("Purge of executions of one type removed %d items, want 1", n)
			}
			k.noExecution(e2.ExecutionRef)
			k.wantMessage(m1)
			k.wantExecution(e1)
		}),
		rule("PurgeWorksInBatches", "each call removes at most Limit items and returns how many; 0 when nothing is left", func(k *kit) {
			const n = 25
			for i := range n {
				switch i % 4 {
				case 0:
					k.finishedMessage(at(0), ok("r"))
				case 1:
					k.finishedMessage(at(0), ok("r"), keyed)
				case 2:
					k.finishedExecution(at(0), ok("r"))
				default:
					k.finishedExecution(at(0), ok("r"), keyedRun)
				}
			}
			p := all(at(time.Hour))
			p.Limit = 4
			if sum := k.purge(p); sum != n {
				k.Errorf("batches removed %d items, want %d", sum, n)
			}
		}),
		rule("PurgeRemovesDeadRunners", "records of runners that have expired are removed, live ones stay", func(k *kit) {
			live := k.register()
			for range 3 {
				_, err := k.s.Register(k.ctx, storage.Runner{}, time.Millisecond)
				k.must("Register", err)
			}
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for len(k.runners()) > 1 {
				select {
				case <-tick.C:
				case <-k.ctx.Done():
					k.Fatalf("records of 1ms do not expire")
				}
			}
			if n := k.purge(storage.Purge{}); n != 3 {
				k.Errorf("Purge removed %d records of dead runners, want 3", n)
			}
			if list := k.runners(); len(list) != 1 || list[0].Incarnation != live {
				k.Errorf("Runners = %+v, want only %d", list, live)
			}
		}),
	}
}

// wantTombstone compares what a tombstone must keep.
func (k *kit) wantTombstone(want, got crustertype.Message) {
	k.Helper()
	w := fmt.Sprintf("%v %v %x %q", want.ID, want.State, want.Digest, crustertype.EncodeOutcome(want.Outcome))
	if g := fmt.Sprintf("%v %v %x %q", got.ID, got.State, got.Digest, crustertype.EncodeOutcome(got.Outcome)); g != w {
		k.Errorf("tombstone is\n\t%.300s, want\n\t%.300s", g, w)
	}
}

func (k *kit) wantRunTombstone(want, got crustertype.Execution) {
	k.Helper()
	w := fmt.Sprintf("%v %d %v %x %q", want.ExecutionRef, want.Run, want.Status, want.Digest, crustertype.EncodeOutcome(want.Outcome))
	if g := fmt.Sprintf("%v %d %v %x %q", got.ExecutionRef, got.Run, got.Status, got.Digest, crustertype.EncodeOutcome(got.Outcome)); g != w {
		k.Errorf("tombstone is\n\t%.300s, want\n\t%.300s", g, w)
	}
}
