package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Network is a network in memory. It blocks only on channels and timers, so it
// works inside a bubble of testing/synctest. Everything random in it comes from
// its seed.
type Network struct {
	seed uint64

	mu      sync.Mutex
	faults  Faults
	silence time.Duration
	links   map[string]*memoryLink
	conns   map[*memoryConn]struct{} // the dialling ends
	cuts    map[direction]chan struct{}
	dialled map[direction]uint64
}

// direction is from one address to another.
type direction struct{ from, to string }

// Faults is how bad a [Network] is, for connections made from then on.
type Faults struct {
	// Delay, and up to Jitter more, is how long a message is under way. Within a
	// connection the order stays.
	Delay, Jitter time.Duration
	// Loss is the probability that a message breaks its connection. Half of
	// these messages still arrive, so that it is not known whether a request
	// was executed.
	Loss float64
	// Late and Duplicate are probabilities that a request reaches the handler
	// up to Lateness later than others, and that it reaches it a second time,
	// up to Lateness later; the second reply is dropped. No real connection
	// duplicates requests: it stands for senders that send again, and is for
	// requests that the receiver recognises.
	Late, Duplicate float64
	// Lateness defaults to 50 ms.
	Lateness time.Duration
}

// NewNetwork returns a network without faults.
func NewNetwork(seed uint64) *Network {
	return &Network{
		seed: seed, silence: 4 * time.Second, links: make(map[string]*memoryLink), conns: make(map[*memoryConn]struct{}),
		cuts: make(map[direction]chan struct{}), dialled: make(map[direction]uint64),
	}
}

// SetFaults makes the network as bad as f says.
func (n *Network) SetFaults(f Faults) {
	if f.Lateness <= 0 {
		f.Lateness = 50 * time.Millisecond
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// Transport returns a transport that is reached at address, any text. It does
// not ping, as that keeps virtual time busy, unless o says so: the network
// itself ends connections that a partition has silenced for o.Silence. An
// address can be used again when its transport was killed or closed.
func (n *Network) Transport(address string, o Options) Transport {
	return n.transport(address, address, o)
}

// Client returns a transport that only calls out. name stands for its address
// in partitions.
func (n *Network) Client(name string, o Options) Transport { return n.transport(name, "", o) }

func (n *Network) transport(name, address string, o Options) Transport {
	if o.PingInterval == 0 {
		o.PingInterval = -1
	}
	if o.Seed == 0 {
		o.Seed = hashSeed(n.seed, name, "", 0) | 1
	}
	o = o.withDefaults()
	n.mu.Lock()
	n.silence = o.Silence
	n.mu.Unlock()
	l := &memoryLink{network: n, name: name, address: address, closed: make(chan struct{})}
	t := New(l, o)
	return &memoryTransport{Transport: t, link: l}
}

// Partition cuts both directions between the addresses of one side and those of
// the other. Connections fall silent, and end when they were silent for too
// long; new ones cannot be made.
func (n *Network) Partition(side, other []string) {
	for _, a := range side {
		for _, b := range other {
			n.Cut(a, b)
			n.Cut(b, a)
		}
	}
}

// Cut cuts one direction: what from sends does not reach to.
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := direction{from, to}
	if n.cuts[d] != nil {
		return
	}
	cut := make(chan struct{})
	n.cuts[d] = cut
	time.AfterFunc(n.silence, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.cuts[d] != cut {
			return
		}
		for c := range n.conns {
			if c.between(d) {
				c.tear(errSilent)
				delete(n.conns, c)
			}
		}
	})
}

// Mend repairs one direction.
func (n *Network) Mend(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mend(direction{from, to})
}

// Heal repairs all directions. Connections that have not ended yet go on
// without loss.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for d := range n.cuts {
		n.mend(d)
	}
}

func (n *Network) mend(d direction) {
	if cut := n.cuts[d]; cut != nil {
		close(cut)
		delete(n.cuts, d)
	}
}

