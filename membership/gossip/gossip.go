package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/cruster-go/cruster/membership"
)

// Times of the failure detector.
const (
	probeInterval  = 200 * time.Millisecond
	probeTimeout   = 100 * time.Millisecond
	gossipInterval = 50 * time.Millisecond
	suspicionMult  = 4
	leaveTimeout   = 200 * time.Millisecond
)

// Options are what [New] can be told.
type Options struct {
	// Bind is where gossip listens, TCP and UDP, as host:port. It is required.
	Bind string
	// Advertise is where others reach it, as host:port, when that is not Bind:
	// with 0.0.0.0, or behind address translation. The host must be an IP
	// address.
	Advertise string
	// SecretKey encrypts, and keeps strangers out: 16, 24 or 32 bytes, the same
	// on all runners.
	SecretKey []byte
	// Insecure allows a Bind off the loopback interface without SecretKey.
	Insecure bool
	// Label keeps two clusters apart that can reach each other. Default:
	// "cruster".
	Label string

	// Seeds are gossip addresses of other runners, beside those of members.
	Seeds []string
	// SeedOf returns the gossip address of a member; "" when it has none.
	// Default: the host of its address, with the port of this runner.
	SeedOf func(membership.Member) string
	// Confirm is the second opinion: it reports whether it finds the member dead
	// too. It is given about a second. Default: its address does not accept a
	// TCP connection.
	Confirm func(ctx context.Context, m membership.Member) bool

	// Logger gets accusations, and what memberlist says at debug level. Default:
	// slog.Default().
	Logger *slog.Logger
}

// Backend is a membership with a faster failure detector.
type Backend struct {
	inner membership.Backend
	opts  Options
	bind  hostPort
	adv   hostPort // zero: that of bind

	mu   sync.Mutex
	last *session // for the port
}

var _ membership.Backend = (*Backend)(nil)

type hostPort struct {
	host string
	port int
}

// New returns a backend around inner.
func New(inner membership.Backend, opts *Options) (*Backend, error) {
	if inner == nil || opts == nil {
		return nil, errors.New("gossip: no membership to wrap, or no options: Bind is required")
	}
	b := &Backend{inner: inner, opts: *opts}
	var faults []error
	var err error
	if b.bind, err = split("Bind", opts.Bind); err != nil {
		faults = append(faults, err)
	}
	if opts.Advertise != "" {
		if b.adv, err = split("Advertise", opts.Advertise); err != nil {
			faults = append(faults, err)
		}
	}
	switch n := len(opts.SecretKey); {
	case n != 0 && n != 16 && n != 24 && n != 32:
		faults = append(faults, fmt.Errorf("gossip: SecretKey has %d bytes: use 16, 24 or 32", n))
	case n == 0 && !opts.Insecure && !loopback(b.bind.host):
		faults = append(faults, fmt.Errorf("gossip: Bind %q can be reached from other machines: set SecretKey, or Insecure if the network keeps strangers out", opts.Bind))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if b.opts.Label == "" {
		b.opts.Label = "cruster"
	}
	if b.opts.Logger == nil {
		b.opts.Logger = slog.Default()
	}
	if b.opts.Confirm == nil {
		b.opts.Confirm = refusesConnections
	}
	if b.opts.SeedOf == nil {
		b.opts.SeedOf = b.sameport
	}
	return b, nil
}

func split(what, addr string) (hostPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return hostPort{}, fmt.Errorf("gossip: %s %q: use host:port", what, addr)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return hostPort{}, fmt.Errorf("gossip: %s %q: the port is a number up to 65535", what, addr)
	}
	return hostPort{host, n}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// refusesConnections is the second opinion if there is no better one.
func refusesConnections(ctx context.Context, m membership.Member) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.Address)
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

// sameport guesses where a member gossips.
func (b *Backend) sameport(m membership.Member) string {
	host, _, err := net.SplitHostPort(m.Address)
	port := b.bind.port
	if b.adv.port != 0 {
		port = b.adv.port
	}
	if err != nil || port == 0 {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// Join joins the wrapped membership, and gossip beside it. A member that hosts
// no shard group joins the wrapped one alone.
func (b *Backend) Join(ctx context.Context, self membership.Member, ttl time.Duration) (membership.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last != nil {
		select {
		case <-b.last.Session.Done(): // it may hold the port still
			if err := b.last.wait(ctx); err != nil {
				return nil, err
			}
		default:
		}
	}
	inner, err := b.inner.Join(ctx, self, ttl)
	if err != nil || len(self.Groups) == 0 {
		return inner, err
	}
	s := &session{
		Session: inner, b: b, self: self, ttl: ttl, stopped: make(chan struct{}),
		dead: make(map[string]death), deaths: make(chan struct{}, 1),
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	if s.list, err = memberlist.Create(b.config(s)); err != nil {
		s.cancel()
		return nil, errors.Join(fmt.Errorf("gossip: listen on %q: %w", b.opts.Bind, err), inner.Leave(ctx))
	}
	b.last = s
	go s.run(running)
	if r, ok := inner.(membership.Raiser); ok {
		return &raising{s, r}, nil
	}
	return s, nil
}

// config returns memberlist's configuration for a session.
func (b *Backend) config(s *session) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = nodeName(s.self.Incarnation)
	c.Label = b.opts.Label
	c.BindAddr, c.BindPort = b.bind.host, b.bind.port
	c.AdvertiseAddr, c.AdvertisePort = b.adv.host, b.adv.port
	if b.bind.host == "localhost" {
		c.BindAddr = "127.0.0.1"
	}
	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.GossipInterval, c.SuspicionMult = gossipInterval, suspicionMult
	c.TCPTimeout = time.Second
	c.SecretKey = b.opts.SecretKey
	c.Events = events{s}
	c.Logger = log.New(lines{b.opts.Logger}, "", 0)
	return c
}

// lines takes memberlist's log.
type lines struct{ log *slog.Logger }

// Write logs one line.
func (l lines) Write(p []byte) (int, error) {
	l.log.Debug("memberlist", "line", string(p))
	return len(p), nil
}
