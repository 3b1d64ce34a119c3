package cluster

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/crustertype"
)

func TestLeasesThatComeMeanwhileAreOneBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b batches
		next := make(chan struct{})
		got := make(map[crustertype.Incarnation][][]int)
		put := func(to crustertype.Incarnation, indexes ...int) {
			var leases []crustertype.Lease
			for _, i := range indexes {
				leases = append(leases, crustertype.Lease{Shard: crustertype.Shard{Index: i}})
			}
			b.add(leases, to, func(f func()) { go f() }, func(batch []crustertype.Lease, to crustertype.Incarnation) {
				var is []int
				for _, l := range batch {
					is = append(is, l.Shard.Index)
				}
				got[to] = append(got[to], is)
				<-next
			})
			synctest.Wait()
		}
		put(1, 0)
		put(1, 1, 2)
		put(2, 3) // another owner does not wait
		put(1, 4)
		next <- struct{}{}
		synctest.Wait()
		next <- struct{}{}
		synctest.Wait()
		close(next)
		synctest.Wait()
		put(1, 5) // and afresh
		want := map[crustertype.Incarnation][][]int{1: {{0}, {1, 2, 4}, {5}}, 2: {{3}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		if len(b.waiting) != 0 {
			t.Errorf("%v is kept for nobody", b.waiting)
		}
	})
}
