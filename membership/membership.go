// Package membership is the contract by which runners know of each other and
// agree on who may take which shard.
//
// A membership tells who is alive and hands out locks on shards. It does not
// make two owners impossible: a runner may pause at any instruction, for longer
// than its lease lives. That is what the epochs and tokens in storage are for,
// which are moved after a lock was taken, and checked by every commit.
//
// Package membertest checks a backend against the rules stated here.
package membership

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// Errors of a membership.
var (
	// ErrExpired: the session is over. Join again, as a new incarnation.
	ErrExpired = errors.New("membership: session is over")
	// ErrAddressTaken: a live runner of another incarnation has the address.
	ErrAddressTaken = errors.New("membership: address is in use by a live runner")
)

// Member is one runner.
type Member struct {
	// Incarnation is the number that storage issued for this life of the
	// process.
	Incarnation crustertype.Incarnation
	// Address is where peers reach it, as host:port; "" when they cannot.
	Address string
	// Groups are the shard groups that it hosts.
	Groups []string
	// Weight is its share of the shards; 0 takes none.
	Weight int
	// Version is that of the program, for people.
	Version string
	// Draining: it is about to leave, and takes no shards.
	Draining bool
}

// Backend is a way to find other runners.
type Backend interface {
	// Join makes self, whose incarnation is new, a member until the session ends.
	// ttl is how long others believe that it lives when they do not hear of it.
	// ctx bounds the joining alone.
	Join(ctx context.Context, self Member, ttl time.Duration) (Session, error)
}

// Session is one runner's membership from Join until it leaves or expires. All
// methods may be called concurrently. After the end they return an error that
// wraps [ErrExpired].
type Session interface {
	// Kept returns when the newest keepalive that was granted was sent, with a
	// monotonic reading. The session lives at least ttl from then on, by a clock
	// that runs no faster than this machine's.
	Kept() time.Time

	// Done is closed when the session has ended: it left, it expired, or it was
	// revoked. Err says why; nil after Leave.
	Done() <-chan struct{}
	Err() error

	// Members returns the live members by incarnation, itself included, as they
	// are known now. It costs no round trip.
	Members() []Member

	// Changed returns a channel that is closed at the next change of Members, of
	// Lost, or of a lock that was refused and may be free now. Get the channel
	// first, then look.
	Changed() <-chan struct{}

	// Refresh is a hint that something has changed: the session looks soon.
	Refresh()

	// Update publishes a new weight and drain state of its own.
	Update(ctx context.Context, weight int, draining bool) error

	// Lock asks for the locks of shards and returns one Lock for each, in order.
	// A lock that it holds already is granted again, with the same revision. The
	// lock of a member that is alive is refused. A granted lock is held until it
	// is unlocked or moved, or the session ends.
	Lock(ctx context.Context, shards []crustertype.Shard) ([]Lock, error)

	// Move passes locks that it holds to another member. Those that the other
	// cannot have, because it is gone, are freed.
	Move(ctx context.Context, shards []crustertype.Shard, to crustertype.Incarnation) error

	// Unlock frees locks. Locks that it does not hold are left alone.
	Unlock(ctx context.Context, shards []crustertype.Shard) error

	// Lost returns, once each, shards whose locks it held and holds no more,
	// without having moved or freed them.
	Lost() []crustertype.Shard

	// Revoke ends another member's session, because it is believed dead. It is
	// idempotent.
	Revoke(ctx context.Context, member crustertype.Incarnation) error

	// Leave ends the session and frees its locks. It is idempotent.
	Leave(ctx context.Context) error
}

// Lock is the answer to a request for one.
type Lock struct {
	Shard crustertype.Shard
	Held  bool
	// Rev orders the locks of a shard that an outside lock service granted; 0
	// when storage itself decides who may take over.
	Rev int64
	// Holder is who has it when it was refused, 0 when that is not known.
	Holder crustertype.Incarnation
	// From is, for a granted lock with Rev 0, whom storage named as the shard's
	// owner when that was found dead; 0: nobody; the member itself: it owns the
	// shard. The shard is to be taken over from that one alone. Who is read as
	// the owner later may be a member that was granted the same lock and was
	// faster: then storage has decided, and this lock is to be unlocked.
	From crustertype.Incarnation
}

// Raiser is a [Session] of a lock service whose revisions can fall behind those
// that storage has seen, because the service was restored from a backup.
type Raiser interface {
	// Raise makes revisions of locks taken from now on higher than all before.
	// It is for when storage does not let a shard be taken over from the very
	// owner that it names: then raise, unlock and lock again. It is idempotent.
	Raise(ctx context.Context) error
}
