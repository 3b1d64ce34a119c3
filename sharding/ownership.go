package sharding

import (
	"fmt"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// DefaultTTL is how long a runner's lease lives after a keepalive.
const DefaultTTL = 10 * time.Second

// LeaseOptions are the times of a runner's lease.
type LeaseOptions struct {
	// TTL is after what time without a keepalive others take the shards over.
	// It must be the one that the lease was granted with. Default: 10s.
	TTL time.Duration
	// Margin is how much earlier the runner stops. It has to cover the time
	// between a look at the clock and the effect, and the difference between
	// two clocks that run for one TTL. Default: a fifth of TTL.
	Margin time.Duration
}

// Ownership decides what a runner does about its shards. It takes events and
// returns commands, and does nothing itself; whoever runs it carries the
// commands out, in order, and reports what came of them as events.
//
//	None         → Acquiring    assigned to us
//	Acquiring    → Owned        lock acquired: start
//	             → None         assigned to another
//	Owned        → Draining     assigned to another: stop dispatch, cancel handlers
//	Draining     → HandingOver  drained, another is to own it: write the hand-over
//	             → Releasing    drained, nobody is
//	             → Owned        drained, meanwhile ours again: start
//	HandingOver  → Releasing    recorded, or failed
//	Releasing    → None         released
//	Owned        → Lost         lock lost or deadline passed: stop, cancel all
//	Draining     → Lost         the same
//	Lost         → None         drained
//
// From None a shard that is assigned to us goes on to Acquiring at once.
//
// What it holds to:
//
//   - Nothing is started unless the lock is held and the deadline is ahead, and
//     not before the handlers of the time before have ended.
//   - A lock is given up only when nothing runs under it.
//   - A runner works only while now is before the time the last good keepalive
//     was sent, plus TTL, minus margin. The first Step at that time or later
//     stops everything and asks to rejoin. Shards that were assigned to the
//     incarnation that ended are assigned to nobody here.
//   - Late and doubled events change nothing: they bear an incarnation or an
//     epoch that has passed.
//
// The deadline is looked at by both clocks that a [time.Time] can hold. The
// monotonic one stands still while a virtual machine is suspended; the wall
// clock can be set. Whichever has come further counts: in doubt the runner
// stops, and recovers.
//
// An Ownership is not safe for concurrent use. What a dispatcher needs for each
// request, [Ownership.Deadline], is meant to be kept in an atomic.
type Ownership struct {
	ttl, margin time.Duration
	self        crustertype.Incarnation // 0: not joined
	sent        time.Time               // of the last good keepalive
	shards      map[crustertype.Shard]*shard
	out         []Command
}

type shard struct {
	id     crustertype.Shard
	phase  Phase
	owner  crustertype.Incarnation // as assigned
	lease  crustertype.Lease       // held from Owned to Releasing; in Lost the one that ended
	newest int64                   // highest epoch seen
	asked  bool                    // Acquiring: an attempt is under way
	hard   bool                    // all handlers were cancelled
	to     crustertype.Incarnation // HandingOver: the next owner
	next   crustertype.Lease       // Lost: acquired while old handlers still run
}

// NewOwnership returns the state of a runner that has not joined. nil options
// mean the defaults. It returns an error when the margin leaves no time to
// work.
func NewOwnership(opts *LeaseOptions) (*Ownership, error) {
	var o LeaseOptions
	if opts != nil {
		o = *opts
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.Margin == 0 {
		o.Margin = o.TTL / 5
	}
	switch {
	case o.TTL < 0:
		return nil, fmt.Errorf("lease TTL %s is negative: use a positive duration, or 0 for %s", o.TTL, DefaultTTL)
	case o.Margin < 0 || o.Margin >= o.TTL:
		return nil, fmt.Errorf("lease margin %s leaves no time to work: use less than the TTL of %s", o.Margin, o.TTL)
	}
	return &Ownership{ttl: o.TTL, margin: o.Margin, shards: make(map[crustertype.Shard]*shard)}, nil
}

// Self returns the incarnation that the runner has joined as; 0: none.
func (o *Ownership) Self() crustertype.Incarnation { return o.self }

// Deadline returns when the runner has to have stopped, unless a keepalive
// comes first. The zero time means that it may not work at all.
func (o *Ownership) Deadline() time.Time {
	if o.self == 0 {
		return time.Time{}
	}
	return o.sent.Add(o.ttl - o.margin)
}

// Working reports whether the runner may work at now.
func (o *Ownership) Working(now time.Time) bool {
	end := o.Deadline()
	return o.self != 0 && now.Before(end) && now.Round(0).Before(end.Round(0))
}

// Phase returns where a shard stands.
func (o *Ownership) Phase(id crustertype.Shard) Phase {
	if s := o.shards[id]; s != nil {
		return s.phase
	}
	return None
}

// Lease returns the right to write for a shard. It reports false when there is
// none: in None, Acquiring and Lost.
func (o *Ownership) Lease(id crustertype.Shard) (crustertype.Lease, bool) {
	if s := o.shards[id]; s != nil && s.phase >= Owned && s.phase <= Releasing {
		return s.lease, true
	}
	return crustertype.Lease{}, false
}

// In returns the shards in a phase other than None, by group and index.
func (o *Ownership) In(p Phase) []crustertype.Shard {
	var ids []crustertype.Shard
	for _, id := range o.sorted() {
		if p != None && o.shards[id].phase == p {
			ids = append(ids, id)
		}
	}
	return ids
}

// Step takes an event that is known at now and returns what is to be done about
// it. now must not go back from one call to the next. Events are to be given in
// the order in which they happened, as far as that is known.
func (o *Ownership) Step(now time.Time, e Event) []Command {
	o.out = nil
	if o.self != 0 && !o.Working(now) {
		o.detach(true)
	}
	switch e.Kind {
	case Joined:
		o.join(now, e)
	case Kept:
		if e.Runner == o.self && e.Sent.After(o.sent) {
			o.sent = e.Sent
		}
	case Expired:
		if e.Runner == o.self && o.self != 0 {
			o.detach(true)
		}
	case Tick:
	default:
		if e.Kind <= Released {
			o.stepShard(e)
		}
	}
	return o.out
}

func (o *Ownership) join(now time.Time, e Event) {
	if e.Runner == 0 || e.Runner == o.self {
		return
	}
	if o.self != 0 {
		o.detach(false)
	}
	o.self, o.sent = e.Runner, e.Sent
	if !o.Working(now) {
		o.detach(true) // it took longer than the lease lives
		return
	}
	for _, id := range o.sorted() { // what was assigned before we knew who we are
		if s := o.shards[id]; s.phase == None {
			o.rest(s)
		}
	}
}

func (o *Ownership) sorted() []crustertype.Shard {
	ids := make([]crustertype.Shard, 0, len(o.shards))
	for id := range o.shards {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, crustertype.Shard.Compare)
	return ids
}

// detach ends the incarnation: whatever it held is gone or will soon be.
func (o *Ownership) detach(rejoin bool) {
	o.self = 0
	for _, id := range o.sorted() {
		s := o.shards[id]
		s.next = crustertype.Lease{}
		o.lose(s)
	}
	if rejoin {
		o.out = append(o.out, Command{Op: Rejoin})
	}
}

// lose ends a shard's time with us that nobody planned to end.
func (o *Ownership) lose(s *shard) {
	switch s.phase {
	case Owned:
		o.do(s, StopDispatch)
		o.do(s, CancelAll)
		s.phase, s.hard = Lost, true
	case Draining:
		if !s.hard {
			o.do(s, CancelAll)
		}
		s.phase, s.hard = Lost, true
	case Acquiring, HandingOver, Releasing: // nothing runs
		o.rest(s)
	case None, Lost:
	}
}

func (o *Ownership) stepShard(e Event) {
	s := o.shards[e.Shard]
	if s == nil {
		if e.Kind != Assigned && e.Kind != Acquired {
			return
		}
		s = &shard{id: e.Shard}
		o.shards[e.Shard] = s
	}
	ours := e.Runner == o.self && o.self != 0
	current := s.phase >= Owned && e.Epoch == s.lease.Epoch
	switch e.Kind {
	case Assigned:
		o.assign(s, e.Runner)
	case Acquired:
		if ours && e.Epoch > s.newest {
			o.acquired(s, crustertype.Lease{Shard: s.id, Epoch: e.Epoch, Token: e.Token, Owner: o.self})
		}
	case Refused:
		if ours && s.phase == Acquiring {
			s.asked = false
		}
	case Free:
		if s.phase == Acquiring && !s.asked {
			o.acquire(s)
		}
	case LockLost:
		switch {
		case s.next.Epoch == e.Epoch:
			s.next = crustertype.Lease{}
		case current:
			o.lose(s)
		}
	case Drained:
		if current {
			o.drained(s)
		}
	case DrainExpired:
		if current {
			o.drainExpired(s)
		}
	case HandedOver, HandOverFailed:
		if current && s.phase == HandingOver {
			if e.Kind == HandOverFailed {
				s.to = 0 // the next owner takes over instead
			}
			o.release(s)
		}
	case Released:
		if current && s.phase == Releasing {
			o.rest(s)
		}
	}
}

func (o *Ownership) assign(s *shard, to crustertype.Incarnation) {
	s.owner = to
	switch s.phase {
	case None:
		o.rest(s)
	case Acquiring:
		if !o.wanted(s) {
			o.rest(s) // what the attempt under way still gets is given back
		}
	case Owned:
		if !o.wanted(s) {
			s.phase, s.hard = Draining, false
			o.do(s, StopDispatch)
			o.do(s, Cancel)
		}
	case Draining, HandingOver, Releasing, Lost: // the end of that looks at it
	}
}

func (o *Ownership) acquired(s *shard, l crustertype.Lease) {
	s.newest = l.Epoch
	switch s.phase {
	case None, Acquiring, HandingOver, Releasing: // nothing runs
		s.lease = l
		o.useOrGive(s)
	case Owned, Draining: // the time that we thought we had has ended unseen
		o.lose(s)
		s.next = l
	case Lost:
		s.next = l
	}
}

func (o *Ownership) drained(s *shard) {
	switch s.phase {
	case Draining:
		o.useOrGive(s)
	case Lost:
		if s.next.Epoch == 0 {
			o.rest(s)
			return
		}
		s.lease, s.next = s.next, crustertype.Lease{}
		o.useOrGive(s)
	default:
	}
}

func (o *Ownership) drainExpired(s *shard) {
	switch {
	case s.phase == Draining && !s.hard:
		s.hard = true
		o.do(s, CancelAll)
	case s.phase == Draining && o.wanted(s):
		// Starting again needs another epoch, which shuts the old handlers out.
		s.to = 0
		o.release(s)
	default:
		o.drained(s)
	}
}

// useOrGive starts a shard whose lock we hold and under which nothing runs, or
// passes it on.
func (o *Ownership) useOrGive(s *shard) {
	switch {
	case o.wanted(s):
		s.phase, s.hard = Owned, false
		o.do(s, Start)
	case s.owner != 0:
		s.phase, s.to = HandingOver, s.owner
		o.out = append(o.out, Command{Op: HandOver, Lease: s.lease, To: s.to})
	default:
		s.to = 0
		o.release(s)
	}
}

func (o *Ownership) release(s *shard) {
	s.phase = Releasing
	o.out = append(o.out, Command{Op: Release, Lease: s.lease, To: s.to})
}

// rest is where a shard is when nothing is held and nothing runs.
func (o *Ownership) rest(s *shard) {
	s.phase, s.lease, s.to = None, crustertype.Lease{}, 0
	if o.wanted(s) {
		s.phase = Acquiring
		o.acquire(s)
	}
}

func (o *Ownership) acquire(s *shard) {
	s.asked = true
	o.out = append(o.out, Command{Op: Acquire, Lease: crustertype.Lease{Shard: s.id, Owner: o.self}})
}

func (o *Ownership) wanted(s *shard) bool { return o.self != 0 && s.owner == o.self }

func (o *Ownership) do(s *shard, op Op) {
	o.out = append(o.out, Command{Op: op, Lease: s.lease})
}
