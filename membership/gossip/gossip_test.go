package gossip_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/gossip"
	"github.com/cruster-go/cruster/membership/membertest"
	"github.com/cruster-go/cruster/membership/stored"
	"github.com/cruster-go/cruster/membership/stored/storedtest"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	quiet  = slog.New(slog.NewTextHandler(io.Discard, nil))
	secret = []byte("0123456789abcdef")
)

// group is a cluster on one store, and where its members gossip.
type group struct {
	store storage.Store
	mu    sync.Mutex
	addrs map[string]string // gossip address by runner address
	dead  map[string]bool   // by runner address
}

func newGroup(t testing.TB) *group {
	g := &group{store: memory.New(), addrs: make(map[string]string), dead: make(map[string]bool)}
	t.Cleanup(func() { g.store.Close() })
	return g
}

func (g *group) seedOf(m membership.Member) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.addrs[m.Address]
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// isDead is a second opinion that is always right.
func (g *group) isDead(_ context.Context, m membership.Member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dead[m.Address]
}

func (g *group) kill(s membership.Session, addr string) {
	g.mu.Lock()
	g.dead[addr] = true
	g.mu.Unlock()
	gossip.Crash(s)
}

// node is one process.
type node struct {
	*gossip.Backend
	g    *group
	link *storedtest.Link
	bind string
}

func (g *group) node(t testing.TB, tune func(*gossip.Options)) *node {
	t.Helper()
	n := &node{g: g, link: &storedtest.Link{Ownership: g.store}, bind: freeAddr(t)}
	o := &gossip.Options{
		Bind: n.bind, SecretKey: secret, SeedOf: g.seedOf, Logger: quiet, Confirm: g.isDead,
	}
	if tune != nil {
		tune(o)
	}
	var err error
	if n.Backend, err = gossip.New(stored.New(n.link, &stored.Options{Logger: quiet}), o); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) register(ctx context.Context, m membership.Member, ttl time.Duration) (crustertype.Incarnation, error) {
	n.g.mu.Lock()
	n.g.addrs[m.Address] = n.bind
	n.g.mu.Unlock()
	return storedtest.Engine{Store: n.g.store}.Register(ctx, m, ttl)
}

func (n *node) join(t testing.TB, addr string, ttl time.Duration) membership.Session {
	t.Helper()
	self := membership.Member{Address: addr, Groups: []string{"default"}, Weight: 1}
	var err error
	if self.Incarnation, err = n.register(t.Context(), self, ttl); err != nil {
		t.Fatal(err)
	}
	s, err := n.Join(t.Context(), self, ttl)
	if err != nil {
		t.Fatalf("Join = %v", err)
	}
	t.Cleanup(func() {
		n.link.Heal()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := s.Leave(ctx); err != nil {
			t.Errorf("Leave = %v", err)
		}
	})
	return s
}

// await waits until cond holds.
func await(t testing.TB, what string, limit time.Duration, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-timer.C:
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func sees(s membership.Session, inc crustertype.Incarnation) bool {
	return slices.ContainsFunc(s.Members(), func(m membership.Member) bool { return m.Incarnation == inc })
}

func incarnationOf(s membership.Session, addr string) crustertype.Incarnation {
	for _, m := range s.Members() {
		if m.Address == addr {
			return m.Incarnation
		}
	}
	return 0
}

func TestContract(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for leases in real time")
	}
	t.Parallel()
	membertest.Run(t, func(t *testing.T) *membertest.Service {
		g := newGroup(t)
		engine := storedtest.Engine{Store: g.store}
		return &membertest.Service{
			TTL: 4 * time.Second, Late: 5 * time.Second,
			Node: func(t *testing.T) *membertest.Node {
				n := g.node(t, nil)
				return &membertest.Node{Backend: n, Register: n.register, Cut: n.link.Cut, Heal: n.link.Heal}
			},
			Steal: engine.Steal, Storage: engine,
		}
	})
}