// Kill ends the transport at address, or the client of that name, as the end of
// its process does: its connections break at once, both ways, and what it had
// sent may be lost. All that it does from then on fails. Its Close still has to
// be called.
func (n *Network) Kill(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.links[address]; l != nil {
		l.kill()
	}
	n.tearAll(address)
}

// tearAll is called with mu held.
func (n *Network) tearAll(name string) {
	for c := range n.conns {
		if c.from == name || c.to == name {
			c.tear(errReset)
			delete(n.conns, c)
		}
	}
}

// Break breaks the connections between two addresses. New ones can be made.
func (n *Network) Break(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if c.between(direction{a, b}) {
			c.tear(errReset)
			delete(n.conns, c)
		}
	}
}

// cut returns a channel that is closed when the direction is repaired, nil when
// it is not cut.
func (n *Network) cut(from, to string) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[direction{from, to}]
}

func hashSeed(seed uint64, from, to string, count uint64) uint64 {
	h := seed ^ 0xcbf29ce484222325
	for _, s := range []string{from, to} {
		for _, c := range []byte(s) {
			h = (h ^ uint64(c)) * 0x100000001b3
		}
		h = (h ^ 0xff) * 0x100000001b3
	}
	return (h ^ count) * 0x100000001b3
}

var (
	errReset   = errors.New("connection reset by peer")
	errRefused = errors.New("connection refused: nobody listens there")
	errKilled  = errors.New("the process was killed")
)

// memoryLink is one process on the network.
type memoryLink struct {
	network *Network
	name    string
	address string

	accept func(Conn) // not nil: listens; under network.mu, like the next
	killed bool
	closed chan struct{}
	once   sync.Once
}

func (l *memoryLink) Address() string { return l.address }

func (l *memoryLink) Listen(_ context.Context, accept func(Conn)) error {
	n := l.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.killed {
		return errKilled
	}
	if other := n.links[l.name]; other != nil && other != l {
		return fmt.Errorf("listen %s: address already in use", l.name)
	}
	n.links[l.name] = l
	if l.address != "" {
		l.accept = accept
	}
	return nil
}

func (l *memoryLink) Dial(ctx context.Context, to string) (Conn, error) {
	n := l.network
	for _, d := range []direction{{l.name, to}, {to, l.name}} { // there, and the answer
		for cut := n.cut(d.from, d.to); cut != nil; cut = n.cut(d.from, d.to) {
			select {
			case <-cut:
			case <-ctx.Done():
				return nil, fmt.Errorf("dial %s: %w", to, ctx.Err())
			case <-l.closed:
				return nil, errKilled
			}
		}
	}
	n.mu.Lock()
	faults := n.faults
	n.mu.Unlock()
	if faults.Delay > 0 {
		timer := time.NewTimer(faults.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s: %w", to, ctx.Err())
		}
	}
	n.mu.Lock()
	other := n.links[to]
	switch {
	case l.killed:
		n.mu.Unlock()
		return nil, errKilled
	case other == nil || other.accept == nil || other.killed:
		n.mu.Unlock()
		return nil, fmt.Errorf("dial %s: %w", to, errRefused)
	}
	d := direction{l.name, to}
	n.dialled[d]++
	near, far := newMemoryConns(n, d, n.dialled[d])
	n.conns[near] = struct{}{}
	accept := other.accept
	n.mu.Unlock()
	accept(far)
	return near, nil
}

func (l *memoryLink) Refuse() {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	l.accept = nil
}

// kill is called with network.mu held.
func (l *memoryLink) kill() {
	l.killed, l.accept = true, nil
	if l.network.links[l.name] == l {
		delete(l.network.links, l.name)
	}
	l.once.Do(func() { close(l.closed) })
}

func (l *memoryLink) Close() error {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	l.kill()
	return nil
}

// memoryTransport puts late and duplicate requests in front of the handler.
type memoryTransport struct {
	Transport
	link *memoryLink
}

// Start implements [Transport].
func (t *memoryTransport) Start(ctx context.Context, self Hello, h Handler) error {
	if h != nil {
		h = newUnruly(h, t.link)
	}
	return t.Transport.Start(ctx, self, h)
}
