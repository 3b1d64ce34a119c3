package storagetest

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// everyCall calls every method of s that takes a context.
func (k *kit) everyCall(ctx context.Context, s storage.Store, check func(method string, err error)) {
	call := func(method string, f func() error) { check(method, f()) }
	m, e := k.message(), k.execution()
	call("Commit", func() error { _, err := s.Commit(ctx, []storage.Unit{accepts(m)}); return err })
	call("Commit of no units", func() error { _, err := s.Commit(ctx, nil); return err })
	call("Begin", func() error {
		tx, err := s.Begin(ctx)
		if err != nil {
			return err
		}
		_, err = tx.Commit(ctx, accepts(m))
		if end := tx.Rollback(k.ctx); err == nil {
			err = end
		}
		return err
	})
	call("Message", func() error { _, err := s.Message(ctx, m.ID); return err })
	call("Execution", func() error { _, err := s.Execution(ctx, e.ExecutionRef); return err })
	call("Steps", func() error { _, err := s.Steps(ctx, e.ExecutionRef, 1); return err })
	call("Pending", func() error { _, err := s.Pending(ctx, storage.PendingQuery{Now: start, Limit: 1}); return err })
	call("Runnable", func() error { _, _, err := s.Runnable(ctx, []crustertype.Shard{home}, "", 1); return err })
	call("Timers", func() error { _, _, err := s.Timers(ctx, storage.TimerQuery{Until: start, Limit: 1}); return err })
	call("Schedule", func() error { _, err := s.Schedule(ctx, crustertype.ScheduleCron, "x"); return err })
	call("Schedules", func() error { _, err := s.Schedules(ctx, crustertype.ScheduleCron); return err })
	call("Register", func() error { _, err := s.Register(ctx, storage.Runner{}, time.Hour); return err })
	call("Renew", func() error { return s.Renew(ctx, 1, false, time.Hour) })
	call("Unregister", func() error { return s.Unregister(ctx, 1) })
	call("Runners", func() error { _, err := s.Runners(ctx); return err })
	call("Owners", func() error { _, err := s.Owners(ctx, []crustertype.Shard{home}); return err })
	call("TakeOver", func() error {
		_, err := s.TakeOver(ctx, storage.TakeOver{By: 1, Shards: []crustertype.Shard{home}})
		return err
	})
	call("HandOver", func() error {
		_, err := s.HandOver(ctx, []crustertype.Lease{{Shard: home, Epoch: 1, Owner: 1}}, 2)
		return err
	})
	call("Messages", func() error { _, _, err := s.Messages(ctx, storage.MessageFilter{}); return err })
	call("Executions", func() error { _, _, err := s.Executions(ctx, storage.ExecutionFilter{}); return err })
	call("Counts", func() error { _, err := s.Counts(ctx); return err })
	call("RetryMessage", func() error { return s.RetryMessage(ctx, m.ID) })
	call("DiscardMessage", func() error { return s.DiscardMessage(ctx, m.ID) })
	call("RetryExecution", func() error { _, err := s.RetryExecution(ctx, e.ExecutionRef, start); return err })
	call("Purge", func() error { _, err := s.Purge(ctx, all(at(time.Hour))); return err })
}

