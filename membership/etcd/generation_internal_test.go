package etcd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

func TestKeysParse(t *testing.T) {
	t.Parallel()
	k := keys{"/a/shards/b/"}
	for _, s := range []crustertype.Shard{{Group: "default", Index: 0}, {Group: "x.y-z_1", Index: 2047}} {
		if got, ok := k.parseShard(k.shard(s)); !ok || got != s {
			t.Errorf("key %q reads back as %v, %t", k.shard(s), got, ok)
		}
	}
	if got := (keys{DefaultPrefix}).shard(crustertype.Shard{Group: "default", Index: 7}); got != "/cruster/shards/default:7" {
		t.Errorf("the key of default/7 is %q", got)
	}
	for _, key := range []string{"", "/a/shards/b/shards/", k.shards() + "default", k.shards() + ":1", k.shards() + "g:x", k.shards() + "g:-1", "/shards/default:1"} {
		if s, ok := k.parseShard(key); ok {
			t.Errorf("key %q is read as shard %v", key, s)
		}
	}
	if got, ok := k.parseRunner(k.runner(42)); !ok || got != 42 {
		t.Errorf("key %q reads back as %d, %t", k.runner(42), got, ok)
	}
	for _, key := range []string{k.runners(), k.runners() + "0", k.runners() + "-1", k.runners() + "07", k.runners() + "x", k.generation()} {
		if inc, ok := k.parseRunner(key); ok {
			t.Errorf("key %q is read as incarnation %d", key, inc)
		}
	}
}

// stored is what a generation record reads back as, written at a revision.
func stored(t *testing.T, g generations, rev int64) generations {
	t.Helper()
	value, err := g.encode()
	if err != nil {
		t.Fatal(err)
	}
	out, err := decodeGenerations([]byte(value), rev)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLockRevGrows: with the revision of the key, and over a new generation.
func TestLockRevGrows(t *testing.T) {
	t.Parallel()
	var g generations
	inc := crustertype.Incarnation(3)
	rev := int64(1)
	last, lastOf := int64(0), map[int64]int64{}
	for range maxHistory - 1 {
		g = stored(t, g.raised(inc, 0xfeed), rev)
		for range 5 {
			rev++
			got := g.lockRev(rev)
			if got <= last {
				t.Fatalf("revision %d of etcd gives %d, an earlier one %d", rev, got, last)
			}
			last, lastOf[rev] = got, got
		}
		rev++
		inc += 5
	}
	for rev, want := range lastOf {
		if got := g.lockRev(rev); got != want {
			t.Errorf("key revision %d gave lock revision %d, after later generations %d: it depends on the key alone", rev, want, got)
		}
	}
	// etcd is built anew: revisions begin at 1, the incarnation is the next one.
	if got := stored(t, generations{}.raised(inc, 1), 2).lockRev(3); got <= last {
		t.Errorf("after a rebuild the lock revision is %d, before %d", got, last)
	}
	// It is restored from a backup: the record is an old one.
	if got := stored(t, generations{list: []since{{Number: 3}}}.raised(inc, 2), 9).lockRev(10); got <= last {
		t.Errorf("after a restore the lock revision is %d, before %d", got, last)
	}
	if got := stored(t, g.raised(1, 1), rev+1).lockRev(rev + 2); got <= last {
		t.Errorf("a generation begun by an old incarnation gives %d after %d", got, last)
	}
	if got := stored(t, generations{}.raised(1<<50, 1), 1).lockRev(1<<revisionBits - 1); got <= 0 {
		t.Errorf("the highest generation gives %d", got)
	}
	for range 20 {
		g = stored(t, g.raised(0, 1), g.rev+1)
	}
	if len(g.list) != maxHistory {
		t.Errorf("the history has %d generations, want %d", len(g.list), maxHistory)
	}
	for _, bad := range []string{"", "x", `{"cluster":"zz"}`} {
		if _, err := decodeGenerations([]byte(bad), 1); err == nil {
			t.Errorf("record %q is understood", bad)
		}
	}
}

// TestViewConverges gives one history to views in different ways: the watch,
// with answers to own writes ahead of it or after it, and lists.
func TestViewConverges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		k := keys{"/v/"}
		type event struct {
			kv  *mvccpb.KeyValue
			del bool
		}
		var history []event
		now := map[string]*mvccpb.KeyValue{}
		for rev := int64(2); rev < 60; rev++ {
			key := k.shard(crustertype.Shard{Group: "g", Index: rnd.IntN(6)})
			value := "addr"
			if rnd.IntN(4) == 0 {
				inc := crustertype.Incarnation(1 + rnd.IntN(3))
				key = k.runner(inc)
				value, _ = encodeMember(membership.Member{Address: fmt.Sprint(rev)})
			}
			kv := &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: rev, CreateRevision: rev, Lease: 1 + int64(rnd.IntN(3))}
			if old := now[key]; old != nil && rnd.IntN(3) == 0 {
				history = append(history, event{&mvccpb.KeyValue{Key: []byte(key), ModRevision: rev}, true})
				delete(now, key)
				continue
			} else if old != nil {
				kv.CreateRevision = old.CreateRevision
			}
			now[key] = kv
			history = append(history, event{kv: kv})
		}
		feed := func(v *view, e event) {
			if e.del {
				v.remove(string(e.kv.Key), e.kv.ModRevision)
			} else if _, _, err := v.put(e.kv); err != nil {
				t.Fatal(err)
			}
		}
		want := newView(k)
		got := newView(k)
		for i, e := range history {
			feed(want, e)
			if ahead := i + rnd.IntN(3); ahead < len(history) { // an answer, ahead of the watch
				if s, ok := k.parseShard(string(history[ahead].kv.Key)); ok {
					got.setLock(s, lock{rev: history[ahead].kv.ModRevision, lease: clientv3.LeaseID(history[ahead].kv.Lease)})
				}
			}
			feed(got, e)
			if late := history[rnd.IntN(i+1)]; rnd.IntN(2) == 0 { // or long after it
				if s, ok := k.parseShard(string(late.kv.Key)); ok {
					got.setLock(s, lock{rev: late.kv.ModRevision, lease: clientv3.LeaseID(late.kv.Lease)})
				}
			}
		}
		listed := newView(k)
		for _, e := range history[:rnd.IntN(len(history))] {
			feed(listed, e)
		}
		var kvs []*mvccpb.KeyValue
		for _, kv := range now {
			kvs = append(kvs, kv)
		}
		listed.replace(kvs, 60)
		for name, v := range map[string]*view{"watched with answers": got, "listed": listed} {
			for i := range 6 {
				s := crustertype.Shard{Group: "g", Index: i}
				if a, b := v.locks[s].lease, want.locks[s].lease; a != b {
					t.Fatalf("seed %d, %s: %v is on lease %d, want %d", seed, name, s, a, b)
				}
			}
			if !slices.EqualFunc(v.members(), want.members(), equal) {
				t.Fatalf("seed %d, %s: members %v, want %v", seed, name, v.members(), want.members())
			}
		}
	}
}
