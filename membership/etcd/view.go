package etcd

import (
	"cmp"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

// view is what one session knows of the keys. It is brought up to date by lists
// and events, in order, and by answers to its own writes, in any order: of two
// states of a key the one with the higher revision counts.
type view struct {
	keys
	rev     int64 // of the newest list or event
	cluster uint64
	runners map[crustertype.Incarnation]runner
	leases  map[clientv3.LeaseID]crustertype.Incarnation
	locks   map[crustertype.Shard]lock
	gens    generations
}

type runner struct {
	membership.Member
	lease clientv3.LeaseID
	rev   int64
}

// lock is the state of a shard's key. One that was deleted stays, with the
// revision of that, so that an older answer does not bring it back.
type lock struct {
	rev     int64
	lease   clientv3.LeaseID // 0: nobody's
	created bool             // by this very write
}

func newView(k keys) *view {
	return &view{
		keys: k, runners: make(map[crustertype.Incarnation]runner), leases: make(map[clientv3.LeaseID]crustertype.Incarnation),
		locks: make(map[crustertype.Shard]lock),
	}
}

// put applies a key that is there. It returns the shard when a lock changed,
// and whether the members did.
func (v *view) put(kv *mvccpb.KeyValue) (shard *crustertype.Shard, members bool, err error) {
	key := string(kv.Key)
	if s, ok := v.parseShard(key); ok {
		return v.setLock(s, lock{rev: kv.ModRevision, lease: clientv3.LeaseID(kv.Lease), created: kv.CreateRevision == kv.ModRevision}), false, nil
	}
	if inc, ok := v.parseRunner(key); ok {
		m, err := decodeMember(inc, kv.Value)
		if err != nil || kv.Lease == 0 {
			return nil, false, err // written by hand: nobody keeps it alive
		}
		return nil, v.setRunner(runner{Member: m, lease: clientv3.LeaseID(kv.Lease), rev: kv.ModRevision}), nil
	}
	if key == v.generation() && kv.ModRevision > v.gens.rev {
		g, err := decodeGenerations(kv.Value, kv.ModRevision)
		if err != nil {
			return nil, false, err
		}
		v.gens = g
	}
	return nil, false, nil
}

// remove applies the deletion of a key at a revision.
func (v *view) remove(key string, rev int64) (shard *crustertype.Shard, members bool) {
	if s, ok := v.parseShard(key); ok {
		return v.setLock(s, lock{rev: rev}), false
	}
	if inc, ok := v.parseRunner(key); ok {
		if r, known := v.runners[inc]; known && r.rev < rev {
			delete(v.leases, r.lease)
			delete(v.runners, inc)
			return nil, true
		}
	}
	if key == v.generation() && rev > v.gens.rev {
		v.gens = generations{rev: rev}
	}
	return nil, false
}

func (v *view) setLock(s crustertype.Shard, l lock) *crustertype.Shard {
	if old, known := v.locks[s]; known && old.rev >= l.rev {
		return nil
	}
	v.locks[s] = l
	return &s
}

func (v *view) setRunner(r runner) bool {
	old, known := v.runners[r.Incarnation]
	if known && old.rev >= r.rev {
		return false
	}
	if known {
		delete(v.leases, old.lease)
	}
	v.runners[r.Incarnation] = r
	v.leases[r.lease] = r.Incarnation
	return !known || !equal(old.Member, r.Member)
}

// replace applies a list of all keys at a revision.
func (v *view) replace(kvs []*mvccpb.KeyValue, rev int64) (shards []crustertype.Shard, members bool, errs []error) {
	note := func(s *crustertype.Shard, m bool) {
		if s != nil {
			shards = append(shards, *s)
		}
		members = members || m
	}
	present := make(map[string]bool, len(kvs))
	for _, kv := range kvs {
		present[string(kv.Key)] = true
		s, m, err := v.put(kv)
		note(s, m)
		if err != nil {
			errs = append(errs, err)
		}
	}
	for s, l := range v.locks {
		if l.lease != 0 && !present[v.shard(s)] {
			note(v.remove(v.shard(s), rev)) // unless it is newer than the list
		}
	}
	for inc := range v.runners {
		if !present[v.runner(inc)] {
			note(v.remove(v.runner(inc), rev))
		}
	}
	v.rev = rev
	return shards, members, errs
}

// members returns the runners by incarnation.
func (v *view) members() []membership.Member {
	out := make([]membership.Member, 0, len(v.runners))
	for r := range maps.Values(v.runners) {
		m := r.Member
		m.Groups = slices.Clone(m.Groups)
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b membership.Member) int { return cmp.Compare(a.Incarnation, b.Incarnation) })
	return out
}

func equal(a, b membership.Member) bool {
	return a.Incarnation == b.Incarnation && a.Address == b.Address && slices.Equal(a.Groups, b.Groups) &&
		a.Weight == b.Weight && a.Version == b.Version && a.Draining == b.Draining
}
