package storagetest

import (
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

func shardAt(i int) crustertype.Shard { return crustertype.Shard{Group: home.Group, Index: i} }

func fenceRules() []Rule {
	return []Rule{
		rule("CurrentLeaseCommits", "a unit whose leases are all current commits", func(k *kit) {
			leases := k.own(shardAt(1), shardAt(2))
			m := k.message()
			k.commit(storage.Unit{Leases: leases, Accepts: []crustertype.Message{m}}, storage.Unit{Leases: leases[:1]})
			k.wantMessage(m)
		}),
		rule("NoLeaseIsNeededToSend", "leases are empty for sends by somebody who owns nothing", func(k *kit) {
			k.own(home)
			m := k.message()
			k.commit(accepts(m))
			k.wantMessage(m)
		}),
		rule("StaleTokenIsFenced", "a lease with another token is not current", func(k *kit) {
			k.refusesLease(func(l *crustertype.Lease) { l.Token[3]++ })
		}),
		rule("StaleEpochIsFenced", "a lease with another epoch is not current", func(k *kit) {
			k.refusesLease(func(l *crustertype.Lease) { l.Epoch-- })
			k.refusesLease(func(l *crustertype.Lease) { l.Epoch++ })
		}),
		rule("WrongOwnerIsFenced", "a lease with another owner is not current, although token and epoch are right", func(k *kit) {
			k.refusesLease(func(l *crustertype.Lease) { l.Owner++ })
			k.refusesLease(func(l *crustertype.Lease) { l.Owner = 0 })
		}),
		rule("LeaseOfNeverOwnedShardIsFenced", "a lease of a shard that was never owned is not current, and neither is one of owner 0", func(k *kit) {
			inc := k.register()
			never := shardAt(90)
			for _, l := range []crustertype.Lease{{Shard: never, Epoch: 1, Owner: inc, Token: crustertype.Token{1}}, {Shard: never, Owner: inc}, {Shard: never}} {
				m := k.message()
				k.fenced([]crustertype.Shard{never}, storage.Unit{Leases: []crustertype.Lease{l}, Accepts: []crustertype.Message{m}})
				k.noMessage(m.ID)
			}
		}),
		rule("GroupsAreDifferentShards", "a lease is of one shard: group and index", func(k *kit) {
			other := crustertype.Shard{Group: "other", Index: home.Index}
			l := k.own(home)[0]
			k.own(other)
			l.Shard = other
			k.fenced([]crustertype.Shard{other}, storage.Unit{Leases: []crustertype.Lease{l}})
		}),
		rule("FencedErrorNamesExactlyTheLostShards", "a *FencedError names the leases of all units that are not current, in order, without duplicates, and nothing was written", func(k *kit) {
			leases := k.own(shardAt(2), shardAt(3), shardAt(10), shardAt(11))
			lost := k.own(crustertype.Shard{Group: "another", Index: 50}, shardAt(4))
			old := append(leases[:2:2], lost...) // default/2, default/3, another/50, default/4
			k.takeOver(storage.TakeOver{By: k.register(), From: leases[0].Owner, Shards: []crustertype.Shard{shardAt(3), shardAt(10)}}, 2)
			k.takeOver(storage.TakeOver{By: k.register(), From: lost[0].Owner, Shards: []crustertype.Shard{lost[0].Shard}}, 1)
			before := k.dump()
			k.fenced([]crustertype.Shard{{Group: "another", Index: 50}, shardAt(3), shardAt(10)},
				storage.Unit{Accepts: []crustertype.Message{k.message()}},
				storage.Unit{Leases: []crustertype.Lease{leases[2], leases[0]}, Starts: []crustertype.Execution{k.execution()}},
				storage.Unit{Leases: old, Accepts: []crustertype.Message{k.message()}},
				storage.Unit{Leases: []crustertype.Lease{leases[3], leases[1]}, Schedules: []crustertype.Schedule{schedule("x", 1)}},
			)
			if after := k.dump(); after != before {
				k.Errorf("a fenced commit left something behind:\n%s", lineDiff(before, after))
			}
			k.commit(storage.Unit{Leases: []crustertype.Lease{leases[0], leases[3]}})
		}),
		rule("LeaseAloneIsChecked", "all leases of a unit must be current, also when it writes nothing", func(k *kit) {
			l := k.own(home)[0]
			k.takeOver(storage.TakeOver{By: k.register(), From: l.Owner, Shards: []crustertype.Shard{home}}, 1)
			k.fenced([]crustertype.Shard{home}, storage.Unit{Leases: []crustertype.Lease{l}})
		}),
		rule("FenceCoversEveryMutation", "a unit with a lost lease writes nothing, whatever it holds", func(k *kit) {
			l := k.own(shardAt(20))
			units := k.everyMutation()
			k.takeOver(storage.TakeOver{By: k.register(), From: l[0].Owner, Shards: []crustertype.Shard{shardAt(20)}}, 1)
			before := k.dump()
			for _, u := range units {
				u.Leases = append(u.Leases[:len(u.Leases):len(u.Leases)], l...)
				k.fenced([]crustertype.Shard{shardAt(20)}, u)
			}
			if after := k.dump(); after != before {
				k.Errorf("a fenced unit left something behind:\n%s", lineDiff(before, after))
			}
		}),
		rule("UnregisteredOwnerKeepsItsLeases", "Unregister does not touch shards: only a take-over or hand-over ends a lease", func(k *kit) {
			l := k.own(home)
			k.must("Unregister", k.s.Unregister(k.ctx, l[0].Owner))
			m := k.message()
			k.commit(storage.Unit{Leases: l, Accepts: []crustertype.Message{m}})
			k.wantMessage(m)
		}),
		rule("CommitsEndWithTheTakeOver", "when TakeOver returns, every commit that relied on an old lease has happened and is visible, or never will", func(k *kit) {
			for range 5 {
				k.commitsEnd()
			}
		}),
	}
}

// refusesLease commits with the current lease changed.
func (k *kit) refusesLease(change func(*crustertype.Lease)) {
	k.Helper()
	sh := shardAt(100 + k.next())
	l := k.own(sh)[0]
	k.commit(storage.Unit{Leases: []crustertype.Lease{l}})
	bad := l
	change(&bad)
	m := k.message()
	k.fenced([]crustertype.Shard{sh}, storage.Unit{Leases: []crustertype.Lease{bad}, Accepts: []crustertype.Message{m}})
	k.noMessage(m.ID)
	tx, err := k.s.Begin(k.ctx)
	k.must("Begin", err)
	_, err = tx.Commit(k.ctx, storage.Unit{Leases: []crustertype.Lease{bad}, Accepts: []crustertype.Message{m}})
	k.wantFenced(err, sh)
	k.noMessage(m.ID)
}

// commitsEnd takes a shard from an owner that commits without pause.
func (k *kit) commitsEnd() {
	k.Helper()
	sh := shardAt(100 + k.next())
	l := k.own(sh)
	taker := k.register()
	const committers = 4
	var acknowledged [committers]int
	var ends [committers]error
	var taken atomic.Bool
	began := make(chan struct{}, committers)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		together(committers, func(i int) {
			for more := 50; more > 0 && k.ctx.Err() == nil; {
				if taken.Load() { // late commits, which must all fail
					more--
				}
				m := k.message(func(m *crustertype.Message) { m.Shard = sh })
				if _, ends[i] = k.s.Commit(k.ctx, []storage.Unit{{Leases: l, Accepts: []crustertype.Message{m}}}); ends[i] != nil {
					return
				}
				if acknowledged[i]++; acknowledged[i] == 1 {
					began <- struct{}{}
				}
			}
		})
	}()
	for range committers {
		select {
		case <-began:
		case <-k.ctx.Done():
			k.Fatalf("no commit happens: %v", k.ctx.Err())
		}
	}
	_, err := k.s.TakeOver(k.ctx, storage.TakeOver{By: taker, From: l[0].Owner, Shards: []crustertype.Shard{sh}})
	taken.Store(true)
	visible := len(k.pending(storage.PendingQuery{Shards: []crustertype.Shard{sh}, Now: at(24 * time.Hour), Limit: 1 << 20}))
	<-finished
	k.must("TakeOver", err)
	for _, err := range ends {
		k.wantFenced(err, sh)
	}
	later := len(k.pending(storage.PendingQuery{Shards: []crustertype.Shard{sh}, Now: at(24 * time.Hour), Limit: 1 << 20}))
	sum := 0
	for _, n := range acknowledged {
		sum += n
	}
	if visible != sum || later != sum {
		k.Errorf("%d commits of the old owner succeeded, %d were visible when TakeOver returned, %d are there in the end", sum, visible, later)
	}
}
