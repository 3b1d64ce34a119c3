package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/etcd"
)

const (
	patience = 20 * time.Second
	calm     = 30 * time.Second // a lease that does not run out in a test
)

func shardsOf(n int) []crustertype.Shard {
	out := make([]crustertype.Shard, n)
	for i := range out {
		out[i] = crustertype.Shard{Group: "default", Index: i}
	}
	return out
}

// join joins as a new incarnation; the session leaves at the end of the test.
func join(t testing.TB, b *etcd.Backend, addr string, ttl time.Duration) membership.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	inc, _ := register(ctx, membership.Member{}, ttl)
	s, err := b.Join(ctx, membership.Member{Incarnation: inc, Address: addr, Groups: []string{"default"}, Weight: 1}, ttl)
	if err != nil {
		t.Fatalf("Join = %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := s.Leave(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Logf("Leave = %v", err)
		}
	})
	return s
}

// take locks shards, all of which are free, and returns the highest revision.
func take(t testing.TB, s membership.Session, shards []crustertype.Shard) []membership.Lock {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		changed := s.Changed()
		locks, err := s.Lock(ctx, shards)
		if err != nil {
			t.Fatalf("Lock = %v", err)
		}
		if !slices.ContainsFunc(locks, func(l membership.Lock) bool { return !l.Held }) {
			return locks
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("locks are not free after %s", patience)
		}
	}
}

func await(t testing.TB, s membership.Session, what string, cond func() bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		changed := s.Changed()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("not after %s: %s", patience, what)
		}
	}
}

func awaitEnd(t testing.TB, s membership.Session) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.Done():
		if err := s.Err(); !errors.Is(err, membership.ErrExpired) {
			t.Errorf("Err = %v, want ErrExpired", err)
		}
	case <-timer.C:
		t.Fatalf("the session has not ended after %s", patience)
	}
}

