package storagetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// Bench measures the store that open returns, a fresh one for each benchmark:
// accepts, whole requests and journal rows, alone and 64 in a commit, and the
// reads of a recovery. It closes the stores.
func Bench(b *testing.B, open func(b *testing.B) storage.Store) {
	run := func(name string, f func(b *testing.B, k *kit)) {
		b.Run(name, func(b *testing.B) {
			s := open(b)
			b.Cleanup(func() {
				if err := s.Close(); err != nil {
					b.Errorf("Close() = %v", err)
				}
			})
			k := &kit{TB: b, h: Harness{Store: s}.withDefaults(), s: s, ctx: b.Context()}
			b.ReportAllocs()
			f(b, k)
		})
	}
	for _, n := range []int{1, 64} {
		run(fmt.Sprintf("Accept/%d", n), func(b *testing.B, k *kit) {
			leases := k.own(home)
			for b.Loop() {
				k.commit(k.batch(leases, n)...)
			}
			perItem(b, n)
		})
		run(fmt.Sprintf("AcceptAndFinish/%d", n), func(b *testing.B, k *kit) {
			leases := k.own(home)
			for b.Loop() {
				units := k.batch(leases, n)
				k.commit(units...)
				for i := range units {
					f := finishOf(units[i].Accepts[0], crustertype.MessageDone, ok("result"))
					units[i] = storage.Unit{Leases: leases, Finishes: []storage.Finish{f}}
				}
				k.commit(units...)
			}
			perItem(b, n)
		})
		run(fmt.Sprintf("Step/%d", n), func(b *testing.B, k *kit) {
			leases, pos := k.own(home), 0
			var e crustertype.Execution
			for b.Loop() {
				if pos%1024 == 0 { // journals have an end
					e = k.execution()
					k.commit(starts(e))
				}
				units := make([]storage.Unit, n)
				for i := range units {
					units[i] = storage.Unit{Leases: leases, Steps: []storage.StepWrite{write(e, done(step(pos, "a"), int64(pos+1), "result"))}}
					pos++
				}
				k.commit(units...)
			}
			perItem(b, n)
		})
	}
	run("LoadPending/1000", func(b *testing.B, k *kit) {
		leases := k.own(home)
		for range 20 {
			k.commit(k.batch(leases, 500)...)
		}
		for b.Loop() {
			if n := len(k.pending(storage.PendingQuery{Shards: []crustertype.Shard{home}, Now: at(time.Hour), Limit: 1000})); n != 1000 {
				b.Fatalf("%d messages", n)
			}
		}
		perItem(b, 1000)
	})
	run("LoadSteps/100", func(b *testing.B, k *kit) {
		e := k.execution()
		k.commit(starts(e))
		for i := range 100 {
			k.commit(storage.Unit{Steps: []storage.StepWrite{write(e, done(step(i, "a"), int64(i+1), "result"))}})
		}
		for b.Loop() {
			steps, err := k.s.Steps(k.ctx, e.ExecutionRef, 1)
			if err != nil || len(steps) != 100 {
				b.Fatalf("%d steps, %v", len(steps), err)
			}
		}
		perItem(b, 100)
	})
}

// batch returns n units of one accept each.
func (k *kit) batch(leases []crustertype.Lease, n int) []storage.Unit {
	units := make([]storage.Unit, n)
	for i := range units {
		units[i] = storage.Unit{Leases: leases, Accepts: []crustertype.Message{k.message()}}
	}
	return units
}

func perItem(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/item")
}
