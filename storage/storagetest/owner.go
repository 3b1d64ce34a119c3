package storagetest

import (
	"errors"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

func ownerRules() []Rule {
	return []Rule{
		rule("IncarnationsGrow", "Register issues an incarnation larger than all before, also when records are gone", func(k *kit) {
			last := crustertype.Incarnation(0)
			for i := range 6 {
				inc := k.register()
				if inc <= last {
					k.Fatalf("Register issued %d after %d", inc, last)
				}
				last = inc
				if i%2 == 0 {
					k.must("Unregister", k.s.Unregister(k.ctx, inc))
					_, err := k.s.Purge(k.ctx, storage.Purge{})
					k.must("Purge", err)
				}
			}
			var incs [8]crustertype.Incarnation
			var errs [8]error
			together(8, func(i int) { incs[i], errs[i] = k.s.Register(k.ctx, storage.Runner{}, time.Hour) })
			k.must("a concurrent Register", errors.Join(errs[:]...))
			slices.Sort(incs[:])
			if n := len(slices.Compact(incs[:])); n != 8 || incs[0] <= last {
				k.Errorf("8 concurrent registrations got %d incarnations from %d on, want 8 above %d", n, incs[0], last)
			}
		}),
		rule("RunnersAreListed", "Runners returns the records that have not expired, by incarnation, with all fields", func(k *kit) {
			var want []storage.Runner
			for i := range 3 {
				r := storage.Runner{Address: "10.0.0.1:7" + string(rune('0'+i)), Groups: []string{"default", "ü,\"{}"}[:i%3], Weight: i, Version: "v1", Draining: i == 2}
				inc, err := k.s.Register(k.ctx, r, time.Hour)
				k.must("Register", err)
				r.Incarnation = inc
				want = append(want, r)
			}
			got := k.runners()
			for i := range got {
				if left := got[i].LeaseUntil; left.IsZero() {
					k.Errorf("runner %d has no LeaseUntil", got[i].Incarnation)
				}
				got[i].LeaseUntil = time.Time{}
			}
			if d := diff(want, got); d != "" {
				k.Errorf("Runners differs:\n%s", d)
			}
		}),
		rule("RenewExtends", "Renew extends the record of a live incarnation and updates Draining", func(k *kit) {
			inc, err := k.s.Register(k.ctx, storage.Runner{Address: "a", Weight: 3}, time.Hour)
			k.must("Register", err)
			first := k.runners()[0]
			k.must("Renew", k.s.Renew(k.ctx, inc, true, 3*time.Hour))
			second := k.runners()[0]
			if !second.Draining || second.Address != "a" || second.Weight != 3 {
				k.Errorf("after Renew the record is %+v, want draining, the rest as it was", second)
			}
			if gain := second.LeaseUntil.Sub(first.LeaseUntil); gain < time.Hour || gain > 4*time.Hour {
				k.Errorf("Renew for 3h moved LeaseUntil of a record of 1h by %v", gain)
			}
			k.must("Renew", k.s.Renew(k.ctx, inc, false, time.Hour))
			if k.runners()[0].Draining {
				k.Errorf("Renew with draining false left the record draining")
			}
		}),
		rule("ExpiredRecordCannotBeRenewed", "Renew returns ErrFenced when the record is gone or has expired, and such a record is not listed", func(k *kit) {
			live := k.register()
			inc, err := k.s.Register(k.ctx, storage.Runner{}, 20*time.Millisecond)
			k.must("Register", err)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				list := k.runners()
				if len(list) == 1 && list[0].Incarnation == live {
					break
				}
				select {
				case <-tick.C:
				case <-k.ctx.Done():
					k.Fatalf("a record of 20ms does not expire: %+v", list)
				}
			}
			gone := k.register()
			k.must("Unregister", k.s.Unregister(k.ctx, gone))
			for what, inc := range map[string]crustertype.Incarnation{"expired": inc, "removed": gone, "never issued": gone + 1000, "zero": 0} {
				if err := k.s.Renew(k.ctx, inc, false, time.Hour); !errors.Is(err, storage.ErrFenced) {
					k.Errorf("Renew of a record that is %s = %v, want ErrFenced", what, err)
				}
			}
			if list := k.runners(); len(list) != 1 {
				k.Errorf("Renew brought records back: %+v", list)
			}
			k.must("Renew of a live record", k.s.Renew(k.ctx, live, false, time.Hour))
		}),
		rule("UnregisterIsIdempotent", "Unregister removes the record and is idempotent", func(k *kit) {
			inc, other := k.register(), k.register()
			for range 2 {
				k.must("Unregister", k.s.Unregister(k.ctx, inc))
			}
			k.must("Unregister of an unknown incarnation", k.s.Unregister(k.ctx, other+1000))
			if list := k.runners(); len(list) != 1 || list[0].Incarnation != other {
				k.Errorf("Runners = %+v, want only %d", list, other)
			}
		}),
		rule("OwnersKeepTheOrderAskedFor", "Owners returns the lease of each shard in the order asked for; one never owned has Owner 0 and Epoch 0", func(k *kit) {
			l := k.own(shardAt(1), shardAt(2))
			never := crustertype.Shard{Group: "nobody's", Index: 1}
			got := k.owners(shardAt(2), never, shardAt(1), shardAt(2))
			if d := diff([]crustertype.Lease{l[1], {Shard: never}, l[0], l[1]}, got); d != "" {
				k.Errorf("Owners differs:\n%s", d)
			}
			if got := k.owners(); len(got) != 0 {
				k.Errorf("Owners of no shards = %v", got)
			}
		}),
	}
}