// passes lets real time pass.
func passes(t testing.TB, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

func get(t testing.TB, c *clientv3.Client, key string, opts ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp, err := c.Get(ctx, key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestKeys pins what outside tools read.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	prefix := fmt.Sprintf("/keys-%d", prefixes.Add(1))
	b, _ := newBackend(t, s, prefix) // without the slash
	a := join(t, b, "node1:9000", calm)
	b2, _ := newBackend(t, s, prefix+"/")
	other := join(t, b2, "node2:9000", calm)
	take(t, a, shardsOf(300))
	await(t, a, "two members", func() bool { return len(a.Members()) == 2 })
	if err := a.Move(t.Context(), shardsOf(120), a.Members()[1].Incarnation); err != nil {
		t.Fatal(err)
	}
	c, _ := s.dial(t)
	count := map[string]int{}
	resp := get(t, c, prefix+"/shards/", clientv3.WithPrefix())
	for _, kv := range resp.Kvs {
		count[string(kv.Value)]++
		if kv.Lease == 0 {
			t.Errorf("key %q hangs on no lease", kv.Key)
		}
	}
	if len(resp.Kvs) != 300 || count["node1:9000"] != 180 || count["node2:9000"] != 120 {
		t.Errorf("below shards/ are %d keys, by value %v; want 300, the values exactly the addresses", len(resp.Kvs), count)
	}
	if key := prefix + "/shards/default:299"; string(get(t, c, key).Kvs[0].Value) != "node1:9000" {
		t.Errorf("%s is not what it should be", key)
	}
	if n := get(t, c, prefix+"/runners/", clientv3.WithPrefix()).Count; n != 2 {
		t.Errorf("%d runner records, want 2", n)
	}
	if err := other.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := get(t, c, prefix+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if len(left.Kvs) != 1 || string(left.Kvs[0].Key) != prefix+"/generation" {
		t.Errorf("after all have left there is %v, want the generation alone", left.Kvs)
	}
}

// TestIdleWritesNothing: three members with 300 shards leave etcd's revision
// where it is.
func TestIdleWritesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	var members []membership.Session
	for i := range 3 {
		b, _ := newBackend(t, s, "")
		m := join(t, b, fmt.Sprintf("node%d:9000", i), 6*time.Second)
		take(t, m, shardsOf(300)[i*100:i*100+100])
		members = append(members, m)
	}
	for _, m := range members {
		await(t, m, "three members", func() bool { return len(m.Members()) == 3 })
	}
	c, _ := s.dial(t)
	before, began := get(t, c, "x").Header.Revision, time.Now()
	index := s.running.Server.AppliedIndex()
	kept := members[0].Kept()
	passes(t, 3*time.Second)
	after := get(t, c, "x").Header.Revision
	t.Logf("in %s: %d revisions, %d raft entries", time.Since(began), after-before, s.running.Server.AppliedIndex()-index)
	if after != before {
		t.Errorf("an idle cluster made %d writes", after-before)
	}
	if !members[0].Kept().After(kept) {
		t.Error("no keepalive was sent")
	}
}

func TestServerAwayShorterThanTTL(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	b, _ := newBackend(t, s, "")
	a := join(t, b, "node1:9000", 12*time.Second)
	b2, _ := newBackend(t, s, "")
	other := join(t, b2, "node2:9000", 12*time.Second)
	before := take(t, a, shardsOf(300))
	s.stop()
	passes(t, time.Second)
	s.start(t)
	await(t, other, "it sees a lock go", func() bool {
		if err := a.Unlock(t.Context(), shardsOf(1)); err != nil {
			t.Fatalf("Unlock after the restart = %v", err)
		}
		locks, err := other.Lock(t.Context(), shardsOf(1))
		return err == nil && locks[0].Held
	})
	back := time.Now()
	for range 150 {
		if a.Kept().After(back) && other.Kept().After(back) {
			break
		}
		passes(t, 100*time.Millisecond)
	}
	for _, m := range []membership.Session{a, other} {
		if err := m.Err(); err != nil {
			t.Fatalf("the session has ended: %v", err)
		}
	}
	if after := take(t, a, shardsOf(300)[1:]); !slices.Equal(after, before[1:]) {
		t.Error("locks changed their revisions while etcd was away")
	}
}

func TestServerAwayLongerThanTTL(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	b, _ := newBackend(t, s, "")
	a := join(t, b, "node1:9000", 3*time.Second)
	b2, _ := newBackend(t, s, "")
	other := join(t, b2, "node2:9000", 3*time.Second)
	before := take(t, a, shardsOf(100))
	kept := a.Kept()
	s.stop()
	awaitEnd(t, a)
	if d := time.Since(kept); d < 3*time.Second {
		t.Errorf("it ended %s after the last keepalive, TTL 3s", d)
	}
	awaitEnd(t, other)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := b.Join(ctx, membership.Member{Incarnation: 1 << 20}, time.Second); err == nil {
		t.Error("Join without etcd succeeds")
	}
	s.start(t)
	again := join(t, b, "node1:9000", calm)
	for i, l := range take(t, again, shardsOf(100)) {
		if l.Rev <= before[i].Rev {
			t.Fatalf("the revision of %v fell from %d to %d", l.Shard, before[i].Rev, l.Rev)
		}
	}
}

func TestWatchIsResumedAfterCompaction(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	b, v := newBackend(t, s, "")
	a := join(t, b, "node1:9000", calm)
	b2, _ := newBackend(t, s, "")
	held := shardsOf(20)
	take(t, a, held[:10])
	v.Cut()
	v.Break()
	// What happens now is compacted away before a can see it.
	other := join(t, b2, "node2:9000", calm)
	take(t, other, held[10:])
	c, _ := s.dial(t)
	if _, err := c.Delete(t.Context(), "/cruster/shards/default:3"); err != nil {
		t.Fatal(err)
	}
	rev := get(t, c, "x").Header.Revision
	if _, err := c.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	v.Heal()
	await(t, a, "it sees the other", func() bool { return len(a.Members()) == 2 })
	if lost := a.Lost(); !slices.Equal(lost, held[3:4]) {
		t.Errorf("Lost = %v, want %v: the list after the compaction tells", lost, held[3:4])
	}
	locks, err := a.Lock(t.Context(), held[10:])
	if err != nil || locks[0].Held || locks[0].Holder == 0 {
		t.Errorf("Lock = %v, %v, want refused", locks, err)
	}
	if err := other.Unlock(t.Context(), held[10:]); err != nil { // and the watch goes on
		t.Fatal(err)
	}
	take(t, a, held[10:])
}

func TestLeaseRevokedByHand(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	prefix := fmt.Sprintf("/revoked-%d/", prefixes.Add(1))
	c, _ := s.dial(t)
	for _, kill := range []func(key string, lease clientv3.LeaseID) error{
		func(_ string, lease clientv3.LeaseID) error { _, err := c.Revoke(t.Context(), lease); return err },
		func(key string, _ clientv3.LeaseID) error { _, err := c.Delete(t.Context(), key); return err },
	} {
		b, _ := newBackend(t, s, prefix)
		a := join(t, b, "node1:9000", calm)
		take(t, a, shardsOf(3))
		kv := get(t, c, prefix+"runners/", clientv3.WithPrefix()).Kvs[0]
		if err := kill(string(kv.Key), clientv3.LeaseID(kv.Lease)); err != nil {
			t.Fatal(err)
		}
		awaitEnd(t, a)
		if _, err := a.Lock(t.Context(), shardsOf(4)); !errors.Is(err, membership.ErrExpired) {
			t.Errorf("Lock = %v, want ErrExpired", err)
		}
		again := join(t, b, "node1:9000", calm)
		take(t, again, shardsOf(3))
		if err := again.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeyWithoutLease: somebody put a lock by hand. It is nobody's.
func TestKeyWithoutLease(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	prefix := fmt.Sprintf("/byhand-%d/", prefixes.Add(1))
	c, _ := s.dial(t)
	for _, key := range []string{"shards/default:1", "shards/other", "runners/7", "runners/x", "elsewhere"} {
		if _, err := c.Put(t.Context(), prefix+key, "scribble"); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := newBackend(t, s, prefix)
	a := join(t, b, "node1:9000", calm)
	take(t, a, shardsOf(3))
	if n := len(a.Members()); n != 1 {
		t.Errorf("%d members, want 1: a record without a lease is kept alive by nobody", n)
	}
}

// TestUnknownOutcomeIsCleanedUp: a lock was taken, but its answer did not come.
func TestUnknownOutcomeIsCleanedUp(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	prefix := fmt.Sprintf("/unknown-%d/", prefixes.Add(1))
	b, v := newBackend(t, s, prefix)
	a := join(t, b, "node1:9000", calm)
	b2, _ := newBackend(t, s, prefix)
	other := join(t, b2, "node2:9000", calm)
	shards := shardsOf(5)
	for range 3 {
		await(t, a, "the locks are free", func() bool {
			v.CutAnswers()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			locks, err := a.Lock(ctx, shards)
			if err == nil && locks[0].Held {
				t.Fatal("Lock was answered over a line without answers")
			}
			if err == nil { // it knows of the other's locks still
				v.Heal()
				return false
			}
			return errors.Is(err, context.DeadlineExceeded)
		})
		await(t, other, "the lock is seen as taken", func() bool {
			l, err := other.Lock(t.Context(), shards[:1])
			if err != nil {
				t.Fatal(err)
			}
			if l[0].Held {
				t.Skip("the request did not go through: nothing to clean up")
			}
			return l[0].Holder != 0
		})
		v.Heal()
		take(t, other, shards)
		if err := other.Unlock(t.Context(), shards); err != nil {
			t.Fatal(err)
		}
		if lost := a.Lost(); len(lost) > 0 {
			t.Errorf("Lost = %v, want none: the caller was never told that it had them", lost)
		}
	}
	take(t, a, shards)
}

// TestNoLeader has a cluster of two of which one is away.
func TestNoLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	one := &server{dir: t.TempDir(), client: freeAddr(t), peer: freeAddr(t)}
	two := &server{dir: t.TempDir(), client: freeAddr(t), peer: freeAddr(t)}
	for i, s := range []*server{one, two} {
		s.tune = func(c *embed.Config) {
			c.Name = fmt.Sprintf("m%d", i)
			c.InitialCluster = fmt.Sprintf("m0=http://%s,m1=http://%s", one.peer, two.peer)
		}
	}
	booted := make(chan error, 1)
	go func() { booted <- two.boot() }()
	one.start(t)
	if err := <-booted; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.stop(); two.stop() })
	b, _ := newBackend(t, one, "")
	a := join(t, b, "node1:9000", 4*time.Second)
	before := take(t, a, shardsOf(10))
	two.stop()
	awaitEnd(t, a)
	two.start(t)
	again := join(t, b, "node1:9000", calm)
	if l := take(t, again, shardsOf(10)); l[0].Rev <= before[0].Rev {
		t.Errorf("the revision fell from %d to %d", before[0].Rev, l[0].Rev)
	}
}

func TestRevisionsGrowOverARebuild(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	b, _ := newBackend(t, s, "")
	a := join(t, b, "node1:9000", 6*time.Second)
	c, _ := s.dial(t)
	for i := range 50 {
		if _, err := c.Put(t.Context(), "noise", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	before := take(t, a, shardsOf(3))
	s.stop()
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	s.dir = t.TempDir()
	s.tune = func(c *embed.Config) { c.InitialClusterToken = "another" }
	s.start(t)
	awaitEnd(t, a)
	again := join(t, b, "node1:9000", calm)
	for i, l := range take(t, again, shardsOf(3)) {
		if l.Rev <= before[i].Rev {
			t.Errorf("the revision of %v fell from %d to %d: storage would refuse every take-over", l.Shard, before[i].Rev, l.Rev)
		}
	}
}

// TestRevisionsGrowOverARestore puts a backup in place of etcd's data, under the
// same cluster ID, so that revisions go back.
func TestRevisionsGrowOverARestore(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	b, _ := newBackend(t, s, "")
	keeper, _ := newBackend(t, s, "")
	a := join(t, b, "node1:9000", 12*time.Second)
	join(t, keeper, "node2:9000", 12*time.Second)
	backup := t.TempDir()
	s.stop()
	if err := os.CopyFS(backup, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	c, _ := s.dial(t)
	for i := range 50 {
		if _, err := c.Put(t.Context(), "noise", strings.Repeat("x", i)); err != nil {
			t.Fatal(err)
		}
	}
	before := take(t, a, shardsOf(3))
	s.stop()
	s.dir = backup
	s.start(t)
	awaitEnd(t, a) // the other may go on: all that it has seen is there
	t.Logf("ended with %v", a.Err())
	again := join(t, b, "node1:9000", calm)
	for i, l := range take(t, again, shardsOf(3)) {
		if l.Rev <= before[i].Rev {
			t.Errorf("the revision of %v fell from %d to %d although this process had seen the higher ones", l.Shard, before[i].Rev, l.Rev)
		}
	}
}

// TestRaise: nobody remembers, only storage does.
func TestRaise(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	prefix := fmt.Sprintf("/raise-%d/", prefixes.Add(1))
	b, _ := newBackend(t, s, prefix)
	a := join(t, b, "node1:9000", calm)
	b2, _ := newBackend(t, s, prefix)
	other := join(t, b2, "node2:9000", calm)
	shards := shardsOf(4)
	before := take(t, a, shards)
	r, ok := other.(membership.Raiser)
	if !ok {
		t.Fatal("the session has no Raise")
	}
	for range 2 {
		if err := r.Raise(t.Context()); err != nil {
			t.Fatalf("Raise = %v", err)
		}
	}
	if again := take(t, a, shards); !slices.Equal(again, before) {
		t.Errorf("locks that are held have new revisions %v after Raise, before %v: a stale holder must not overtake", again, before)
	}
	if err := a.Unlock(t.Context(), shards[:2]); err != nil {
		t.Fatal(err)
	}
	after := take(t, other, shards[:2])
	if after[0].Rev>>40 <= before[0].Rev>>40 {
		t.Errorf("the generation is %d after Raise, before %d", after[0].Rev>>40, before[0].Rev>>40)
	}
	moved := a.Move(t.Context(), shards[2:], other.Members()[1].Incarnation)
	if moved != nil {
		t.Fatal(moved)
	}
	if l := take(t, other, shards[2:]); l[0].Rev>>40 != after[0].Rev>>40 {
		t.Errorf("a lock that was moved after Raise has revision %d, one that was taken %d: want one generation", l[0].Rev, after[0].Rev)
	}
}
