package storagetest

import (
	"bytes"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

func acceptRules() []Rule {
	return []Rule{
		rule("AcceptKeepsEveryField", "an accept inserts the message with all its fields", func(k *kit) {
			m := k.fullMessage()
			k.commit(accepts(m))
			k.wantMessage(m)
			k.noMessage(crustertype.NewRequestID())
		}),
		rule("StartKeepsEveryField", "a start inserts the execution with all its fields", func(k *kit) {
			e := k.fullExecution()
			k.commit(starts(e))
			k.wantExecution(e)
			k.noExecution(crustertype.ExecutionRef{Type: e.Type, ID: "other"})
			k.noExecution(crustertype.ExecutionRef{Type: "other", ID: e.ID})
		}),
		rule("ResultsOfNewItemsAreNil", "Result.Accepts and Result.Starts are nil when all were new", func(k *kit) {
			res := k.commit(storage.Unit{Accepts: []crustertype.Message{k.message(), k.message()}, Starts: []crustertype.Execution{k.execution()}})
			if res[0].Accepts != nil || res[0].Starts != nil {
				k.Errorf("result of new items = %+v, want nil fields", res[0])
			}
		}),
		rule("AcceptMeetsExisting", "an accept of a known ID gets the stored message without Payload, which stays as it is", func(k *kit) {
			first := k.fullMessage()
			k.commit(accepts(first))
			second := k.message(func(m *crustertype.Message) {
				m.ID, m.Digest, m.Payload, m.Method = first.ID, [16]byte{5}, []byte("another body"), "Other"
				m.Shard.Index, m.Seq, m.State = 99, 1000, crustertype.MessagePending
			})
			fresh := k.message()
			res := k.commit(accepts(fresh), accepts(k.message(), second, k.message()))
			if res[0].Accepts != nil {
				k.Errorf("the unit of new messages got %+v, want nil", res[0].Accepts)
			}
			k.wantExisting(res[1].Accepts, 3, 1, first)
			k.wantMessage(first)
			k.wantMessage(fresh)
		}),
		rule("AcceptMeetsFinished", "the existing message comes with its state and outcome", func(k *kit) {
			m := k.fullMessage()
			k.commit(accepts(m))
			k.commit(storage.Unit{Finishes: []storage.Finish{{ID: m.ID, State: crustertype.MessageDone, Attempts: 3, Outcome: ok("result"), At: at(time.Minute)}}})
			res := k.commit(accepts(m))
			m.State, m.Attempts, m.Outcome, m.FinishedAt = crustertype.MessageDone, 3, ok("result"), at(time.Minute)
			k.wantExisting(res[0].Accepts, 1, 0, m)
			k.wantMessage(m)
		}),
		rule("AcceptSeesEarlierOnes", "an accept sees the accepts of its own unit and of earlier units in the same commit", func(k *kit) {
			a, b := k.message(), k.message()
			again := func(m crustertype.Message) crustertype.Message {
				m.Payload, m.Digest = []byte("another body"), [16]byte{5}
				return m
			}
			res := k.commit(accepts(a, b, again(a)), accepts(again(b), again(a)))
			k.wantExisting(res[0].Accepts, 3, 2, a)
			if len(res[1].Accepts) != 2 || res[1].Accepts[0].Existing == nil || res[1].Accepts[1].Existing == nil {
				k.Fatalf("result of known messages = %+v, want both existing", res[1].Accepts)
			}
			k.wantExisting([]storage.AcceptResult{res[1].Accepts[0]}, 1, 0, b)
			k.wantExisting([]storage.AcceptResult{res[1].Accepts[1]}, 1, 0, a)
			k.wantMessage(a)
			k.wantMessage(b)
		}),
		rule("OneOfRacingAcceptsIsNew", "of concurrent accepts of one ID exactly one inserts", func(k *kit) {
			const racers = 8
			m := k.message()
			var isNew [racers]bool
			var errs [racers]error
			together(racers, func(i int) {
				mine := m
				mine.Payload = []byte{byte(i)}
				res, err := k.s.Commit(k.ctx, []storage.Unit{accepts(mine)})
				if errs[i] = err; err == nil {
					isNew[i] = res[0].Accepts == nil
				}
			})
			winners := 0
			for i := range racers {
				k.must("a racing accept", errs[i])
				if isNew[i] {
					winners++
					m.Payload = []byte{byte(i)}
				}
			}
			if winners != 1 {
				k.Fatalf("%d of %d racing accepts were new, want 1", winners, racers)
			}
			k.wantMessage(m)
		}),
		rule("StartMeetsExisting", "a start of a known type and ID gets the stored execution without Input, which stays as it is", func(k *kit) {
			first := k.fullExecution()
			k.commit(starts(first))
			second := k.execution(func(e *crustertype.Execution) {
				e.ExecutionRef, e.Input, e.Digest, e.Run = first.ExecutionRef, []byte("another body"), [16]byte{5}, 1
			})
			otherType := k.execution(func(e *crustertype.Execution) { e.Type, e.ID = "other", first.ID })
			res := k.commit(starts(k.execution()), starts(k.execution(), second, otherType))
			if res[0].Starts != nil {
				k.Errorf("the unit of new executions got %+v, want nil", res[0].Starts)
			}
			k.wantExistingStart(res[1].Starts, 3, 1, first)
			k.wantExecution(first)
			k.wantExecution(otherType)
		}),
		rule("StartSeesEarlierOnes", "a start sees the starts of its own unit and of earlier units in the same commit", func(k *kit) {
			e := k.execution()
			again := e
			again.Input = []byte("another body")
			res := k.commit(starts(e, again), starts(again))
			k.wantExistingStart(res[0].Starts, 2, 1, e)
			k.wantExistingStart(res[1].Starts, 1, 0, e)
			k.wantExecution(e)
		}),
		rule("NothingIsShared", "what a caller passes in or gets back shares no memory with the store", func(k *kit) {
			m, e := k.fullMessage(), k.fullExecution()
			e.Run = 1
			st := done(step(0, "a"), 1, "outcome")
			failing := k.message()
			fin := storage.Finish{ID: failing.ID, State: crustertype.MessageDead, Outcome: failed("text"), At: at(0)}
			build := func() (crustertype.Message, crustertype.Execution, crustertype.Step) {
				m, e, st := m, e, st
				m.Payload, m.Meta = bytes.Clone(m.Payload), bytes.Clone(m.Meta)
				e.Input, e.Tags = bytes.Clone(e.Input), map[string]string{"a": "b"}
				st.Args, st.Outcome.Payload = bytes.Clone(st.Args), bytes.Clone(st.Outcome.Payload)
				return m, e, st
			}
			spoil := func(m crustertype.Message, e crustertype.Execution, st crustertype.Step) {
				m.Payload[0]++
				m.Meta[0]++
				e.Input[0]++
				e.Tags["a"] = "spoiled"
				st.Args[0]++
				st.Outcome.Payload[0]++
			}
			inM, inE, inS := build()
			k.commit(storage.Unit{Accepts: []crustertype.Message{inM, failing}, Starts: []crustertype.Execution{inE}, Steps: []storage.StepWrite{write(e, inS)}, Finishes: []storage.Finish{fin}})
			spoil(inM, inE, inS)
			fin.Outcome.Failure.Message = "spoiled"
			for range 2 {
				wantM, wantE, wantS := build()
				k.wantMessage(wantM)
				k.wantExecution(wantE)
				k.wantSteps(e.ExecutionRef, 1, wantS)
				gotM, err := k.s.Message(k.ctx, m.ID)
				k.must("Message", err)
				gotE, err := k.s.Execution(k.ctx, e.ExecutionRef)
				k.must("Execution", err)
				gotS, err := k.s.Steps(k.ctx, e.ExecutionRef, 1)
				k.must("Steps", err)
				spoil(gotM, gotE, gotS[0])
				gotF, err := k.s.Message(k.ctx, failing.ID)
				k.must("Message", err)
				if gotF.Outcome.Failure == nil || gotF.Outcome.Failure.Message != "text" {
					k.Fatalf("stored failure = %+v, want the text that was written", gotF.Outcome.Failure)
				}
				gotF.Outcome.Failure.Message = "spoiled"
			}
		}),
		rule("TimesKeepMicroseconds", "times are kept to the microsecond; finer parts are cut off, and a zero time stays zero", func(k *kit) {
			for _, ns := range []int{0, 1, 999, 1000, 1500, 999_999, 1_000_000, 999_999_999} {
				when := time.Date(2031, 7, 9, 1, 2, 3, ns, time.FixedZone("east", 5*3600))
				m := k.message(func(m *crustertype.Message) { m.CreatedAt, m.DeliverAt = when, when })
				e := k.execution(func(e *crustertype.Execution) { e.CreatedAt, e.WakeAt, e.Deadline = when, when, time.Time{} })
				k.commit(accepts(m), starts(e))
				k.wantMessage(m)
				k.wantExecution(e)
			}
			far := k.execution(func(e *crustertype.Execution) {
				e.CreatedAt, e.WakeAt = time.Date(1969, 12, 31, 23, 59, 59, 1000, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
			})
			k.commit(starts(far))
			k.wantExecution(far)
		}),
		rule("EmptyFieldsAreKept", "a nil and an empty slice, map or outcome read back alike", func(k *kit) {
			m := crustertype.Message{
				ID: crustertype.NewRequestID(), Shard: home, Address: crustertype.Address{Type: "t", ID: "i"}, Method: "M",
				State: crustertype.MessagePending, CreatedAt: start, Payload: []byte{}, Meta: []byte{},
			}
			e := crustertype.Execution{
				ExecutionRef: crustertype.ExecutionRef{Type: "t", ID: "i"}, Shard: home, Run: 1, Status: crustertype.StatusRunning,
				CreatedAt: start, Tags: map[string]string{}, Input: []byte{},
			}
			st := crustertype.Step{Run: 1, Kind: crustertype.StepMarker, Name: "n", Seq: 1}
			k.commit(storage.Unit{Accepts: []crustertype.Message{m}, Starts: []crustertype.Execution{e}, Steps: []storage.StepWrite{write(e, st)}})
			k.commit(storage.Unit{Steps: []storage.StepWrite{write(e, st)}, Finishes: []storage.Finish{{ID: m.ID, State: crustertype.MessageDone}}})
			m.State = crustertype.MessageDone
			k.wantMessage(m)
			k.wantExecution(e)
			k.wantSteps(e.ExecutionRef, 1, st)
		}),
		rule("TextIsKept", "strings are opaque: quotes, wildcards, control characters and every script come back as they went in", func(k *kit) {
			for _, text := range []string{`o'Brien "x" \ % _ $1 ?`, "Ωμέγα 数据库 🦀", "tab\tline\nend\r\x01", "e\u0301 and \u00e9", strings.Repeat("é", crustertype.MaxIDLen/2)} {
				m := k.message(func(m *crustertype.Message) { m.Address.ID, m.Key = text, text })
				e := k.execution(func(e *crustertype.Execution) {
					e.ID, e.Key, e.WaitingFor, e.Tags = text, text, text, map[string]string{text: text}
				})
				st := step(0, text)
				st.Outcome = failed(text)
				k.commit(storage.Unit{
					Accepts: []crustertype.Message{m}, Starts: []crustertype.Execution{e}, Steps: []storage.StepWrite{write(e, st)},
					Cancels: []storage.Cancel{{ExecutionRef: e.ExecutionRef, Reason: text, At: at(0)}},
				})
				e.CancelReason, e.CancelAt = text, at(0)
				k.wantMessage(m)
				k.wantExecution(e)
				k.wantSteps(e.ExecutionRef, 1, st)
				k.wantIDs("Pending of an address", k.pending(storage.PendingQuery{Shards: []crustertype.Shard{home}, Address: m.Address}), m)
			}
		}),
		rule("LargePayloadsAreKept", "payloads of a mebibyte are ordinary", func(k *kit) {
			big := bytes.Repeat([]byte{0, 1, 2, 3, 0xff, 0xfe, '\'', '"'}, 1<<17)
			m, e := k.message(), k.execution()
			m.Payload, e.Input = big, big
			st := done(step(0, "a"), 1, string(big))
			k.commit(storage.Unit{
				Accepts: []crustertype.Message{m}, Starts: []crustertype.Execution{e}, Steps: []storage.StepWrite{write(e, st)},
				Finishes: []storage.Finish{{ID: m.ID, State: crustertype.MessageDone, Outcome: ok(string(big)), At: at(0)}},
			})
			m.State, m.Outcome, m.FinishedAt = crustertype.MessageDone, ok(string(big)), at(0)
			k.wantMessage(m)
			k.wantExecution(e)
			k.wantSteps(e.ExecutionRef, 1, st)
		}),
		rule("LargeCommitsApply", "a commit of a thousand units is ordinary", func(k *kit) {
			units := make([]storage.Unit, 1000)
			want := make([]crustertype.Message, len(units))
			for i := range units {
				want[i] = k.message()
				units[i] = accepts(want[i])
			}
			k.commit(units...)
			k.wantIDs("Pending", k.pending(storage.PendingQuery{Shards: []crustertype.Shard{home}, Limit: 2000}), want...)
		}),
	}
}

// wantExisting checks that of n accepts only the i-th met want.
func (k *kit) wantExisting(got []storage.AcceptResult, n, i int, want crustertype.Message) {
	k.Helper()
	if len(got) != n {
		k.Fatalf("Result.Accepts has %d entries, want %d: one per accept when one of them was known", len(got), n)
	}
	want.Payload = nil
	for j, r := range got {
		switch {
		case j != i && r.Existing != nil:
			k.Errorf("accept %d met %+v, want nil: it was new", j, r.Existing)
		case j == i && r.Existing == nil:
			k.Errorf("accept %d met nothing, want the stored message", j)
		case j == i:
			if d := diff(want, *r.Existing); d != "" {
				k.Errorf("the existing message differs from the stored one without its payload:\n%s", d)
			}
		}
	}
}

// wantExistingStart checks that of n starts only the i-th met want.
func (k *kit) wantExistingStart(got []storage.StartResult, n, i int, want crustertype.Execution) {
	k.Helper()
	if len(got) != n {
		k.Fatalf("Result.Starts has %d entries, want %d: one per start when one of them was known", len(got), n)
	}
	want.Input = nil
	for j, r := range got {
		switch {
		case j != i && r.Existing != nil:
			k.Errorf("start %d met %+v, want nil: it was new", j, r.Existing)
		case j == i && r.Existing == nil:
			k.Errorf("start %d met nothing, want the stored execution", j)
		case j == i:
			if d := diff(want, *r.Existing); d != "" {
				k.Errorf("the existing execution differs from the stored one without its input:\n%s", d)
			}
		}
	}
}
