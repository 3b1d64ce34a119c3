package runner

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage/memory"
)

var errMoved = errors.New("the shard moves")

// ofCluster returns a started runner that owns nothing, and a lease for it.
func ofCluster(t *testing.T) (*Runner, []crustertype.Lease, []crustertype.Shard) {
	t.Helper()
	r := setUp(t, memory.New(), echo("e", one(4), func(_ context.Context, s string) (string, error) { return s, nil }))
	r.cfg.Cluster = true
	start(t, r)
	s := crustertype.Shard{Group: crustertype.DefaultShardGroup, Index: 1}
	return r, []crustertype.Lease{{Shard: s, Epoch: 7, Owner: 1}}, []crustertype.Shard{s}
}

// A shard that was closed, and given away, before its unfinished work was read
// is not opened by that.
func TestLateGainOpensNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, leases, shards := ofCluster(t)
		ran := false
		r.duties = []Duty{{Shard: shards[0], Run: func(_, _ context.Context) { ran = true }}}
		r.Begin(leases)
		if !r.Open(shards[0]) {
			t.Error("a shard that was begun is not open")
		}
		<-r.Close(shards, errMoved)[shards[0]]
		if err := r.Gain(t.Context(), leases); err != nil { // closed, not dropped yet
			t.Error(err)
		}
		r.Drop(shards, errMoved)
		if err := r.Gain(t.Context(), leases); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, ok := r.Lease(shards[0]); ok || r.Open(shards[0]) || ran {
			t.Errorf("the shard is back: lease %v, open %v, duty ran %v", ok, r.Open(shards[0]), ran)
		}
		halt(t, r)
	})
}

// What cancels the handlers of one time does not touch the next one, under the
// same lease even.
func TestCancellerMeetsItsOwnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, leases, shards := ofCluster(t)
		r.Begin(leases)
		old, leave, ok := r.EnterShard(shards[0])
		if !ok {
			t.Fatal("the shard is not open")
		}
		cancel := r.Canceller(shards, errMoved)
		idle := r.Close(shards, errMoved)[shards[0]]
		synctest.Wait()
		select {
		case <-idle:
			t.Error("the shard is idle while a stream of it runs")
		default:
		}
		if _, _, ok := r.EnterShard(shards[0]); ok {
			t.Error("a stream begins on a closed shard")
		}
		leave()
		<-idle
		r.Drop(shards, errMoved)
		r.Begin(leases)
		next, leave, ok := r.EnterShard(shards[0])
		if !ok {
			t.Fatal("the shard has not come back")
		}
		cancel()
		if !errors.Is(context.Cause(old), errMoved) || next.Err() != nil {
			t.Errorf("the old time: %v, the new one: %v", context.Cause(old), next.Err())
		}
		leave()
		halt(t, r)
	})
}
