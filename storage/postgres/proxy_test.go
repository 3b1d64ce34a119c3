package postgres_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy passes connections on to a server, until it is told to cut one when a
// given text goes by.
type proxy struct {
	l      net.Listener
	target string

	mu    sync.Mutex
	conns map[net.Conn]bool
	cut   *cut
}

// cut closes a connection: before the message that holds text reaches the
// server, or after the server has answered it.
type cut struct {
	text  string
	after bool
	armed bool // after: the text has gone by
	done  chan struct{}
}

// newProxy listens in front of the server of a connection string, and returns
// the string for the way through it.
func newProxy(t *testing.T, dsn string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: u.Host, conns: make(map[net.Conn]bool)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(client, &wg) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	u.Host = l.Addr().String()
	return p, u.String()
}

// order arms a cut and returns a channel that is closed when it has happened.
func (p *proxy) order(text string, after bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = &cut{text: text, after: after, done: make(chan struct{})}
	return p.cut.done
}

func (p *proxy) track(c net.Conn, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.conns[c] = true
	} else {
		delete(p.conns, c)
	}
}

func (p *proxy) serve(client net.Conn, wg *sync.WaitGroup) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	p.track(client, true)
	p.track(server, true)
	end := func() {
		client.Close()
		server.Close()
		p.track(client, false)
		p.track(server, false)
	}
	victim := make(chan struct{}) // closed when the server's next answer is to be lost
	wg.Go(func() {
		defer end()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			select {
			case <-victim:
				p.mu.Lock()
				close(p.cut.done)
				p.cut = nil
				p.mu.Unlock()
				return
			default:
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	defer end()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		c := p.cut
		hit := c != nil && !c.armed && bytes.Contains(buf[:n], []byte(c.text))
		if hit {
			if c.after {
				c.armed = true
				close(victim)
			} else {
				p.cut = nil
				close(c.done)
			}
		}
		p.mu.Unlock()
		if hit && !c.after {
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}
