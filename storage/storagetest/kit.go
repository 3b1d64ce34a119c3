package storagetest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// start is the time around which the rules' records lie. It has a part of a
// microsecond, which stores cut off.
var start = time.Date(2026, time.March, 1, 12, 30, 15, 123_456_789, time.UTC)

// at returns start plus d.
func at(d time.Duration) time.Time { return start.Add(d) }

// home is the shard that records belong to unless a rule says otherwise.
var home = crustertype.Shard{Group: crustertype.DefaultShardGroup, Index: 7}

// kit is what rules work with: the store, and short ways to say what goes in
// and what must come out.
type kit struct {
	TB
	h   Harness
	s   storage.Store
	ctx context.Context

	mu sync.Mutex // guards n
	n  int        // records made, so that each differs
}

func newKit(t TB, h Harness) *kit {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return &kit{TB: t, h: h.withDefaults(), s: h.Store, ctx: ctx}
}

func (k *kit) next() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.n++
	return k.n
}

// must stops the rule when what failed.
func (k *kit) must(what string, err error) {
	k.Helper()
	if err != nil {
		k.Fatalf("%s = %v", what, err)
	}
}

// message returns a new pending message of counter/1 in home.
func (k *kit) message(change ...func(*crustertype.Message)) crustertype.Message {
	n := k.next()
	m := crustertype.Message{
		ID: crustertype.NewRequestID(), Shard: home, Address: crustertype.Address{Type: "counter", ID: "1"}, Method: "Add",
		Codec: "msgpack", Payload: []byte{0, 1, 0xff, byte(n)}, State: crustertype.MessagePending, Seq: int64(n),
		CreatedAt: at(time.Duration(n) * time.Millisecond),
	}
	for _, c := range change {
		c(&m)
	}
	return m
}

// fullMessage returns a pending message in which every field is set that can
// be.
func (k *kit) fullMessage() crustertype.Message {
	return k.message(func(m *crustertype.Message) {
		m.Key, m.Digest, m.Meta = "key-€", [16]byte{1, 0, 2}, []byte{3, 0}
		m.Attempts, m.DeliverAt, m.Uninterrupted = 2, at(-time.Hour), true
	})
}