// detect kills one of some members, and returns how long it took until another
// saw it go.
func detect(t testing.TB, members int) time.Duration {
	g := newGroup(t)
	const ttl = time.Minute
	var all []membership.Session
	var nodes []*node
	for i := range members {
		nodes = append(nodes, g.node(t, nil))
		all = append(all, nodes[i].join(t, fmt.Sprintf("10.0.0.%d:1", i), ttl))
	}
	for _, s := range all {
		s.Refresh()
	}
	for _, s := range all {
		await(t, "all are in gossip", 20*time.Second, func() bool { return gossip.Peers(s) == members })
	}
	watcher, victim := all[1], all[members-1]
	addr := fmt.Sprintf("10.0.0.%d:1", members-1)
	inc := incarnationOf(victim, addr)
	await(t, "it is a member", 20*time.Second, func() bool { return sees(watcher, inc) })
	nodes[members-1].link.Cut()
	began := time.Now()
	g.kill(victim, addr)
	await(t, "the victim is gone", 30*time.Second, func() bool { return !sees(watcher, inc) })
	took := time.Since(began)
	nodes[members-1].link.Heal()
	for _, s := range all {
		if err := s.Leave(t.Context()); err != nil {
			t.Errorf("Leave = %v", err)
		}
	}
	return took
}

func TestDeadMemberIsRevokedLongBeforeItsTTL(t *testing.T) {
	t.Parallel()
	took := detect(t, 4)
	t.Logf("revoked after %v", took)
	if took > 15*time.Second {
		t.Errorf("it took %s until a dead member was revoked, TTL 1m", took)
	}
}

// BenchmarkDetection kills one of five members per iteration.
func BenchmarkDetection(b *testing.B) {
	var took []time.Duration
	for b.Loop() {
		took = append(took, detect(b, 5))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds(), "s-p50")
	b.ReportMetric(took[len(took)*99/100].Seconds(), "s-p99")
	b.ReportMetric(took[len(took)-1].Seconds(), "s-max")
}

// TestSecondOpinion: gossip says dead, the other says no.
func TestSecondOpinion(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	asked := make(chan membership.Member, 100)
	doubtful := func(o *gossip.Options) {
		o.Confirm = func(_ context.Context, m membership.Member) bool {
			select {
			case asked <- m:
			default:
			}
			return false
		}
	}
	a := g.node(t, doubtful).join(t, "10.0.0.1:1", time.Minute)
	b := g.node(t, doubtful).join(t, "10.0.0.2:1", time.Minute)
	victim := g.node(t, doubtful).join(t, "10.0.0.3:1", time.Minute)
	for _, s := range []membership.Session{a, b, victim} {
		s.Refresh()
		await(t, "all are in gossip", 10*time.Second, func() bool { return gossip.Peers(s) == 3 })
	}
	gossip.Crash(victim)
	for times := 0; times < 4; { // it is asked again, and says no again
		select {
		case m := <-asked:
			if m.Address == "10.0.0.3:1" {
				times++
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no second opinion was asked for")
		}
	}
	if err := victim.Err(); err != nil || len(a.Members()) != 3 {
		t.Errorf("a member that only gossip takes for dead was revoked: %v, members %d", err, len(a.Members()))
	}
}

// TestLeavingIsNoDeath: nobody is asked about a member that left.
func TestLeavingIsNoDeath(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	watch := func(o *gossip.Options) {
		o.Confirm = func(_ context.Context, m membership.Member) bool {
			t.Errorf("%q, which left, is suspected", m.Address)
			return false
		}
	}
	a := g.node(t, watch).join(t, "10.0.0.1:1", time.Minute)
	b := g.node(t, watch).join(t, "10.0.0.2:1", time.Minute)
	a.Refresh()
	await(t, "both are in gossip", 10*time.Second, func() bool { return gossip.Peers(a) == 2 && gossip.Peers(b) == 2 })
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "it has left gossip", 10*time.Second, func() bool { return gossip.Peers(a) == 1 })
}

// TestOwnLeaseInDoubt: who has not reached storage for a while accuses nobody.
func TestOwnLeaseInDoubt(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	watch := func(o *gossip.Options) {
		o.Confirm = func(_ context.Context, m membership.Member) bool {
			t.Errorf("%q is accused by one whose own lease is in doubt", m.Address)
			return true
		}
	}
	n := g.node(t, watch)
	a := n.join(t, "10.0.0.1:1", 3*time.Second)
	victim := g.node(t, nil).join(t, "10.0.0.2:1", time.Minute)
	a.Refresh()
	await(t, "both are in gossip", 10*time.Second, func() bool { return gossip.Peers(a) == 2 && gossip.Peers(victim) == 2 })
	n.link.Cut()
	await(t, "the lease is in doubt", 10*time.Second, func() bool { return time.Since(a.Kept()) > 2*time.Second+50*time.Millisecond })
	g.kill(victim, "10.0.0.2:1")
	<-a.Done()
}

