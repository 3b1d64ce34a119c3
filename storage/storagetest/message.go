package storagetest

import (
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

func finishOf(m crustertype.Message, state crustertype.MessageState, o crustertype.Outcome) storage.Finish {
	return storage.Finish{ID: m.ID, State: state, Attempts: 1, Outcome: o, At: at(time.Minute)}
}

// finished returns m as a finish leaves it.
func finished(m crustertype.Message, f storage.Finish) crustertype.Message {
	m.State, m.Attempts, m.Outcome, m.FinishedAt = f.State, f.Attempts, f.Outcome, f.At
	return m
}

func unadopted(m *crustertype.Message) { m.Seq = 0 }

func messageRules() []Rule {
	return []Rule{
		rule("AdoptSetsTheOrder", "Adopt sets the Seq of a pending message that has none", func(k *kit) {
			m := k.message(unadopted)
			k.commit(accepts(m))
			k.commit(storage.Unit{Adopts: []storage.Adopt{{ID: m.ID, Seq: 1 << 45}}})
			m.Seq = 1 << 45
			k.wantMessage(m)
			k.wantIDs("Pending of adopted ones", k.pending(storage.PendingQuery{Shards: []crustertype.Shard{home}}), m)
			k.wantIDs("Pending of unadopted ones", k.pending(storage.PendingQuery{Shards: []crustertype.Shard{home}, Unadopted: true}))
		}),
		rule("AdoptHasNoEffectTwice", "Adopt has no effect on a message that has a Seq, or is finished, or is unknown", func(k *kit) {
			adopted, done, dead := k.message(), k.message(unadopted), k.message(unadopted)
			k.commit(accepts(adopted, done, dead))
			f, g := finishOf(done, crustertype.MessageDone, ok("r")), finishOf(dead, crustertype.MessageDead, failed("r"))
			k.commit(storage.Unit{Finishes: []storage.Finish{f, g}})
			k.commit(storage.Unit{Adopts: []storage.Adopt{{ID: adopted.ID, Seq: 90}, {ID: done.ID, Seq: 91}, {ID: dead.ID, Seq: 92}, {ID: crustertype.NewRequestID(), Seq: 93}}})
			k.wantMessage(adopted)
			k.wantMessage(finished(done, f))
			k.wantMessage(finished(dead, g))
		}),
		rule("AttemptsOnlyGrow", "Attempt raises the counter of a pending message to N; a lower or equal N changes nothing", func(k *kit) {
			m := k.message()
			k.commit(accepts(m))
			for _, step := range []struct{ n, want int }{{3, 3}, {2, 3}, {3, 3}, {0, 3}, {4, 4}, {1, 4}} {
				k.commit(storage.Unit{Attempts: []storage.Attempt{{ID: m.ID, N: step.n}}})
				m.Attempts = step.want
				k.wantMessage(m)
			}
			k.commit(storage.Unit{Attempts: []storage.Attempt{{ID: m.ID, N: 7}, {ID: m.ID, N: 5}}}, storage.Unit{Attempts: []storage.Attempt{{ID: m.ID, N: 6}}})
			m.Attempts = 7
			k.wantMessage(m)
		}),
		rule("AttemptNeedsAPendingMessage", "Attempt changes nothing on a message that is finished or unknown", func(k *kit) {
			m := k.message()
			k.commit(accepts(m))
			f := finishOf(m, crustertype.MessageDone, ok("r"))
			k.commit(storage.Unit{Finishes: []storage.Finish{f}})
			k.commit(storage.Unit{Attempts: []storage.Attempt{{ID: m.ID, N: 9}, {ID: crustertype.NewRequestID(), N: 9}}})
			k.wantMessage(finished(m, f))
		}),
		rule("FinishEndsAMessage", "Finish sets state, attempts, outcome and time of a pending message, which is then no longer pending", func(k *kit) {
			done, dead, late := k.fullMessage(), k.message(), k.message(func(m *crustertype.Message) { m.DeliverAt = at(10 * time.Minute) })
			k.commit(accepts(done, dead, late))
			f, g, l := finishOf(done, crustertype.MessageDone, ok("result")), finishOf(dead, crustertype.MessageDead, failed("gave up")), finishOf(late, crustertype.MessageDone, ok("early"))
			f.Attempts = 5
			k.commit(storage.Unit{Finishes: []storage.Finish{f, g, l}})
			k.wantMessage(finished(done, f))
			k.wantMessage(finished(dead, g))
			k.wantMessage(finished(late, l))
			k.wantIDs("Pending", k.pending(storage.PendingQuery{Shards: []crustertype.Shard{home}}))
		}),
		rule("FinishHappensOnce", "finishing a message that is not pending changes nothing", func(k *kit) {
			done, dead, twice := k.message(), k.message(), k.message()
			k.commit(accepts(done, dead, twice))
			f, g, h := finishOf(done, crustertype.MessageDone, ok("first")), finishOf(dead, crustertype.MessageDead, failed("first")), finishOf(twice, crustertype.MessageDone, ok("first"))
			again := finishOf(twice, crustertype.MessageDead, failed("second"))
			k.commit(storage.Unit{Finishes: []storage.Finish{f, g, h}}, storage.Unit{Finishes: []storage.Finish{again}})
			for _, m := range []crustertype.Message{done, dead} {
				late := finishOf(m, crustertype.MessageDone, ok("second"))
				late.At, late.Attempts = at(time.Hour), 8
				k.commit(storage.Unit{Finishes: []storage.Finish{late}})
				late.State = crustertype.MessageDead
				k.commit(storage.Unit{Finishes: []storage.Finish{late}})
			}
			k.wantMessage(finished(done, f))
			k.wantMessage(finished(dead, g))
			k.wantMessage(finished(twice, h))
		}),
		rule("FinishOfUnknownIsNothing", "finishing a message that retention removed changes nothing", func(k *kit) {
			m := k.message()
			k.commit(storage.Unit{Finishes: []storage.Finish{finishOf(m, crustertype.MessageDone, ok("r"))}})
			k.noMessage(m.ID)
		}),
		rule("OutcomesKeepFailures", "an outcome keeps code, name, text and permanence of a failure", func(k *kit) {
			for _, f := range []crustertype.Failure{
				{}, {Code: crustertype.CodeUser, Message: "plain"}, {Code: crustertype.CodePanic, Name: "n", Message: "m", Permanent: true}, {Code: 0xffff, Name: "ü"},
			} {
				m := k.message()
				fin := finishOf(m, crustertype.MessageDone, crustertype.Outcome{Failure: &f})
				k.commit(accepts(m), storage.Unit{Finishes: []storage.Finish{fin}})
				k.wantMessage(finished(m, fin))
			}
		}),
	}
}

func pendingRules() []Rule {
	shards := []crustertype.Shard{home, shardAt(8)}
	return []Rule{
		rule("PendingIsOrderedBySeq", "Pending returns messages ordered by (Seq, ID) over all shards asked for, with payloads", func(k *kit) {
			on := func(shard crustertype.Shard, seq int64) crustertype.Message {
				return k.message(func(m *crustertype.Message) { m.Shard, m.Seq = shard, seq })
			}
			a, b, c, d, e := on(home, 5), on(shards[1], 3), on(home, 3), on(home, 1<<41), on(home, 4)
			k.commit(accepts(a, d, e), accepts(c, b), accepts(on(shardAt(9), 4)))
			got := k.pending(storage.PendingQuery{Shards: shards})
			k.wantIDs("Pending", got, b, c, e, a, d)
			for i, want := range []crustertype.Message{b, c, e, a, d} {
				if d := diff(want, got[i]); d != "" {
					k.Errorf("message %d of Pending differs:\n%s", i, d)
				}
			}
		}),
		rule("PendingOfAllShards", "nil shards are all shards", func(k *kit) {
			a, b := k.message(), k.message(func(m *crustertype.Message) { m.Shard = crustertype.Shard{Group: "z", Index: 250} })
			k.commit(accepts(b, a))
			k.wantIDs("Pending", k.pending(storage.PendingQuery{}), a, b)
		}),
		rule("PendingPages", "Pending returns at most Limit messages, from behind the pair of the last one seen, also when several have one Seq", func(k *kit) {
			var want []crustertype.Message
			for i := range 23 {
				want = append(want, k.message(func(m *crustertype.Message) { m.Seq, m.Shard = int64(1+i/4), shards[i%2] }))
			}
			k.commit(accepts(want...))
			for _, limit := range []int{1, 2, 5, 23, 50} {
				var got []crustertype.Message
				q := storage.PendingQuery{Shards: shards, Limit: limit}
				for range 50 {
					page := k.pending(q)
					if len(page) > limit {
						k.Fatalf("Pending returned %d messages, limit %d", len(page), limit)
					}
					if len(page) == 0 {
						break
					}
					got = append(got, page...)
					q.AfterSeq, q.AfterID = page[len(page)-1].Seq, page[len(page)-1].ID
				}
				k.wantIDs("Pending, paged,", got, want...)
			}
		}),
		rule("PendingLeavesOutWhatIsNotDue", "Pending returns messages that are due at Now: DeliverAt is not after it", func(k *kit) {
			deliver := func(d time.Duration) crustertype.Message {
				return k.message(func(m *crustertype.Message) { m.DeliverAt = at(d) })
			}
			later, soon, past, atOnce := deliver(time.Hour), deliver(time.Minute), deliver(-time.Hour), k.message()
			k.commit(accepts(later, soon, past, atOnce))
			for _, c := range []struct {
				now  time.Duration
				want []crustertype.Message
			}{
				{0, []crustertype.Message{past, atOnce}},
				{time.Minute - time.Millisecond, []crustertype.Message{past, atOnce}},
				{time.Minute, []crustertype.Message{soon, past, atOnce}},
				{2 * time.Hour, []crustertype.Message{later, soon, past, atOnce}},
				{-2 * time.Hour, []crustertype.Message{atOnce}}, // a reader whose clock is behind
			} {
				k.wantIDs("Pending at "+c.now.String(), k.pending(storage.PendingQuery{Shards: shards, Now: at(c.now)}), c.want...)
				k.wantIDs("Pending of the address at "+c.now.String(), k.pending(storage.PendingQuery{Shards: shards, Address: past.Address, Now: at(c.now)}), c.want...)
			}
			unseen := k.message(func(m *crustertype.Message) { m.Seq, m.DeliverAt = 0, at(30*time.Minute) })
			k.commit(accepts(unseen))
			k.wantIDs("Pending of unadopted ones", k.pending(storage.PendingQuery{Shards: shards, Unadopted: true, Now: at(0)}))
			k.wantIDs("Pending of unadopted ones", k.pending(storage.PendingQuery{Shards: shards, Unadopted: true, Now: at(time.Hour)}), unseen)
		}),
		rule("UnadoptedAreFoundByState", "unadopted messages are returned only with Unadopted, adopted ones only without it, and the cursor does not hide unadopted ones", func(k *kit) {
			u1, u2, a := k.message(unadopted), k.message(unadopted), k.message()
			k.commit(accepts(a), accepts(u2), accepts(u1))
			q := storage.PendingQuery{Shards: shards, Unadopted: true}
			k.wantIDs("Pending of unadopted ones", k.pending(q), u1, u2)
			q.AfterSeq, q.AfterID = 1<<50, crustertype.RequestID{0xff, 0xff}
			k.wantIDs("Pending of unadopted ones, behind a cursor,", k.pending(q), u1, u2)
			q.Limit = 1
			k.wantIDs("Pending of unadopted ones, behind a cursor, limited,", k.pending(q), u1)
			k.wantIDs("Pending of adopted ones", k.pending(storage.PendingQuery{Shards: shards}), a)
			k.commit(storage.Unit{Adopts: []storage.Adopt{{ID: u1.ID, Seq: 500}}})
			k.wantIDs("Pending of unadopted ones", k.pending(q), u2)
			k.wantIDs("Pending of adopted ones", k.pending(storage.PendingQuery{Shards: shards}), a, u1)
		}),
		rule("PendingOfOneAddress", "with Address only its messages are returned, adopted and unadopted, in order and paged", func(k *kit) {
			var mine, all []crustertype.Message
			for i := range 60 {
				m := k.message(func(m *crustertype.Message) {
					m.Address.ID = []string{"a", "b", "A"}[i%3]
					m.Shard = home
				})
				if all = append(all, m); i%3 == 0 {
					mine = append(mine, m)
				}
			}
			other := k.message(func(m *crustertype.Message) { m.Address = crustertype.Address{Type: "other", ID: "a"} })
			un := k.message(unadopted, func(m *crustertype.Message) { m.Address.ID = "a" })
			k.commit(accepts(all...), accepts(other, un, k.message(unadopted)))
			q := storage.PendingQuery{Shards: []crustertype.Shard{home}, Address: mine[0].Address, Limit: 7}
			k.wantIDs("Pending of a", k.pending(q), mine[:7]...)
			q.AfterSeq, q.AfterID = mine[6].Seq, mine[6].ID
			k.wantIDs("Pending of a, next page,", k.pending(q), mine[7:14]...)
			k.commit(storage.Unit{Finishes: []storage.Finish{finishOf(mine[7], crustertype.MessageDone, ok("r"))}})
			more := k.message(func(m *crustertype.Message) { m.Address.ID = "a" })
			k.commit(accepts(more), storage.Unit{Adopts: []storage.Adopt{{ID: un.ID, Seq: more.Seq + 1}}})
			q.Limit = 100
			un.Seq = more.Seq + 1
			k.wantIDs("Pending of a", k.pending(q), append(mine[8:20:20], more, un)...)
			q.Unadopted = true
			k.wantIDs("Pending of unadopted ones of a", k.pending(q))
		}),
		rule("PendingLeavesOutFinished", "done and dead messages are not pending", func(k *kit) {
			a, b, c := k.message(), k.message(), k.message(unadopted)
			k.commit(accepts(a, b, c))
			k.commit(storage.Unit{Finishes: []storage.Finish{finishOf(a, crustertype.MessageDone, ok("r")), finishOf(c, crustertype.MessageDead, failed("r"))}})
			k.wantIDs("Pending", k.pending(storage.PendingQuery{Shards: shards}), b)
			k.wantIDs("Pending", k.pending(storage.PendingQuery{Shards: shards, Unadopted: true}))
		}),
		rule("LimitZeroIsAThousand", "a limit of 0 is 1000", func(k *kit) {
			ms := make([]crustertype.Message, 1001)
			for i := range ms {
				ms[i] = k.message(func(m *crustertype.Message) { m.DeliverAt = at(-time.Hour) })
			}
			e := k.execution()
			k.commit(accepts(ms...), starts(e))
			if n := len(k.pending(storage.PendingQuery{Shards: shards})); n != 1000 {
				k.Errorf("Pending without a limit returned %d of 1001 messages, want 1000", n)
			}
			run, _, err := k.s.Runnable(k.ctx, shards, "", 0)
			k.must("Runnable", err)
			k.wantRefs("Runnable without a limit", run, e)
			due, next, err := k.s.Timers(k.ctx, storage.TimerQuery{Shards: shards, Until: at(0)})
			k.must("Timers", err)
			if len(due) != 1000 || next == "" {
				k.Errorf("Timers without a limit returned %d of 1001 and cursor %q, want 1000 and a cursor", len(due), next)
			}
		}),
	}
}
