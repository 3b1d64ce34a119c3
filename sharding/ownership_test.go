package sharding_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/sharding"
)

const (
	ttl    = 10 * time.Second
	margin = 2 * time.Second
)

// world is a lock service with storage, and runners that use it badly: their
// messages are late, lost and doubled, their handlers end when they like, their
// keepalives fail for a while.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	now     time.Time
	last    crustertype.Incarnation
	expiry  map[crustertype.Incarnation]time.Time // of leases
	holder  map[crustertype.Shard]crustertype.Incarnation
	epoch   map[crustertype.Shard]int64
	owner   map[crustertype.Shard]crustertype.Incarnation // as recorded in storage
	shards  []crustertype.Shard
	runners []*runner
	log     []string
}

type runner struct {
	name     string
	o        *sharding.Ownership
	cut      time.Time // until then it cannot reach the service
	events   []late
	joining  bool
	dispatch map[crustertype.Shard]crustertype.Lease // works under it
	handlers map[crustertype.Shard]crustertype.Lease // may have running handlers
	stopped  map[crustertype.Shard]bool              // Drained is owed
}

type late struct {
	at time.Time
	e  sharding.Event
}

func (w *world) fatal(r *runner, format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s: %s\n%s", r.name, fmt.Sprintf(format, args...), strings.Join(w.log[max(0, len(w.log)-60):], "\n"))
}

// send delivers an event to r after a while, sometimes twice.
func (w *world) send(r *runner, e sharding.Event) {
	for range 1 + w.rnd.IntN(6)/5 {
		r.events = append(r.events, late{w.now.Add(time.Duration(w.rnd.IntN(800)) * time.Millisecond), e})
	}
}

func (w *world) alive(inc crustertype.Incarnation) bool { return w.now.Before(w.expiry[inc]) }

func (w *world) step(r *runner, e sharding.Event) {
	commands := r.o.Step(w.now, e)
	if e.Kind != sharding.Tick || len(commands) > 0 {
		w.log = append(w.log, fmt.Sprintf("%8s %s: %s %v runner %d epoch %d -> %v", w.now.Sub(start), r.name, e.Kind, e.Shard, e.Runner, e.Epoch, commands))
	}
	for _, c := range commands {
		w.obey(r, c)
	}
	for id, lease := range r.dispatch {
		if !r.o.Working(w.now) {
			w.fatal(r, "works on %v after its deadline %v", id, r.o.Deadline().Sub(start))
		}
		if got, ok := r.o.Lease(id); !ok || got != lease {
			w.fatal(r, "works on %v under epoch %d, but Lease says %v, %v", id, lease.Epoch, got, ok)
		}
	}
}

func (w *world) obey(r *runner, c sharding.Command) {
	id, self := c.Lease.Shard, r.o.Self()
	answer := func(kind sharding.EventKind) {
		w.send(r, sharding.Event{Kind: kind, Shard: id, Epoch: c.Lease.Epoch})
	}
	_, running := r.handlers[id]
	_, working := r.dispatch[id]
	switch c.Op {
	case sharding.Acquire:
		if running {
			w.fatal(r, "acquires %v while handlers run", id)
		}
		w.acquire(r, id, self)
	case sharding.Start:
		if running || working {
			w.fatal(r, "starts %v while handlers of epoch %d run", id, r.handlers[id].Epoch)
		}
		if c.Lease.Owner != self || !r.o.Working(w.now) {
			w.fatal(r, "starts %v for incarnation %d at the wrong time", id, c.Lease.Owner)
		}
		r.dispatch[id], r.handlers[id] = c.Lease, c.Lease
	case sharding.StopDispatch:
		if !working || r.stopped[id] {
			w.fatal(r, "stops %v twice", id)
		}
		delete(r.dispatch, id)
		r.stopped[id] = true
	case sharding.Cancel, sharding.CancelAll:
		if working || !running {
			w.fatal(r, "cancels handlers of %v before it stops dispatch", id)
		}
	case sharding.HandOver:
		if running || working {
			w.fatal(r, "hands %v over while it works", id)
		}
		switch {
		case w.owner[id] != self || w.epoch[id] != c.Lease.Epoch, w.rnd.IntN(5) == 0:
			answer(sharding.HandOverFailed)
		default:
			w.epoch[id]++
			w.owner[id] = c.To
			answer(sharding.HandedOver)
		}
	case sharding.Release:
		if running || working {
			w.fatal(r, "releases %v while it works", id)
		}
		if w.holder[id] == self {
			delete(w.holder, id)
			if c.To != 0 && w.alive(c.To) && w.owner[id] == c.To {
				w.holder[id] = c.To
				for _, other := range w.runners {
					if other.o.Self() == c.To {
						w.send(other, sharding.Event{Kind: sharding.Acquired, Shard: id, Runner: c.To, Epoch: w.epoch[id]})
					}
				}
			}
		}
		answer(sharding.Released)
	case sharding.Rejoin:
		if len(r.dispatch) > 0 {
			w.fatal(r, "rejoins while it works on %v", r.dispatch)
		}
		r.joining = true
	}
}

