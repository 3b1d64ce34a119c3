package main

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// proxy is a TCP connection that can be disturbed.
type proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	gate   chan struct{} // closed: bytes pass
	refuse bool
	closed bool
	trap   [][]byte      // what to hold at, before it passes; nil: nothing
	sprung chan struct{} // closed when it was met
}

// newProxy forwards a free port to target.
func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: make(map[net.Conn]bool), gate: make(chan struct{})}
	close(p.gate)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		p.heal()
		p.cut()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		l.Close()
		p.running.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// cut closes all connections and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = true
	for c := range p.conns {
		c.Close()
	}
}

// hold lets nothing pass, and tells nobody.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

// holdAt does the same from the moment on at which a client sends one of these
// texts, which does not pass. The channel is closed then.
func (p *proxy) holdAt(texts ...string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sprung = make(chan struct{})
	for _, s := range texts {
		p.trap = append(p.trap, []byte(s))
	}
	return p.sprung
}

func (p *proxy) watch(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.trap {
		if bytes.Contains(b, s) {
			p.gate, p.trap = make(chan struct{}), nil
			close(p.sprung)
			return
		}
	}
}

// heal lets everything pass.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse, p.trap = false, nil
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

func (p *proxy) pass() {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	<-gate
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.forward(in) })
	}
}

// keep counts a connection, unless there are to be none.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

func (p *proxy) forward(in net.Conn) {
	if !p.keep(in) {
		return
	}
	defer p.drop(in)
	p.pass()
	out, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(out) {
		return
	}
	defer p.drop(out)
	var both sync.WaitGroup
	both.Go(func() { p.copy(out, in, p.watch) })
	p.copy(in, out, func([]byte) {})
	both.Wait()
}

func (p *proxy) copy(to, from net.Conn, watch func([]byte)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		watch(buf[:n])
		p.pass()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
}
