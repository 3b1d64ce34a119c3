package cluster

import (
	"maps"
	"sync"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/sharding"
)

// inbox is what goroutines tell the loop. To put something never blocks.
type inbox struct {
	wake chan struct{}

	mu      sync.Mutex
	events  []sharding.Event
	granted bool // a peer has handed shards over
	drain   bool // the node is to give its shards away
	drained map[crustertype.Incarnation]bool
	asked   map[crustertype.Shard]bool // locks that were refused at the last attempt
	starts  int                        // shards whose unfinished work is being read
	swept   bool                       // found, or missed, is new
	found   []crustertype.Lease        // what storage says is ours
	missed  bool                       // storage was not read
}

func (in *inbox) put(events ...sharding.Event) {
	in.change(func() {
		for _, e := range events {
			if e.Kind == sharding.Refused || e.Kind == sharding.Acquired {
				if in.asked == nil {
					in.asked = make(map[crustertype.Shard]bool)
				}
				in.asked[e.Shard] = e.Kind == sharding.Refused
			}
		}
		in.events = append(in.events, events...)
	})
}

func (in *inbox) change(f func()) {
	in.mu.Lock()
	f()
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

func (in *inbox) take() []sharding.Event {
	in.mu.Lock()
	defer in.mu.Unlock()
	events := in.events
	in.events = nil
	return events
}

func (in *inbox) grants() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	granted := in.granted
	in.granted = false
	return granted
}

// sweep returns what a look at storage has found, once.
func (in *inbox) sweep() (found []crustertype.Lease, missed, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	found, missed, ok = in.found, in.missed, in.swept
	in.found, in.missed, in.swept = nil, false, false
	return found, missed, ok
}

// left adds the members that give their shards away to known, and reports
// whether one was new.
func (in *inbox) left(known map[crustertype.Incarnation]bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	before := len(known)
	maps.Copy(known, in.drained)
	in.drained = nil
	return len(known) > before
}

func (in *inbox) draining() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.drain
}

func (in *inbox) refused(s crustertype.Shard) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.asked[s]
}

func (in *inbox) starting() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.starts
}
