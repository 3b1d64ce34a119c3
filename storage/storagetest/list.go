package storagetest

import (
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// listMessages reads all pages.
func (k *kit) listMessages(f storage.MessageFilter) []crustertype.Message {
	k.Helper()
	var out []crustertype.Message
	for range 1000 {
		page, next, err := k.s.Messages(k.ctx, f)
		k.must("Messages", err)
		if f.Limit > 0 && len(page) > f.Limit {
			k.Fatalf("Messages returned %d, limit %d", len(page), f.Limit)
		}
		if out = append(out, page...); next == "" {
			return out
		}
		f.After = next
	}
	k.Fatalf("Messages always has a next page")
	return nil
}

// listExecutions reads all pages.
func (k *kit) listExecutions(f storage.ExecutionFilter) []crustertype.Execution {
	k.Helper()
	var out []crustertype.Execution
	for range 1000 {
		page, next, err := k.s.Executions(k.ctx, f)
		k.must("Executions", err)
		if f.Limit > 0 && len(page) > f.Limit {
			k.Fatalf("Executions returned %d, limit %d", len(page), f.Limit)
		}
		if out = append(out, page...); next == "" {
			return out
		}
		f.After = next
	}
	k.Fatalf("Executions always has a next page")
	return nil
}

// wantSet compares IDs without order.
func (k *kit) wantSet(what string, got []crustertype.Message, want ...crustertype.Message) {
	k.Helper()
	byID := func(a, b crustertype.Message) int { return slices.Compare(a.ID[:], b.ID[:]) }
	slices.SortFunc(got, byID)
	want = slices.SortedFunc(slices.Values(want), byID)
	k.wantIDs(what, got, want...)
}

func listRules() []Rule {
	return []Rule{
		rule("MessagesAreListedNewestFirst", "Messages lists messages newest first, without Payload", func(k *kit) {
			a, b, c := k.fullMessage(), k.message(), k.message()
			f := finishOf(b, crustertype.MessageDone, ok("r"))
			k.commit(accepts(b, c, a), storage.Unit{Finishes: []storage.Finish{f}})
			for _, limit := range []int{0, 1, 2, 3} {
				got := k.listMessages(storage.MessageFilter{Limit: limit})
				k.wantIDs("Messages", got, c, b, a)
				if len(got) == 3 {
					want := a
					want.Payload = nil
					got[2].Meta = want.Meta // nobody reads it here
					if d := diff(want, got[2]); d != "" {
						k.Errorf("a listed message differs:\n%s", d)
					}
				}
			}
		}),
		rule("ExecutionsAreListedNewestFirst", "Executions lists executions newest first, without Input", func(k *kit) {
			a, b, c := k.fullExecution(), k.execution(), k.execution()
			k.commit(starts(b, c, a))
			for _, limit := range []int{0, 1, 2, 3} {
				got := k.listExecutions(storage.ExecutionFilter{Limit: limit})
				k.wantRefs("Executions", got, c, b, a)
				if len(got) == 3 {
					want := a
					want.Input = nil
					got[2].Meta = want.Meta // nobody reads it here
					if d := diff(want, got[2]); d != "" {
						k.Errorf("a listed execution differs:\n%s", d)
					}
				}
			}
		}),
		rule("MessageFiltersSelect", "zero fields of a filter select everything, others what equals them; KeyPrefix is text, not a pattern; From is inclusive, To is not", func(k *kit) {
			a := k.message(func(m *crustertype.Message) { m.Address = crustertype.Address{Type: "cart", ID: "1"}; m.Key = "a%b_c" })
			b := k.message(func(m *crustertype.Message) { m.Address = crustertype.Address{Type: "cart", ID: "2"}; m.Key = "a%B" })
			c := k.message(func(m *crustertype.Message) { m.Method, m.Key = "Sub", `axb\c` })
			d := k.message(func(m *crustertype.Message) { m.Key = "" })
			k.commit(accepts(a, b, c, d), storage.Unit{Finishes: []storage.Finish{finishOf(a, crustertype.MessageDone, ok("r")), finishOf(b, crustertype.MessageDead, failed("r"))}})
			for _, f := range []struct {
				what   string
				filter storage.MessageFilter
				want   []crustertype.Message
			}{
				{"nothing", storage.MessageFilter{}, []crustertype.Message{a, b, c, d}},
				{"a type", storage.MessageFilter{Type: "cart"}, []crustertype.Message{a, b}},
				{"a type and ID", storage.MessageFilter{Type: "cart", ID: "2"}, []crustertype.Message{b}},
				{"an ID", storage.MessageFilter{ID: "1"}, []crustertype.Message{a, c, d}},
				{"a method", storage.MessageFilter{Method: "Sub"}, []crustertype.Message{c}},
				{"a state", storage.MessageFilter{States: []crustertype.MessageState{crustertype.MessageDead}}, []crustertype.Message{b}},
				{"two states", storage.MessageFilter{States: []crustertype.MessageState{crustertype.MessagePending, crustertype.MessageDone}}, []crustertype.Message{a, c, d}},
				{"a key", storage.MessageFilter{KeyPrefix: "a"}, []crustertype.Message{a, b, c}},
				{"a key with a percent sign", storage.MessageFilter{KeyPrefix: "a%"}, []crustertype.Message{a, b}},
				{"a key in lower case", storage.MessageFilter{KeyPrefix: "a%b"}, []crustertype.Message{a}},
				{"a key with an underscore", storage.MessageFilter{KeyPrefix: "a%b_"}, []crustertype.Message{a}},
				{"a key with a backslash", storage.MessageFilter{KeyPrefix: `axb\`}, []crustertype.Message{c}},
				{"a key that none has", storage.MessageFilter{KeyPrefix: "a_b"}, nil},
				{"times", storage.MessageFilter{From: b.CreatedAt, To: d.CreatedAt}, []crustertype.Message{b, c}},
				{"all of it", storage.MessageFilter{Type: "cart", Method: "Add", KeyPrefix: "a", States: []crustertype.MessageState{crustertype.MessageDead}, From: a.CreatedAt}, []crustertype.Message{b}},
			} {
				k.wantSet("Messages by "+f.what, k.listMessages(f.filter), f.want...)
				f.filter.Limit = 1
				k.wantSet("Messages by "+f.what+", paged,", k.listMessages(f.filter), f.want...)
			}
		}),
		rule("ExecutionFiltersSelect", "all fields of a filter must match; prefixes are text, not patterns; all tags must match", func(k *kit) {
			stored := func(change func(*crustertype.Execution)) crustertype.Execution {
				e := k.execution(change)
				k.commit(starts(e))
				return e
			}
			parent := crustertype.ExecutionRef{Type: "order", ID: "p%1"}
			a := stored(func(e *crustertype.Execution) {
				e.Type, e.ID, e.Key, e.WaitingFor = "cart", "x_1", "a%b", "activity Charge"
			})
			b := stored(func(e *crustertype.Execution) { e.ID, e.WaitingFor, e.Parent = "X_1", "activity_ship", parent })
			c := stored(func(e *crustertype.Execution) {
				e.ID, e.Status, e.Tags = "x-1", crustertype.StatusSuspended, map[string]string{"city": "Köln", `"q"`: `\`, "n": "1"}
			})
			d := stored(func(e *crustertype.Execution) {
				e.ID, e.Key, e.Tags = "y", "axb", map[string]string{"city": "Köln", "n": "2"}
			})
			for _, f := range []struct {
				what   string
				filter storage.ExecutionFilter
				want   []crustertype.Execution
			}{
				{"nothing", storage.ExecutionFilter{}, []crustertype.Execution{d, c, b, a}},
				{"a type", storage.ExecutionFilter{Type: "cart"}, []crustertype.Execution{a}},
				{"a status", storage.ExecutionFilter{Statuses: []crustertype.Status{crustertype.StatusSuspended}}, []crustertype.Execution{c}},
				{"two statuses", storage.ExecutionFilter{Statuses: []crustertype.Status{crustertype.StatusSuspended, crustertype.StatusRunning}}, []crustertype.Execution{d, c, b, a}},
				{"an ID", storage.ExecutionFilter{IDPrefix: "x_"}, []crustertype.Execution{a}},
				{"a short ID", storage.ExecutionFilter{IDPrefix: "x"}, []crustertype.Execution{c, a}},
				{"a key", storage.ExecutionFilter{KeyPrefix: "a%"}, []crustertype.Execution{a}},
				{"what is waited for", storage.ExecutionFilter{WaitingFor: "activity"}, []crustertype.Execution{b, a}},
				{"what is waited for, with an underscore", storage.ExecutionFilter{WaitingFor: "activity_"}, []crustertype.Execution{b}},
				{"a parent", storage.ExecutionFilter{Parent: parent}, []crustertype.Execution{b}},
				{"a tag", storage.ExecutionFilter{Tags: map[string]string{"city": "Köln"}}, []crustertype.Execution{d, c}},
				{"two tags", storage.ExecutionFilter{Tags: map[string]string{"city": "Köln", "n": "2"}}, []crustertype.Execution{d}},
				{"a tag with quotes", storage.ExecutionFilter{Tags: map[string]string{`"q"`: `\`}}, []crustertype.Execution{c}},
				{"a tag of another value", storage.ExecutionFilter{Tags: map[string]string{"city": "Bonn"}}, nil},
				{"an empty tag that none has", storage.ExecutionFilter{Tags: map[string]string{"none": ""}}, nil},
				{"times", storage.ExecutionFilter{From: b.CreatedAt, To: d.CreatedAt}, []crustertype.Execution{c, b}},
			} {
				k.wantRefs("Executions by "+f.what, k.listExecutions(f.filter), f.want...)
				f.filter.Limit = 1
				k.wantRefs("Executions by "+f.what+", paged,", k.listExecutions(f.filter), f.want...)
			}
		}),
		rule("PagesAreStableUnderWrites", "an item that is there all the time is listed exactly once, whatever is written meanwhile", func(k *kit) {
			var ms []crustertype.Message
			var es []crustertype.Execution
			for i := range 12 {
				same := at(time.Duration(i/5) * time.Second) // several of one time
				ms = append(ms, k.message(func(m *crustertype.Message) { m.CreatedAt = same }))
				es = append(es, k.execution(func(e *crustertype.Execution) { e.CreatedAt = same }))
			}
			k.commit(accepts(ms...), starts(es...))
			seen, seenE := map[crustertype.RequestID]int{}, map[crustertype.ExecutionRef]int{}
			f, g := storage.MessageFilter{Limit: 2}, storage.ExecutionFilter{Limit: 2}
			for i := range 30 {
				page, next, err := k.s.Messages(k.ctx, f)
				k.must("Messages", err)
				for _, m := range page {
					seen[m.ID]++
				}
				pageE, nextE, err := k.s.Executions(k.ctx, g)
				k.must("Executions", err)
				for _, e := range pageE {
					seenE[e.ExecutionRef]++
				}
				if f.After, g.After = next, nextE; next == "" && nextE == "" || i == 29 {
					break
				}
				now := at(time.Duration(i%4) * time.Second) // before, among and behind those there
				k.commit(accepts(k.message(func(m *crustertype.Message) { m.CreatedAt = now })), starts(k.execution(func(e *crustertype.Execution) { e.CreatedAt = now })),
					storage.Unit{
						Finishes: []storage.Finish{finishOf(ms[i%len(ms)], crustertype.MessageDone, ok("r"))},
						Updates:  []storage.Update{update(es[i%len(es)], func(u *storage.Update) { u.Status = crustertype.StatusCompleted })},
					})
			}
			for i := range ms {
				if seen[ms[i].ID] != 1 || seenE[es[i].ExecutionRef] != 1 {
					k.Errorf("message and execution %d were listed %d and %d times, want once", i, seen[ms[i].ID], seenE[es[i].ExecutionRef])
				}
			}
		}),
		rule("ListingsHaveALimit", "a listing returns at most 1000 items, also when more are asked for", func(k *kit) {
			ms := make([]crustertype.Message, 1003)
			for i := range ms {
				ms[i] = k.message()
			}
			k.commit(accepts(ms...))
			for _, limit := range []int{0, 5000} {
				page, next, err := k.s.Messages(k.ctx, storage.MessageFilter{Limit: limit})
				k.must("Messages", err)
				if len(page) != 1000 || next == "" {
					k.Errorf("Messages with limit %d returned %d of 1003 and cursor %q, want 1000 and a cursor", limit, len(page), next)
				}
			}
		}),
		rule("CountsAreOfUnfinishedWork", "Counts returns how many messages and executions are in each state that is not finished", func(k *kit) {
			c, err := k.s.Counts(k.ctx)
			k.must("Counts", err)
			if len(c.Messages)+len(c.Executions) > 0 {
				k.Errorf("Counts of an empty store = %+v", c)
			}
			k.finishedMessage(at(0), ok("r"))
			k.finishedExecution(at(0), ok("r"))
			dead := k.message()
			k.commit(accepts(k.message(), k.message(unadopted), dead, k.message(func(m *crustertype.Message) { m.Address.Type, m.DeliverAt = "cart", at(time.Hour) })),
				storage.Unit{Finishes: []storage.Finish{finishOf(dead, crustertype.MessageDead, failed("r"))}})
			for status := crustertype.StatusRunning; status <= crustertype.StatusDead; status++ {
				k.setStatus(status)
			}
			k.commit(starts(k.execution()))
			c, err = k.s.Counts(k.ctx)
			k.must("Counts", err)
			want := storage.Counts{
				Messages: map[string]map[crustertype.MessageState]int64{
					"counter": {crustertype.MessagePending: 2, crustertype.MessageDead: 1}, "cart": {crustertype.MessagePending: 1},
				},
				Executions: map[string]map[crustertype.Status]int64{
					"order": {crustertype.StatusRunning: 2, crustertype.StatusSuspended: 1, crustertype.StatusParked: 1, crustertype.StatusDead: 1},
				},
			}
			if d := diff(want, c); d != "" {
				k.Errorf("Counts differs:\n%s", d)
			}
		}),
	}
}