// acquire takes a lock if it is free, and then the shard in storage.
func (w *world) acquire(r *runner, id crustertype.Shard, self crustertype.Incarnation) {
	held, ok := w.holder[id]
	if (ok && w.alive(held) && held != self) || !w.alive(self) || w.now.Before(r.cut) {
		w.send(r, sharding.Event{Kind: sharding.Refused, Shard: id, Runner: self})
		return
	}
	w.holder[id], w.owner[id] = self, self
	w.epoch[id]++
	w.send(r, sharding.Event{Kind: sharding.Acquired, Shard: id, Runner: self, Epoch: w.epoch[id]})
}

// advance lets some time pass and some things happen.
func (w *world) advance(quiet bool) {
	w.now = w.now.Add(time.Duration(10+w.rnd.IntN(200)) * time.Millisecond)
	for _, r := range w.runners {
		if !quiet && w.rnd.IntN(300) == 0 {
			r.cut = w.now.Add(time.Duration(w.rnd.IntN(15000)) * time.Millisecond)
		}
		reachable := !w.now.Before(r.cut)
		if r.joining && reachable {
			r.joining = false
			w.last++
			w.expiry[w.last] = w.now.Add(ttl)
			w.send(r, sharding.Event{Kind: sharding.Joined, Runner: w.last, Sent: w.now})
		}
		if self := r.o.Self(); self != 0 && reachable && w.alive(self) && w.rnd.IntN(4) == 0 {
			sent := w.now.Add(-time.Duration(w.rnd.IntN(300)) * time.Millisecond)
			w.expiry[self] = w.now.Add(ttl) // the service counts from the arrival
			w.send(r, sharding.Event{Kind: sharding.Kept, Runner: self, Sent: sent})
		}
		due := r.events[:0:0]
		rest := r.events[:0:0]
		for _, l := range r.events {
			if l.at.After(w.now) {
				rest = append(rest, l)
			} else {
				due = append(due, l)
			}
		}
		r.events = rest
		w.rnd.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
		w.step(r, sharding.Event{}) // as a timer at the deadline does
		for _, l := range due {
			w.step(r, l.e)
		}
		for _, id := range w.shards { // handlers end
			if r.stopped[id] && (quiet || w.rnd.IntN(20) == 0) {
				lease := r.handlers[id]
				delete(r.handlers, id)
				delete(r.stopped, id)
				w.step(r, sharding.Event{Kind: sharding.Drained, Shard: id, Epoch: lease.Epoch})
			}
		}
		for _, id := range r.o.In(sharding.Acquiring) {
			if w.rnd.IntN(10) == 0 {
				w.step(r, sharding.Event{Kind: sharding.Free, Shard: id})
			}
		}
		for _, id := range r.o.In(sharding.Owned) { // the watch of the lock
			if lease, _ := r.o.Lease(id); w.holder[id] != lease.Owner && w.rnd.IntN(10) == 0 {
				w.step(r, sharding.Event{Kind: sharding.LockLost, Shard: id, Epoch: lease.Epoch})
			}
		}
	}
	// The promise: one shard, one runner that works on it.
	working := map[crustertype.Shard]*runner{}
	for _, r := range w.runners {
		for id := range r.dispatch {
			if other := working[id]; other != nil {
				w.fatal(r, "works on %v, and so does %s", id, other.name)
			}
			working[id] = r
		}
	}
}

func TestOwnershipOfManyRunners(t *testing.T) {
	t.Parallel()
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	shards := []crustertype.Shard{{Group: "a"}, {Group: "a", Index: 1}, {Group: "b"}}
	for seed := range rounds {
		w := &world{
			t: t, shards: shards, rnd: rand.New(rand.NewPCG(uint64(seed), 1)), now: start,
			expiry: map[crustertype.Incarnation]time.Time{}, holder: map[crustertype.Shard]crustertype.Incarnation{},
			epoch: map[crustertype.Shard]int64{}, owner: map[crustertype.Shard]crustertype.Incarnation{},
		}
		for i := range 3 {
			w.runners = append(w.runners, &runner{
				name: fmt.Sprintf("seed %d, runner %c", seed, 'A'+i), o: newOwnership(t, &sharding.LeaseOptions{TTL: ttl, Margin: margin}), joining: true,
				dispatch: map[crustertype.Shard]crustertype.Lease{}, handlers: map[crustertype.Shard]crustertype.Lease{}, stopped: map[crustertype.Shard]bool{},
			})
		}
		assign := func(id crustertype.Shard, to crustertype.Incarnation) {
			for _, r := range w.runners {
				w.send(r, sharding.Event{Kind: sharding.Assigned, Shard: id, Runner: to})
			}
		}
		for range 2000 {
			if w.rnd.IntN(20) == 0 {
				assign(shards[w.rnd.IntN(len(shards))], w.runners[w.rnd.IntN(3)].o.Self())
			}
			w.advance(false)
		}
		// Calm returns, and everything finds its owner.
		for _, r := range w.runners {
			r.cut = time.Time{}
		}
		for range 200 {
			w.advance(true)
		}
		want := map[crustertype.Shard]*runner{}
		for _, id := range shards {
			want[id] = w.runners[w.rnd.IntN(3)]
			for _, r := range w.runners {
				w.step(r, sharding.Event{Kind: sharding.Assigned, Shard: id, Runner: want[id].o.Self()})
			}
		}
		for range 300 {
			w.advance(true)
		}
		for _, id := range shards {
			for _, r := range w.runners {
				if got := r.o.Phase(id); (got == sharding.Owned) != (r == want[id]) {
					w.fatal(r, "in the end %v is %s, assigned to %s", id, got, want[id].name)
				}
			}
		}
	}
}

