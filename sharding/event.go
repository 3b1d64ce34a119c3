package sharding

import (
	"fmt"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// Phase is where a shard stands in the view of one runner.
type Phase uint8

// The phases of a shard. [Ownership] says how one leads to another.
const (
	// None: the shard is none of our business.
	None Phase = iota
	// Acquiring: it is assigned to us, and we do not hold its lock yet.
	Acquiring
	// Owned: we hold it and dispatch its work.
	Owned
	// Draining: it is to go; no new work begins, running handlers end.
	Draining
	// HandingOver: nothing runs; the next owner is being written to storage.
	HandingOver
	// Releasing: nothing runs; the lock is being moved or given up.
	Releasing
	// Lost: it is ours no more, and handlers of ours have not ended yet.
	Lost
)

var phaseNames = [...]string{"none", "acquiring", "owned", "draining", "handing-over", "releasing", "lost"}

// String returns the phase in lower case, such as "handing-over".
func (p Phase) String() string { return nameOf(phaseNames[:], int(p), "Phase") }

// EventKind says what happened.
type EventKind uint8

// The events that an [Ownership] understands. Each comment names the fields of
// [Event] that it uses beside Kind. An event that does not fit, because it is
// late, doubled or about another incarnation or epoch, changes nothing.
const (
	// Tick: time passed. Step looks at the deadline with every event, so Tick is
	// for when there is no other.
	Tick EventKind = iota
	// Joined: we are registered as incarnation Runner; the lease request that
	// was granted was sent at Sent.
	Joined
	// Kept: the lease of Runner is alive; the keepalive was sent at Sent. When it
	// was answered does not matter.
	Kept
	// Expired: the lease of Runner is gone, whatever the clock says.
	Expired
	// Assigned: Shard shall belong to Runner; 0: to nobody.
	Assigned
	// Acquired: Runner, which is us, holds the lock of Shard, and storage has
	// recorded Epoch and Token. It also comes without [Acquire], when another
	// runner hands a shard over.
	Acquired
	// Refused: an attempt of Runner, us, to acquire Shard has failed; its lock
	// is held by another or could not be reached.
	Refused
	// Free: it makes sense to try again for Shard: its lock was freed, or a pause
	// after Refused has ended.
	Free
	// LockLost: the lock of Shard that belongs to Epoch is not ours any more.
	LockLost
	// Drained: no handler of Shard, Epoch, is running and none will start; sent
	// once after StopDispatch.
	Drained
	// DrainExpired: the handlers of Shard, Epoch, have had their time. The first
	// one, of a planned drain, cancels all of them. The next one, and one for a
	// shard that is Lost, gives up waiting: the shard moves on while handlers
	// run, and only the fence in storage keeps them from doing harm. Do not send
	// it for work that no fence covers.
	DrainExpired
	// HandedOver: storage has recorded the next owner of Shard, after Epoch.
	HandedOver
	// HandOverFailed: that failed, or its outcome is unknown.
	HandOverFailed
	// Released: the lock of Shard, Epoch, was moved or given up.
	Released
)

var eventNames = [...]string{
	"tick", "joined", "kept", "expired", "assigned", "acquired", "refused", "free",
	"lock-lost", "drained", "drain-expired", "handed-over", "hand-over-failed", "released",
}

// String returns the kind in lower case, such as "lock-lost".
func (k EventKind) String() string { return nameOf(eventNames[:], int(k), "EventKind") }

// Event is something that happened to a runner or to one of its shards.
type Event struct {
	Kind   EventKind
	Shard  crustertype.Shard
	Runner crustertype.Incarnation
	Epoch  int64
	Token  crustertype.Token
	Sent   time.Time
}

// Op says what is to be done.
type Op uint8

// The operations of a [Command]. Those about a shard bear its Lease; where
// nothing is held, only Lease.Shard is set.
const (
	// Acquire: try to get the lock and a new epoch. Answer with Acquired or
	// Refused.
	Acquire Op = iota
	// Start: load the shard and dispatch its work under Lease. No handler of an
	// earlier time runs, save those that DrainExpired gave up on.
	Start
	// StopDispatch: begin nothing new. Answer with Drained once, as soon as no
	// handler is running.
	StopDispatch
	// Cancel: cancel the handlers that have not asked to run to their end.
	Cancel
	// CancelAll: cancel all handlers, and drop their volatile replies.
	CancelAll
	// HandOver: let no commit of the shard begin, wait for those in flight, then
	// record To as the next owner, with a new epoch and token, as the last write
	// under Lease. Answer with HandedOver or HandOverFailed.
	HandOver
	// Release: move the lock to To; 0: give it up. Answer with Released.
	Release
	// Rejoin: register as a new incarnation. Answer with Joined.
	Rejoin
)

var opNames = [...]string{"acquire", "start", "stop-dispatch", "cancel", "cancel-all", "hand-over", "release", "rejoin"}

// String returns the operation in lower case, such as "hand-over".
func (o Op) String() string { return nameOf(opNames[:], int(o), "Op") }

// Command is something to be done. Commands of one Step are in order.
type Command struct {
	Op    Op
	Lease crustertype.Lease
	To    crustertype.Incarnation // HandOver, Release: the next owner
}

// String returns the command for people and tests, without the token.
func (c Command) String() string {
	s := c.Op.String()
	if c.Op == Rejoin {
		return s
	}
	s += " " + c.Lease.Shard.String()
	if c.Lease.Epoch > 0 {
		s += fmt.Sprintf(" epoch %d", c.Lease.Epoch)
	}
	if c.To != 0 {
		s += fmt.Sprintf(" to %d", c.To)
	}
	return s
}

func nameOf(names []string, i int, kind string) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", kind, i)
}