// execution returns a new running execution of workflow "order" in home.
func (k *kit) execution(change ...func(*crustertype.Execution)) crustertype.Execution {
	n := k.next()
	e := crustertype.Execution{
		ExecutionRef: crustertype.ExecutionRef{Type: "order", ID: crustertype.NewRequestID().String()}, Shard: home, Run: 1,
		Codec: "json", Input: []byte{'{', 0, byte(n)}, Status: crustertype.StatusRunning,
		CreatedAt: at(time.Duration(n) * time.Millisecond), UpdatedAt: at(time.Duration(n) * time.Millisecond),
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

// fullExecution returns an execution in which every field is set that can be.
func (k *kit) fullExecution() crustertype.Execution {
	return k.execution(func(e *crustertype.Execution) {
		e.Run, e.Key, e.Digest, e.Meta = 3, "key-€", [16]byte{9, 0, 8}, []byte{1, 0, 2}
		e.Status, e.Attempts, e.WakeAt, e.WaitingFor = crustertype.StatusSuspended, 4, at(time.Hour), "activity Zähle"
		e.Deadline, e.Parent = at(24*time.Hour), crustertype.ExecutionRef{Type: "parent", ID: "p-1"}
		e.Tags = map[string]string{"tenant": "ä", "": "empty name", "empty value": ""}
	})
}

// step returns a journal row that is not done.
func step(pos int, name string) crustertype.Step {
	return crustertype.Step{
		Run: 1, Pos: pos, Kind: crustertype.StepActivity, Name: name, Digest: [16]byte{byte(pos), 1},
		Args: []byte{0, byte(pos)}, Codec: "msgpack", Attempts: 1, Due: at(time.Minute), At: at(time.Second),
		Outcome: failed("try again"),
	}
}

// done returns the row with its final outcome.
func done(s crustertype.Step, seq int64, payload string) crustertype.Step {
	s.Seq, s.Attempts, s.Due, s.At, s.Outcome = seq, s.Attempts+1, time.Time{}, at(time.Minute), ok(payload)
	return s
}

func ok(payload string) crustertype.Outcome {
	return crustertype.Outcome{Codec: "msgpack", Payload: []byte(payload)}
}

func failed(text string) crustertype.Outcome {
	return crustertype.Outcome{Failure: &crustertype.Failure{Code: crustertype.CodeUser, Name: "no_stock", Message: text, Permanent: true}}
}

func write(e crustertype.Execution, s crustertype.Step) storage.StepWrite {
	return storage.StepWrite{ExecutionRef: e.ExecutionRef, Step: s}
}

// update returns an update of e's run that leaves its state as it is.
func update(e crustertype.Execution, change ...func(*storage.Update)) storage.Update {
	u := storage.Update{
		ExecutionRef: e.ExecutionRef, Run: e.Run, Status: e.Status, Attempts: e.Attempts, WakeAt: e.WakeAt,
		WaitingFor: e.WaitingFor, Outcome: e.Outcome, At: at(time.Minute),
	}
	for _, c := range change {
		c(&u)
	}
	return u
}

// accepts returns a unit of accepts.
func accepts(ms ...crustertype.Message) storage.Unit { return storage.Unit{Accepts: ms} }

// starts returns a unit of starts.
func starts(es ...crustertype.Execution) storage.Unit { return storage.Unit{Starts: es} }

// commit commits units, which must succeed.
func (k *kit) commit(units ...storage.Unit) []storage.Result {
	k.Helper()
	results, err := k.s.Commit(k.ctx, units)
	if err != nil {
		k.Fatalf("Commit of %d units = %v", len(units), err)
	}
	if len(results) != len(units) {
		k.Fatalf("Commit of %d units returned %d results: one per unit is due", len(units), len(results))
	}
	return results
}

// refused commits units, which must fail with a UnitError for the unit index
// that wraps target.
func (k *kit) refused(index int, target error, units ...storage.Unit) {
	k.Helper()
	_, err := k.s.Commit(k.ctx, units)
	k.wantUnitError(err, index, target)
}

func (k *kit) wantUnitError(err error, index int, target error) {
	k.Helper()
	var bad *storage.UnitError
	if !errors.As(err, &bad) {
		k.Fatalf("Commit = %v, want a *UnitError that wraps %q", err, target)
	}
	if bad.Index != index && bad.Index != -1 {
		k.Errorf("UnitError.Index = %d, want %d, or -1 when the store cannot tell", bad.Index, index)
	}
	if !errors.Is(err, target) {
		k.Errorf("Commit = %v, which does not wrap %q", err, target)
	}
	if storage.IsTransient(err) {
		k.Errorf("Commit = %v is transient: trying a refused unit again cannot help", err)
	}
}

// fenced commits units, which must fail with a FencedError of exactly these
// shards.
func (k *kit) fenced(shards []crustertype.Shard, units ...storage.Unit) {
	k.Helper()
	_, err := k.s.Commit(k.ctx, units)
	k.wantFenced(err, shards...)
}

func (k *kit) wantFenced(err error, shards ...crustertype.Shard) {
	k.Helper()
	var f *storage.FencedError
	if !errors.As(err, &f) {
		k.Fatalf("a write with a lease that is not current = %v, want a *FencedError of %v", err, shards)
	}
	if !slices.Equal(f.Shards, shards) {
		k.Errorf("FencedError.Shards = %v, want exactly %v, in order, without duplicates", f.Shards, shards)
	}
	if !errors.Is(err, storage.ErrFenced) {
		k.Errorf("errors.Is(%v, ErrFenced) = false", err)
	}
	if storage.IsTransient(err) {
		k.Errorf("%v is transient: trying again with a lost lease cannot help", err)
	}
}

// wantMessage reads a message and compares it.
func (k *kit) wantMessage(want crustertype.Message) {
	k.Helper()
	got, err := k.s.Message(k.ctx, want.ID)
	k.must("Message("+want.ID.String()+")", err)
	if d := diff(want, got); d != "" {
		k.Errorf("stored message differs:\n%s", d)
	}
}

func (k *kit) noMessage(id crustertype.RequestID) {
	k.Helper()
	if m, err := k.s.Message(k.ctx, id); !errors.Is(err, storage.ErrNotFound) {
		k.Errorf("Message(%s) = %+v, %v, want ErrNotFound", id, m, err)
	}
}

// wantExecution reads an execution and compares it.
func (k *kit) wantExecution(want crustertype.Execution) {
	k.Helper()
	got, err := k.s.Execution(k.ctx, want.ExecutionRef)
	k.must("Execution("+want.String()+")", err)
	if d := diff(want, got); d != "" {
		k.Errorf("stored execution differs:\n%s", d)
	}
}

func (k *kit) noExecution(ref crustertype.ExecutionRef) {
	k.Helper()
	if e, err := k.s.Execution(k.ctx, ref); !errors.Is(err, storage.ErrNotFound) {
		k.Errorf("Execution(%s) = %+v, %v, want ErrNotFound", ref, e, err)
	}
}

// wantSteps reads a journal and compares it.
func (k *kit) wantSteps(ref crustertype.ExecutionRef, run int, want ...crustertype.Step) {
	k.Helper()
	got, err := k.s.Steps(k.ctx, ref, run)
	k.must("Steps("+ref.String()+")", err)
	if d := diff(want, got); d != "" {
		k.Errorf("journal of run %d differs:\n%s", run, d)
	}
}

// wantIDs compares the IDs of messages, in order.
func (k *kit) wantIDs(what string, got []crustertype.Message, want ...crustertype.Message) {
	k.Helper()
	ids := func(ms []crustertype.Message) (out []string) {
		for _, m := range ms {
			out = append(out, m.ID.String()[14:])
		}
		return out
	}
	if g, w := ids(got), ids(want); !slices.Equal(g, w) {
		k.Errorf("%s returned %v, want %v (ends of the IDs)", what, g, w)
	}
}

// wantRefs compares the IDs of executions, in order.
func (k *kit) wantRefs(what string, got []crustertype.Execution, want ...crustertype.Execution) {
	k.Helper()
	ids := func(es []crustertype.Execution) (out []string) {
		for _, e := range es {
			out = append(out, e.String())
		}
		return out
	}
	if g, w := ids(got), ids(want); !slices.Equal(g, w) {
		k.Errorf("%s returned %v, want %v", what, g, w)
	}
}

// pending runs a query, which must succeed. Now defaults to a time at which
// all is due.
func (k *kit) pending(q storage.PendingQuery) []crustertype.Message {
	k.Helper()
	if q.Now.IsZero() {
		q.Now = at(time.Hour)
	}
	got, err := k.s.Pending(k.ctx, q)
	k.must("Pending", err)
	return got
}

// register returns a new incarnation.
func (k *kit) register() crustertype.Incarnation {
	k.Helper()
	inc, err := k.s.Register(k.ctx, storage.Runner{Address: "127.0.0.1:7000", Groups: []string{home.Group}, Weight: 1, Version: "test"}, time.Hour)
	k.must("Register", err)
	return inc
}

// own registers a runner that takes over shards which nobody owns.
func (k *kit) own(shards ...crustertype.Shard) []crustertype.Lease {
	k.Helper()
	return k.takeOver(storage.TakeOver{By: k.register(), Shards: shards}, len(shards))
}

// takeOver takes over, which must give n leases. They are in the order of
// shards.
func (k *kit) takeOver(t storage.TakeOver, n int) []crustertype.Lease {
	k.Helper()
	leases, err := k.s.TakeOver(k.ctx, t)
	k.must("TakeOver", err)
	if len(leases) != n {
		k.Fatalf("TakeOver(%+v) returned %d leases, want %d", t, len(leases), n)
	}
	return sorted(leases)
}

// owners returns the current leases.
func (k *kit) owners(shards ...crustertype.Shard) []crustertype.Lease {
	k.Helper()
	leases, err := k.s.Owners(k.ctx, shards)
	k.must("Owners", err)
	if len(leases) != len(shards) {
		k.Fatalf("Owners of %d shards returned %d leases", len(shards), len(leases))
	}
	return leases
}

func sorted(leases []crustertype.Lease) []crustertype.Lease {
	return slices.SortedFunc(slices.Values(leases), func(a, b crustertype.Lease) int {
		return cmp.Or(a.Shard.Compare(b.Shard), cmp.Compare(a.Epoch, b.Epoch))
	})
}

// together runs f n times at once and waits.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