func (k *kit) runners() []storage.Runner {
	k.Helper()
	list, err := k.s.Runners(k.ctx)
	k.must("Runners", err)
	return list
}

func takeOverRules() []Rule {
	return []Rule{
		rule("TakeOverMakesAnOwner", "TakeOver makes By the owner of shards that nobody owns, with epoch plus one and a new token", func(k *kit) {
			inc := k.register()
			shards := make([]crustertype.Shard, 300)
			for i := range shards {
				shards[i] = shardAt(i)
			}
			leases := k.takeOver(storage.TakeOver{By: inc, Shards: append(shards, shards[0])}, len(shards))
			tokens := make(map[crustertype.Token]bool)
			for i, l := range leases {
				if l.Shard != shards[i] || l.Owner != inc || l.Epoch != 1 || l.Token == (crustertype.Token{}) {
					k.Fatalf("lease %d of a first take-over = %+v, want shard %s, owner %d, epoch 1 and a token", i, l, shards[i], inc)
				}
				tokens[l.Token] = true
			}
			if len(tokens) != len(shards) {
				k.Errorf("%d shards got %d different tokens", len(shards), len(tokens))
			}
			if d := diff(leases, k.owners(shards...)); d != "" {
				k.Errorf("Owners differs from what TakeOver returned:\n%s", d)
			}
			k.takeOver(storage.TakeOver{By: inc}, 0)
		}),
		rule("TakeOverMovesAShard", "a take-over from the owner gives epoch plus one and a new token", func(k *kit) {
			l := k.own(home)
			for range 3 {
				next := k.takeOver(storage.TakeOver{By: k.register(), From: l[0].Owner, Shards: []crustertype.Shard{home}}, 1)
				if next[0].Epoch != l[0].Epoch+1 || next[0].Token == l[0].Token || next[0].Owner == l[0].Owner {
					k.Errorf("%+v was taken over as %+v", l[0], next[0])
				}
				k.fenced([]crustertype.Shard{home}, storage.Unit{Leases: l})
				k.commit(storage.Unit{Leases: next})
				l = next
			}
		}),
		rule("TakeOverIsFromTheNamedOwnerOnly", "TakeOver touches only those shards that From owns", func(k *kit) {
			a, b, none := k.own(shardAt(1))[0], k.own(shardAt(2))[0], shardAt(3)
			all := []crustertype.Shard{shardAt(1), shardAt(2), none}
			by := k.register()
			got := k.takeOver(storage.TakeOver{By: by, From: a.Owner, Shards: all}, 1)
			if got[0].Shard != a.Shard {
				k.Errorf("TakeOver from the owner of %s took %s", a.Shard, got[0].Shard)
			}
			k.commit(storage.Unit{Leases: []crustertype.Lease{b}})
			k.takeOver(storage.TakeOver{By: k.register(), From: a.Owner, Shards: all}, 0)
			k.takeOver(storage.TakeOver{By: k.register(), From: by + 1000, Shards: all}, 0)
			k.commit(storage.Unit{Leases: append(got, b)})
			if got := k.takeOver(storage.TakeOver{By: k.register(), Shards: all}, 1); got[0].Shard != none {
				k.Errorf("TakeOver from nobody took %s, want %s", got[0].Shard, none)
			}
		}),
		rule("LockRevisionOrdersTakeOvers", "a take-over needs a lock revision above the stored one; 0 means it is not looked at", func(k *kit) {
			a, b := k.register(), k.register()
			take := func(by, from crustertype.Incarnation, rev int64, n int) {
				k.Helper()
				k.takeOver(storage.TakeOver{By: by, From: from, Shards: []crustertype.Shard{home}, LockRev: rev}, n)
			}
			take(a, 0, 100, 1)
			take(b, a, 99, 0)
			take(b, a, 100, 0)
			take(b, a, 101, 1)
			take(a, b, 50, 0)
			take(a, b, 0, 1)
			take(b, a, 1<<50, 1)
			if l := k.owners(home)[0]; l.Owner != b || l.Epoch != 4 {
				k.Errorf("after 4 take-overs the lease is %+v, want owner %d and epoch 4", l, b)
			}
		}),
		rule("OneOfRacingTakeOversWins", "of concurrent take-overs from one owner exactly one gets a shard", func(k *kit) {
			const racers, n = 6, 20
			for _, owned := range []bool{false, true, true} {
				shards, from, epoch := make([]crustertype.Shard, n), crustertype.Incarnation(0), int64(1)
				for i := range shards {
					shards[i] = shardAt(1000*k.next() + i)
				}
				if owned {
					from, epoch = k.own(shards...)[0].Owner, 2
				}
				var incs [racers]crustertype.Incarnation
				var won [racers][]crustertype.Lease
				var errs [racers]error
				for i := range incs {
					incs[i] = k.register()
				}
				together(racers, func(i int) {
					mine := slices.Clone(shards)
					if i%2 == 1 {
						slices.Reverse(mine)
					}
					won[i], errs[i] = k.s.TakeOver(k.ctx, storage.TakeOver{By: incs[i], From: from, Shards: mine})
				})
				k.must("a racing TakeOver", errors.Join(errs[:]...))
				all := sorted(slices.Concat(won[:]...))
				if len(all) != n {
					k.Fatalf("racing take-overs of %d shards returned %d leases", n, len(all))
				}
				if d := diff(all, k.owners(shards...)); d != "" {
					k.Fatalf("Owners differs from what the winners got:\n%s", d)
				}
				for _, l := range all {
					if l.Epoch != epoch {
						k.Errorf("the winner's lease is %+v, want epoch %d", l, epoch)
					}
				}
			}
		}),
		rule("TakeOverCutsOffAnOpenTx", "TakeOver does not wait for a transaction of the old owner: its Commit is refused and what it wrote is undone", func(k *kit) {
			l := k.own(home)
			taker := k.register()
			m := k.message()
			sql := hasSQL(k.h)
			if sql {
				k.createTable()
			}
			tx, err := k.s.Begin(k.ctx)
			k.must("Begin", err)
			if sql {
				k.exec(tx, "INSERT INTO "+k.h.Table+" (id, n) VALUES ($1, $2)", "late", 1)
			}
			next := k.takeOver(storage.TakeOver{By: taker, From: l[0].Owner, Shards: []crustertype.Shard{home}}, 1)
			if _, err := tx.Commit(k.ctx, storage.Unit{Leases: l, Accepts: []crustertype.Message{m}}); err == nil {
				k.Errorf("Commit of a transaction of the old owner succeeded after the take-over")
			}
			k.must("Rollback", tx.Rollback(k.ctx))
			k.noMessage(m.ID)
			if sql {
				k.wantRows()
			}
			k.commit(storage.Unit{Leases: next, Accepts: []crustertype.Message{m}})
			k.wantMessage(m)
		}),
		rule("HandOverGivesShardsAway", "HandOver makes the next owner's leases, with epoch plus one and new tokens, and the old ones are not current any more", func(k *kit) {
			shards := []crustertype.Shard{shardAt(1), shardAt(2), shardAt(3)}
			l := k.own(shards...)
			to := k.register()
			given, err := k.s.HandOver(k.ctx, l[:2], to)
			k.must("HandOver", err)
			given = sorted(given)
			if len(given) != 2 {
				k.Fatalf("HandOver of 2 leases returned %d", len(given))
			}
			for i, g := range given {
				if g.Shard != shards[i] || g.Owner != to || g.Epoch != 2 || g.Token == l[i].Token || g.Token == (crustertype.Token{}) {
					k.Errorf("%+v was handed over as %+v", l[i], g)
				}
			}
			if d := diff(append(given, l[2]), k.owners(shards...)); d != "" {
				k.Errorf("Owners differs after HandOver:\n%s", d)
			}
			k.fenced(shards[:2], storage.Unit{Leases: l})
			k.commit(storage.Unit{Leases: given}, storage.Unit{Leases: l[2:]})
			none, err := k.s.HandOver(k.ctx, nil, to)
			if err != nil || len(none) != 0 {
				k.Errorf("HandOver of nothing = %v, %v", none, err)
			}
		}),
		rule("HandOverToNobody", "a shard that is handed to 0 belongs to nobody, and anyone may take it over from 0", func(k *kit) {
			l := k.own(home)
			given, err := k.s.HandOver(k.ctx, l, 0)
			k.must("HandOver", err)
			if len(given) != 1 || given[0].Owner != 0 || given[0].Epoch != 2 {
				k.Fatalf("HandOver to nobody returned %+v", given)
			}
			k.fenced([]crustertype.Shard{home}, storage.Unit{Leases: l})
			k.fenced([]crustertype.Shard{home}, storage.Unit{Leases: given})
			if got := k.own(home); got[0].Epoch != 3 {
				k.Errorf("the take-over after it has epoch %d, want 3", got[0].Epoch)
			}
		}),
		rule("FencedHandOverChangesNothing", "HandOver fails with a *FencedError naming the leases that are not current, and then nothing has changed", func(k *kit) {
			l := k.own(shardAt(1), shardAt(2), shardAt(3))
			k.takeOver(storage.TakeOver{By: k.register(), From: l[0].Owner, Shards: []crustertype.Shard{shardAt(2)}}, 1)
			before := k.owners(shardAt(1), shardAt(2), shardAt(3))
			to := k.register()
			_, err := k.s.HandOver(k.ctx, []crustertype.Lease{l[2], l[1], l[0]}, to)
			k.wantFenced(err, shardAt(2))
			stale := l[0]
			stale.Owner = to
			_, err = k.s.HandOver(k.ctx, []crustertype.Lease{stale, l[2]}, to)
			k.wantFenced(err, shardAt(1))
			if d := diff(before, k.owners(shardAt(1), shardAt(2), shardAt(3))); d != "" {
				k.Errorf("a fenced HandOver changed owners:\n%s", d)
			}
			k.commit(storage.Unit{Leases: []crustertype.Lease{l[0], l[2]}})
		}),
	}
}