func TestStrangersStayOut(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	a := g.node(t, nil).join(t, "10.0.0.1:1", time.Minute)
	other := g.node(t, func(o *gossip.Options) { o.SecretKey = []byte("fedcba9876543210") }).join(t, "10.0.0.2:1", time.Minute)
	third := g.node(t, func(o *gossip.Options) { o.Label = "another" }).join(t, "10.0.0.3:1", time.Minute)
	friend := g.node(t, nil).join(t, "10.0.0.4:1", time.Minute)
	a.Refresh()
	await(t, "those with one key find each other", 10*time.Second, func() bool { return gossip.Peers(a) == 2 && gossip.Peers(friend) == 2 })
	if n, m := gossip.Peers(other), gossip.Peers(third); n != 1 || m != 1 {
		t.Errorf("those with another key and label see %d and %d nodes, want only themselves", n, m)
	}
}

func TestClientOnlyTakesNoPart(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	n := g.node(t, nil)
	self := membership.Member{Address: "10.0.0.1:1"}
	self.Incarnation, _ = n.register(t.Context(), self, time.Minute)
	s, err := n.Join(t.Context(), self, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", n.bind)
	if err != nil {
		t.Errorf("a member that hosts nothing listens for gossip: %v", err)
	} else {
		l.Close()
	}
	if err := s.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestJoinFailsWhenThePortIsTaken(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	n := g.node(t, nil)
	l, err := net.Listen("tcp", n.bind)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self := membership.Member{Address: "10.0.0.1:1", Groups: []string{"default"}}
	self.Incarnation, _ = n.register(t.Context(), self, time.Minute)
	if _, err := n.Join(t.Context(), self, time.Minute); err == nil || !strings.Contains(err.Error(), n.bind) {
		t.Errorf("Join on a port that is taken = %v, want an error that names it", err)
	}
	if rs, err := g.store.Runners(t.Context()); err != nil || len(rs) != 0 {
		t.Errorf("after that %v are members, %v", rs, err)
	}
}

func TestMayRevoke(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		members int // before anybody was revoked
		most    int
	}{{1, 0}, {2, 1}, {3, 1}, {4, 2}, {5, 2}, {10, 5}} {
		revoked := 0
		for gossip.MayRevoke(tc.members-revoked, revoked) {
			revoked++
		}
		if revoked != tc.most {
			t.Errorf("of %d members %d are revoked within a TTL, want at most %d", tc.members, revoked, tc.most)
		}
	}
}

func TestNewReportsFaults(t *testing.T) {
	t.Parallel()
	inner := stored.New(memory.New(), nil)
	for _, tc := range []struct {
		name string
		o    *gossip.Options
		want string
	}{
		{"no options", nil, "Bind is required"},
		{"no address", &gossip.Options{}, "host:port"},
		{"bad port", &gossip.Options{Bind: "127.0.0.1:http"}, "number"},
		{"bad advertise", &gossip.Options{Bind: "127.0.0.1:1", Advertise: "x"}, "Advertise"},
		{"short key", &gossip.Options{Bind: "127.0.0.1:1", SecretKey: []byte("x")}, "16, 24 or 32"},
		{"plain text abroad", &gossip.Options{Bind: "0.0.0.0:7946"}, "SecretKey"},
		{"plain text at home", &gossip.Options{Bind: "localhost:7946"}, ""},
		{"waived", &gossip.Options{Bind: "0.0.0.0:7946", Insecure: true}, ""},
	} {
		_, err := gossip.New(inner, tc.o)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: New = %v, want %q", tc.name, err, tc.want)
		}
	}
	if _, err := gossip.New(nil, &gossip.Options{Bind: "127.0.0.1:1"}); err == nil {
		t.Error("New around nothing succeeds")
	}
}