func TestOwnershipWatchesBothClocks(t *testing.T) {
	t.Parallel()
	o := newOwnership(t, nil)
	now := time.Now() // has a monotonic reading
	o.Step(now, sharding.Event{Kind: sharding.Joined, Runner: 1, Sent: now})
	if got := o.Deadline(); !got.Equal(now.Add(8 * time.Second)) {
		t.Errorf("Deadline() = %v, want the default TTL less a fifth after %v", got, now)
	}
	if !o.Working(now.Add(8*time.Second - 1)) {
		t.Error("not working just before the deadline")
	}
	if o.Working(now.Add(8 * time.Second)) {
		t.Error("working at the deadline")
	}
	// The wall clock alone went on, as when a machine is suspended. The time of
	// the wall stands in the first word, above 30 bits of nanoseconds.
	suspended := now.Add(time.Second)
	*(*uint64)(unsafe.Pointer(&suspended)) += 8 << 30
	if got := suspended.Sub(now); got != time.Second {
		t.Fatalf("the monotonic clock went on by %v, want 1s: package time has another layout now", got)
	}
	if o.Working(suspended) {
		t.Error("working although the wall clock has passed the deadline: the machine may have been suspended")
	}
	if before := newOwnership(t, nil); before.Working(now) || !before.Deadline().IsZero() || before.Self() != 0 {
		t.Error("working before having joined")
	}
}

func TestNewOwnershipRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		opts sharding.LeaseOptions
		want string
	}{
		{sharding.LeaseOptions{TTL: -1}, "lease TTL -1ns is negative"},
		{sharding.LeaseOptions{Margin: 10 * time.Second}, "lease margin 10s leaves no time to work: use less than the TTL of 10s"},
		{sharding.LeaseOptions{TTL: time.Second, Margin: -1}, "lease margin -1ns"},
	} {
		if _, err := sharding.NewOwnership(&tc.opts); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("NewOwnership(%+v) = %v, want %q", tc.opts, err, tc.want)
		}
	}
}

func TestOwnershipNames(t *testing.T) {
	t.Parallel()
	got := []string{
		sharding.HandingOver.String(), sharding.LockLost.String(), sharding.StopDispatch.String(),
		sharding.Phase(99).String(), sharding.EventKind(99).String(), sharding.Op(99).String(),
	}
	want := []string{"handing-over", "lock-lost", "stop-dispatch", "Phase(99)", "EventKind(99)", "Op(99)"}
	if !slices.Equal(got, want) {
		t.Errorf("names are %q, want %q", got, want)
	}
	o := newOwnership(t, nil)
	if c := o.Step(start, sharding.Event{Kind: 99}); c != nil || o.Phase(crustertype.Shard{}) != sharding.None || o.In(sharding.None) != nil {
		t.Errorf("an unknown event has effects: %v", c)
	}
}

func BenchmarkStep(b *testing.B) {
	o := newOwnership(b, nil)
	id := crustertype.Shard{Group: "default", Index: 1}
	o.Step(start, sharding.Event{Kind: sharding.Joined, Runner: 1, Sent: start})
	b.Run("Tick", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			o.Step(start, sharding.Event{})
		}
	})
	b.Run("Cycle", func(b *testing.B) {
		b.ReportAllocs()
		epoch := int64(0)
		for b.Loop() {
			epoch++
			o.Step(start, sharding.Event{Kind: sharding.Assigned, Shard: id, Runner: 1})
			o.Step(start, sharding.Event{Kind: sharding.Acquired, Shard: id, Runner: 1, Epoch: epoch})
			o.Step(start, sharding.Event{Kind: sharding.Assigned, Shard: id})
			o.Step(start, sharding.Event{Kind: sharding.Drained, Shard: id, Epoch: epoch})
			o.Step(start, sharding.Event{Kind: sharding.Released, Shard: id, Epoch: epoch})
		}
	})
}