func lifeRules() []Rule {
	return []Rule{
		rule("EndedContextEndsCalls", "all methods honour the context: when it ends they return its error", func(k *kit) {
			ctx, cancel := context.WithCancel(k.ctx)
			cancel()
			k.everyCall(ctx, k.s, func(method string, err error) {
				if !errors.Is(err, context.Canceled) {
					k.Errorf("%s with an ended context = %v, want context.Canceled", method, err)
				}
			})
			m := k.message()
			k.commit(accepts(m)) // the store goes on
			k.wantMessage(m)
		}),
		rule("ClosedStoreRefuses", "calls after Close return ErrClosed; Close is idempotent", func(k *kit) {
			for range 3 {
				k.must("Close", k.s.Close())
			}
			k.everyCall(k.ctx, k.s, func(method string, err error) {
				if !errors.Is(err, storage.ErrClosed) {
					k.Errorf("%s after Close = %v, want ErrClosed", method, err)
				}
				if storage.IsTransient(err) {
					k.Errorf("%s after Close = %v is transient: trying again cannot help", method, err)
				}
			})
		}),
		rule("CloseWaitsForCalls", "Close waits for calls under way: a commit meanwhile happens or says ErrClosed", func(k *kit) {
			const workers = 4
			var errs [workers]error
			began := make(chan struct{}, workers)
			finished := make(chan struct{})
			go func() {
				defer close(finished)
				together(workers, func(i int) {
					for n := 0; errs[i] == nil; n++ {
						if _, errs[i] = k.s.Commit(k.ctx, []storage.Unit{accepts(k.message())}); n == 0 {
							began <- struct{}{}
						}
					}
				})
			}()
			for range workers {
				<-began
			}
			err := k.s.Close()
			<-finished
			k.must("Close", err)
			for _, err := range errs {
				if !errors.Is(err, storage.ErrClosed) {
					k.Errorf("Commit while the store is being closed = %v, want success or ErrClosed", err)
				}
			}
		}),
		rule("InfoIsTrue", "Info describes the store: its name, and whether it survives the process", func(k *kit) {
			i := k.s.Info()
			if i.Name == "" {
				k.Errorf("Info().Name is empty: logs and error texts need it")
			}
			if i.Durable != (k.h.Reopen != nil) {
				k.Errorf("Info().Durable = %v, but the harness's Reopen is set: %v", i.Durable, k.h.Reopen != nil)
			}
		}),
		rule("StatsCount", "Stats counts the commits and units since the store was opened", func(k *kit) {
			c, ok := k.s.(interface{ Stats() storage.Stats })
			if !ok {
				k.Logf("the store does not count")
				return
			}
			before := c.Stats()
			k.commit(accepts(k.message()), accepts(k.message()))
			_, err := k.begin().Commit(k.ctx, accepts(k.message()))
			k.must("Tx.Commit", err)
			k.refused(0, storage.ErrNotFound, storage.Unit{Steps: []storage.StepWrite{write(k.execution(), step(0, "a"))}})
			after := c.Stats()
			if n, u := after.Commits-before.Commits, after.Units-before.Units; n != 2 || u != 3 {
				k.Errorf("Stats counted %d commits and %d units, want 2 and 3", n, u)
			}
		}),
		rule("ReopenKeepsEverything", "Commit is durable before it returns: a store opened again has everything", reopenKeepsEverything).when(durable),
		rule("ReopenKeepsTransactions", "a committed transaction is durable, one that was not committed is gone", func(k *kit) {
			k.createTable()
			tx := k.begin()
			k.exec(tx, "INSERT INTO "+k.h.Table+" (id, n) VALUES ($1, $2)", "kept", 1)
			m := k.message()
			_, err := tx.Commit(k.ctx, accepts(m))
			k.must("Tx.Commit", err)
			tx = k.begin()
			k.exec(tx, "INSERT INTO "+k.h.Table+" (id, n) VALUES ($1, $2)", "gone", 1)
			k.must("Rollback", tx.Rollback(k.ctx))
			k.reopen()
			k.wantMessage(m)
			k.wantRows("kept=1")
		}).when(func(h Harness) bool { return durable(h) && hasSQL(h) }),
	}
}

// reopen closes the store and goes on with what it left.
func (k *kit) reopen() {
	k.Helper()
	k.must("Close", k.s.Close())
	k.s = k.h.Reopen(k.TB)
	k.Cleanup(func() { k.must("Close", k.s.Close()) })
}

func reopenKeepsEverything(k *kit) {
	units := k.everyMutation()
	k.commit(units...)
	small := k.finishedMessage(at(0), ok("r"), keyed)
	k.purge(storage.Purge{Before: at(time.Second), Messages: storage.AllTypes})
	lease := k.own(shardAt(40))
	k.takeOver(storage.TakeOver{By: k.register(), From: lease[0].Owner, Shards: []crustertype.Shard{shardAt(40)}, LockRev: 9}, 1)
	last := k.register()
	shards := []crustertype.Shard{home, shardAt(40), shardAt(41)}
	type view struct {
		Dump               string
		Owners             []crustertype.Lease
		Pending, Unadopted []crustertype.Message
		Runnable           []crustertype.Execution
		Timers             []storage.Timer
		Runners            []storage.Runner
	}
	look := func() view {
		k.Helper()
		return view{
			Dump: k.dump(), Owners: k.owners(shards...), Pending: k.pending(storage.PendingQuery{}), Unadopted: k.pending(storage.PendingQuery{Unadopted: true}),
			Runnable: k.runnable(shards, 100), Timers: k.timers(storage.TimerQuery{Until: at(1000 * time.Hour)}), Runners: k.runners(),
		}
	}
	before := look()
	for range 2 {
		k.reopen()
		after := look()
		if before.Dump != after.Dump {
			k.Errorf("the store opened again differs:\n%s", lineDiff(before.Dump, after.Dump))
		}
		if d := diff(before, after); d != "" {
			k.Errorf("the store opened again differs:\n%s", d)
		}
		k.commit(units...)
		if d := diff(before.Dump, k.dump()); d != "" {
			k.Errorf("units sent again after the store was opened again changed it:\n%s", lineDiff(before.Dump, k.dump()))
		}
	}
	got, err := k.s.Message(k.ctx, small.ID)
	k.must("Message of a tombstone", err)
	k.wantTombstone(small, got)
	if inc := k.register(); inc <= last {
		k.Errorf("Register issued %d after %d: incarnations grow across restarts", inc, last)
	}
	k.fenced([]crustertype.Shard{shardAt(40)}, storage.Unit{Leases: lease})
	k.takeOver(storage.TakeOver{By: last, From: k.owners(shardAt(40))[0].Owner, Shards: []crustertype.Shard{shardAt(40)}, LockRev: 9}, 0)
	k.takeOver(storage.TakeOver{By: last, From: k.owners(shardAt(40))[0].Owner, Shards: []crustertype.Shard{shardAt(40)}, LockRev: 10}, 1)
}
