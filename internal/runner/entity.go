package runner

import (
	"context"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/mailbox"
	"github.com/cruster-go/cruster/scheduler"
)

// Method is one dispatchable method of an entity type. It is not modified after
// registration.
type Method struct {
	Name      string
	Persisted bool
	Protected bool // callable from inside handlers and workflows only
	Stream    bool
	Retries   int              // user errors that are tried again
	Backoff   scheduler.Policy // between tries
	Timeout   time.Duration    // of one try; 0: none

	// Decode makes the request value from a payload.
	Decode func(c codec.Codec, payload []byte) (any, error)
	// Invoke runs the method. Unary methods only.
	Invoke func(ctx context.Context, in any) (any, error)
	// Iterate runs the method. Streams only.
	Iterate func(ctx context.Context, in any) iter.Seq2[any, error]
}

// EntityType is one registered entity type with its live entities.
type EntityType struct {
	Name    string
	Group   string // shard group
	Options mailbox.Options
	Idle    time.Duration // an entity unused for so long is evicted; at most twice as long
	Methods map[string]*Method
	Impl    any

	r       *Runner
	stripes [stripeCount]stripe
}

const stripeCount = 64

var hashSeed = maphash.MakeSeed()

type stripe struct {
	live   // changed under the lock, read without
	mu     sync.Mutex
	closed error    // why no entity can be activated now
	_      [16]byte // keep neighbours off the cache line
}

// Activation is one entity that is in memory.
type Activation struct {
	mailbox.Mailbox

	typ *EntityType
	own *tenure // of its shard
	id  string
	age atomic.Uint32 // sweeps since the last use; raised under the stripe's lock

	mu       sync.Mutex
	admitted int64         // sequence number of the newest message admitted
	durable  *durableState // nil while no persisted request is in memory
}

// Address returns the entity's address.
func (a *Activation) Address() crustertype.Address {
	return crustertype.Address{Type: a.typ.Name, ID: a.id}
}

// Lifetime ends when the entity's shard is to go.
func (a *Activation) Lifetime() context.Context { return a.own.life }

// Find returns the entity if it is in memory, else nil, without a lock. It may be
// evicted before it is used: its mailbox then says that it is closed, and the
// caller turns to Activate.
func (t *EntityType) Find(id string) *Activation {
	hash := maphash.String(hashSeed, id)
	a := t.stripes[hash%stripeCount].find(hash, id)
	if a != nil && a.age.Load() != 0 {
		a.age.Store(0)
	}
	return a
}

// Activate returns the entity, bringing it into memory if it is not there. It
// is evicted only when it is not used during the next two sweeps.
func (t *EntityType) Activate(id string) (*Activation, error) {
	hash := maphash.String(hashSeed, id)
	s := &t.stripes[hash%stripeCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.find(hash, id); a != nil {
		a.age.Store(0)
		return a, nil
	}
	if s.closed != nil {
		return nil, s.closed
	}
	if err := crustertype.CheckID("entity ID", id); err != nil {
		return nil, crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	own := t.r.tenure(t.r.ShardOf(t.Group, id))
	if own == nil || !own.open.Load() {
		return nil, crustertype.ErrNotOwner
	}
	a := &Activation{typ: t, own: own, id: id}
	s.add(hash, a)
	return a, nil
}

// open lets entities be activated; err says why they cannot be.
func (t *EntityType) open(err error) {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		s.closed = err
		s.mu.Unlock()
	}
}

// close refuses new entities with err and closes those that live. It returns
// channels that are closed when the last running request of each has ended.
func (t *EntityType) close(err error) []<-chan struct{} {
	var idle []<-chan struct{}
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		s.closed = err
		live := slices.Collect(s.all())
		s.clear()
		s.mu.Unlock()
		for _, a := range live {
			waiting, done := a.Close()
			for _, e := range waiting {
				if c, ok := e.Job.(interface{ Abandon(error) }); ok {
					c.Abandon(err)
				}
			}
			idle = append(idle, done)
		}
	}
	return idle
}

// closeShards closes the entities of shards that are to go, and adds to each
// shard the channels that are closed when its running requests have ended.
func (t *EntityType) closeShards(gone map[*tenure][]<-chan struct{}, err error) {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		var closing []*Activation
		s.removeIf(func(a *Activation) bool {
			_, ok := gone[a.own]
			if ok {
				closing = append(closing, a)
			}
			return ok
		})
		s.mu.Unlock()
		for _, a := range closing {
			waiting, done := a.Mailbox.Close()
			for _, e := range waiting {
				if c, ok := e.Job.(interface{ Abandon(error) }); ok {
					c.Abandon(err)
				}
			}
			select {
			case <-done:
			default:
				gone[a.own] = append(gone[a.own], done)
			}
		}
	}
}

// sweep evicts what was not used since the sweep before the last one.
func (t *EntityType) sweep() (evicted int) {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		evicted += s.removeIf(func(a *Activation) bool { return a.age.Add(1) > 2 && !a.holdsDurable() && a.CloseIdle() })
		s.mu.Unlock()
	}
	return evicted
}

// Live returns how many entities of the type are in memory.
func (t *EntityType) Live() int {
	n := 0
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		n += s.n
		s.mu.Unlock()
	}
	return n
}

func (a *Activation) holdsDurable() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.durable != nil
}
