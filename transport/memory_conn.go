package transport

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// memoryConn is one end of a connection.
type memoryConn struct {
	direction // of what it sends
	network   *Network
	out, in   *memoryPipe
	open      *atomic.Int32 // ends, of the two
	near      *memoryConn
	once      sync.Once
}

var _ Conn = (*memoryConn)(nil)

func newMemoryConns(n *Network, d direction, count uint64) (near, far *memoryConn) {
	there := newMemoryPipe(n, d, count)
	back := newMemoryPipe(n, direction{d.to, d.from}, count)
	open := new(atomic.Int32)
	open.Store(2)
	near = &memoryConn{direction: d, network: n, out: there, in: back, open: open}
	far = &memoryConn{direction: back.direction, network: n, out: back, in: there, open: open, near: near}
	near.near = near
	return near, far
}

func (c *memoryConn) between(d direction) bool {
	return c.from == d.from && c.to == d.to || c.from == d.to && c.to == d.from
}

func (c *memoryConn) Send(msg []byte) error {
	err := c.out.send(msg)
	if errors.Is(err, errReset) {
		c.tear(errReset)
	}
	return err
}

func (c *memoryConn) Recv(buf []byte) ([]byte, error) { return c.in.recv(buf) }

// Close lets what was sent arrive, and then the end.
func (c *memoryConn) Close() error {
	c.once.Do(func() {
		c.out.finish()
		c.in.stop()
		if c.open.Add(-1) == 0 {
			c.network.mu.Lock()
			delete(c.network.conns, c.near)
			c.network.mu.Unlock()
		}
	})
	return nil
}

// tear breaks both directions.
func (c *memoryConn) tear(err error) {
	c.out.tear(err)
	c.in.tear(err)
}

// memoryPipeLimit is how many bytes may be under way, as in the buffers of
// sockets.
const memoryPipeLimit = 1 << 20

// memoryPipe is one direction of a connection.
type memoryPipe struct {
	direction
	network *Network
	torn    chan struct{}

	mu     sync.Mutex
	random *rand.Rand
	faults Faults
	queue  []memoryMessage
	bytes  int
	last   time.Time // when the last message arrives
	ended  bool      // nothing more is sent
	err    error
	ready  chan struct{} // one value each: look again
	room   chan struct{}
}

type memoryMessage struct {
	at    time.Time
	b     []byte
	fatal bool // breaks the connection when it arrives
}

func newMemoryPipe(n *Network, d direction, count uint64) *memoryPipe {
	return &memoryPipe{
		direction: d, network: n, torn: make(chan struct{}), faults: n.faults,
		random: rand.New(rand.NewPCG(n.seed, hashSeed(n.seed, d.from, d.to, count))),
		ready:  make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

func (p *memoryPipe) send(msg []byte) error {
	for {
		p.mu.Lock()
		if p.err != nil {
			defer p.mu.Unlock()
			return p.err
		}
		if p.ended {
			p.mu.Unlock()
			return net.ErrClosed
		}
		if p.bytes == 0 || p.bytes+len(msg) <= memoryPipeLimit {
			break
		}
		p.mu.Unlock()
		select {
		case <-p.room:
		case <-p.torn:
		}
	}
	defer p.mu.Unlock()
	m := memoryMessage{b: append([]byte(nil), msg...)}
	if f := p.faults; f != (Faults{}) {
		if f.Loss > 0 && p.random.Float64() < f.Loss {
			if p.random.IntN(2) == 0 {
				return errReset
			}
			m.fatal = true
		}
		m.at = time.Now().Add(f.Delay)
		if f.Jitter > 0 {
			m.at = m.at.Add(time.Duration(p.random.Int64N(int64(f.Jitter))))
		}
		if m.at.Before(p.last) {
			m.at = p.last
		}
		p.last = m.at
	}
	p.queue = append(p.queue, m)
	p.bytes += len(m.b)
	signal(p.ready)
	return nil
}

func (p *memoryPipe) recv(buf []byte) ([]byte, error) {
	for {
		cut := p.network.cut(p.from, p.to)
		p.mu.Lock()
		var wait time.Duration
		switch {
		case p.err != nil:
			defer p.mu.Unlock()
			return nil, p.err
		case cut != nil:
		case len(p.queue) > 0:
			m := p.queue[0]
			if !m.at.IsZero() {
				wait = time.Until(m.at)
			}
			if wait <= 0 {
				p.queue[0] = memoryMessage{}
				p.queue = p.queue[1:]
				p.bytes -= len(m.b)
				signal(p.room)
				p.mu.Unlock()
				if m.fatal {
					p.tear(errReset)
				}
				if cap(buf) >= len(m.b) {
					return append(buf[:0], m.b...), nil
				}
				return m.b, nil
			}
		case p.ended:
			p.mu.Unlock()
			return nil, io.EOF
		}
		p.mu.Unlock()
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-p.ready:
		case <-cut:
		case <-timer:
		case <-p.torn:
		}
	}
}

func (p *memoryPipe) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	signal(p.ready)
	signal(p.room) // a sender that waits
}

// stop is the end of the reader: what is sent then goes nowhere.
func (p *memoryPipe) stop() { p.tear(net.ErrClosed) }

func (p *memoryPipe) tear(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
		p.queue = nil
		close(p.torn)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
