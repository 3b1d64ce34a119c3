package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/internal/claim"
)

// Defaults of [Options].
const (
	DefaultPrefix = "/cruster/"
	DefaultTxnOps = 100
)

// Options are what [New] and [Dial] can be told.
type Options struct {
	// Prefix is what all keys begin with; two clusters on one etcd need two. A
	// slash is added when it does not end in one. Default: "/cruster/".
	Prefix string
	// TxnOps is how many locks are taken in one transaction. It has to be below
	// etcd's max-txn-ops, which is 128 unless configured. Default: 100.
	TxnOps int
	// Logger gets what an operator should know. Default: slog.Default().
	Logger *slog.Logger
}

// Backend is a membership in etcd. Package documentation has the key layout.
//
// An address can be bound by one process only. So whoever joins revokes the
// lease of an earlier incarnation on its address: a process that is started
// again does not wait until that has run out. Two processes that are configured
// with one address end each other's sessions; after three times one of them gets
// [membership.ErrAddressTaken], for as long as the other lives.
type Backend struct {
	client *clientv3.Client
	dialed bool
	keys   keys
	ops    int
	log    *slog.Logger
	desk   claim.Desk

	mu       sync.Mutex
	seen     mark
	restored bool // etcd went back, and no session of ours has begun a generation since
}

// mark is a state of etcd.
type mark struct {
	cluster uint64 // ID of etcd's cluster
	rev     int64
}

var _ membership.Backend = (*Backend)(nil)

// New returns a backend that uses a client, which stays the caller's to close.
// TLS and authentication are the client's. nil options mean the defaults.
func New(client *clientv3.Client, opts *Options) (*Backend, error) {
	if client == nil {
		return nil, errors.New("membership: no etcd client: pass one, or use Dial")
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if !strings.HasSuffix(o.Prefix, "/") {
		o.Prefix += "/"
	}
	if o.TxnOps == 0 {
		o.TxnOps = DefaultTxnOps
	}
	if o.TxnOps < 1 {
		return nil, fmt.Errorf("membership: %d operations in a transaction: use 1 or more, or 0 for %d", o.TxnOps, DefaultTxnOps)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Backend{client: client, keys: keys{o.Prefix}, ops: o.TxnOps, log: o.Logger}, nil
}

// Dial returns a backend with a client of its own, in plain text, for endpoints
// such as "etcd-1:2379". It does not wait for a connection.
func Dial(endpoints []string, opts *Options) (*Backend, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("membership: no etcd endpoints: give at least one, as host:port")
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: 5 * time.Second, DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		Logger: zap.NewNop(), // what matters comes back as an error, and is logged here
	})
	if err != nil {
		return nil, fmt.Errorf("membership: connect to etcd at %q: %w", endpoints, err)
	}
	b, err := New(client, opts)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	b.dialed = true
	return b, nil
}

// Close closes the client that [Dial] made. Sessions should have ended.
func (b *Backend) Close() error {
	if !b.dialed {
		return nil
	}
	return b.client.Close()
}

// Join makes self a member.
func (b *Backend) Join(ctx context.Context, self membership.Member, ttl time.Duration) (membership.Session, error) {
	switch {
	case self.Incarnation <= 0:
		return nil, fmt.Errorf("membership: incarnation %d cannot join: storage issues it", self.Incarnation)
	case ttl < time.Millisecond:
		return nil, fmt.Errorf("membership: TTL %s is too short: use seconds", ttl)
	}
	before, _, err := b.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("membership: join: %w", err)
	}
	replaced, err := b.desk.Join(b.log, self, before.members(), ttl)
	if err != nil {
		return nil, err
	}
	for _, inc := range replaced {
		if err := b.revoke(ctx, before.runners[inc].lease); err != nil {
			return nil, fmt.Errorf("membership: end incarnation %d, which had this address: %w", inc, err)
		}
	}
	s := newSession(ctx, b, self, ttl)
	if err := s.enter(ctx, len(before.runners) == len(replaced)); err != nil {
		s.abandon(ctx, err)
		return nil, fmt.Errorf("membership: join: %w", err)
	}
	s.running.Add(2)
	go s.keep()
	go s.follow()
	return s, nil
}

// list reads all keys. It reports whether etcd is older than this process has
// seen it.
func (b *Backend) list(ctx context.Context) (v *view, behind bool, err error) {
	before := b.mark()
	resp, err := b.client.Get(ctx, b.keys.prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, false, fmt.Errorf("list the keys: %w", err)
	}
	now := mark{resp.Header.ClusterId, resp.Header.Revision}
	v = newView(b.keys)
	v.cluster = now.cluster
	_, _, errs := v.replace(resp.Kvs, now.rev)
	for _, err := range errs {
		b.log.Warn("a key was not understood", "prefix", b.keys.prefix, "error", err)
	}
	return v, b.note(before, now), nil
}

// revoke ends a lease. One that has ended is no error.
func (b *Backend) revoke(ctx context.Context, lease clientv3.LeaseID) error {
	if _, err := b.client.Revoke(ctx, lease); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke lease %x: %w", int64(lease), err)
	}
	return nil
}

// mark returns the newest state seen, to be taken before a request is sent.
func (b *Backend) mark() mark {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

// note takes in the state that an answer bears, of a request that went through
// the leader. It reports whether etcd is older than it was before the request,
// because it was restored from a backup.
func (b *Backend) note(before, now mark) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if before.cluster == now.cluster && now.rev < before.rev {
		b.seen, b.restored = now, true // count anew, but remember
		return true
	}
	if b.seen.cluster != now.cluster || b.seen.rev < now.rev {
		b.seen = now
	}
	return false
}

// owesGeneration reports whether the next session is to begin a generation.
func (b *Backend) owesGeneration() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.restored
}

// settled notes that a generation was begun.
func (b *Backend) settled() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.restored = false
}
