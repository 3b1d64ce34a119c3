package cluster

import (
	"sync"

	"github.com/cruster-go/cruster/crustertype"
)

// batches collects leases by their next owner. Shards become idle one by one,
// and each write takes a round trip: what comes while one is under way is
// written together by the next. The zero value is ready for use.
type batches struct {
	mu      sync.Mutex
	waiting map[crustertype.Incarnation][]crustertype.Lease // an entry: somebody works for that owner
}

// add adds leases. If nobody works for their next owner, run is given a function
// that does so, with f, until nothing waits.
func (b *batches) add(leases []crustertype.Lease, to crustertype.Incarnation, run func(func()), f func([]crustertype.Lease, crustertype.Incarnation)) {
	b.mu.Lock()
	have, busy := b.waiting[to]
	if b.waiting == nil {
		b.waiting = make(map[crustertype.Incarnation][]crustertype.Lease)
	}
	b.waiting[to] = append(have, leases...)
	b.mu.Unlock()
	if busy {
		return
	}
	run(func() {
		for {
			batch := b.take(to)
			if len(batch) == 0 {
				return
			}
			f(batch, to)
		}
	})
}

// take returns what waits. When that is nothing, nobody works for the owner from
// then on.
func (b *batches) take(to crustertype.Incarnation) []crustertype.Lease {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := b.waiting[to]
	if len(batch) == 0 {
		delete(b.waiting, to)
		return nil
	}
	b.waiting[to] = nil
	return batch
}
