package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// shards reads who owns each shard from etcd.
func (c *cluster) shards(t *testing.T) map[string]int {
	t.Helper()
	resp, err := c.keys.Get(t.Context(), etcdPrefix+"shards/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	owners := make(map[string]int)
	for _, kv := range resp.Kvs {
		owners[string(kv.Value)]++
		var n int
		if _, err := fmt.Sscanf(string(kv.Key), etcdPrefix+"shards/default:%d", &n); err != nil || n < 0 || n >= shardsPerGroup {
			t.Errorf("key %s is no shard", kv.Key)
		}
	}
	return owners
}

// spread waits until all shards are owned by these nodes, and each of them has
// some.
func (c *cluster) spread(t *testing.T, since string, want ...*node) {
	t.Helper()
	begin := time.Now()
	eventually(t, "the shards are spread", func() error {
		owners, total := c.shards(t), 0
		for _, n := range owners {
			total += n
		}
		if total != shardsPerGroup || len(owners) != len(want) {
			return fmt.Errorf("owners %v", owners)
		}
		for _, n := range want {
			if owners[n.name] == 0 {
				return fmt.Errorf("owners %v without %s", owners, n.name)
			}
		}
		return nil
	})
	t.Logf("300 shards at %d nodes %v after %s", len(want), time.Since(begin).Round(time.Millisecond), since)
}

// traffic writes all the time through nodes that stay.
type traffic struct {
	stop    chan struct{}
	group   sync.WaitGroup
	written atomic.Int64
	longest atomic.Int64
}

// startTraffic counts in some counters, each with a writer of its own, until it
// is stopped. No write may fail.
func startTraffic(t *testing.T, name string, nodes ...*node) *traffic {
	tr := &traffic{stop: make(chan struct{})}
	for i := range 4 {
		tr.group.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for n := 1; ; n++ {
				select {
				case <-tr.stop:
					return
				case <-tick.C:
				}
				// Another counter each time, so that all shards are met.
				begin := time.Now()
				path := fmt.Sprintf("/counter/%s-%d-%d/increment", name, i, n)
				status, text, err := nodes[n%len(nodes)].do(t.Context(), "POST", path, "1")
				if err != nil || status != http.StatusOK || text != "1" {
					t.Errorf("POST %s after %v: %d %s %v", path, time.Since(begin), status, text, err)
				}
				tr.written.Add(1)
				tr.longest.Store(max(tr.longest.Load(), int64(time.Since(begin))))
			}
		})
	}
	return tr
}

func (tr *traffic) end(t *testing.T, what string) {
	t.Helper()
	close(tr.stop)
	tr.group.Wait()
	t.Logf("%d writes during %s, the longest took %v", tr.written.Load(), what, time.Duration(tr.longest.Load()).Round(time.Millisecond))
}

// TestTopology stops, kills and starts nodes.
func TestTopology(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "5s")
	one, two, three := c.nodes[0], c.nodes[1], c.nodes[2]
	c.spread(t, "all serve", one, two, three)

	// A timer on each node keeps a request: it goes on elsewhere.
	blocked := make(chan struct{})
	go func() {
		defer close(blocked)
		_, _, _ = three.do(t.Context(), "POST", "/timer/top/schedule", `{"timer_id":"held","delay_ms":20000}`)
	}()
	eventually(t, "the timer is pending", func() error {
		if status, text, err := one.do(t.Context(), "GET", "/timer/top/pending", ""); status != http.StatusOK || !strings.Contains(text, `"held"`) {
			return fmt.Errorf("%d %s %w", status, text, err)
		}
		return nil
	})
	writes := startTraffic(t, "stop", one, two)
	three.end(t, syscall.SIGTERM)
	<-blocked
	c.spread(t, "SIGTERM", one, two)
	three.start(t)
	three.ready(t)
	c.spread(t, "the restart", one, two, three)
	writes.end(t, "a stop and a restart")

	two.end(t, syscall.SIGKILL)
	c.spread(t, "SIGKILL", one, three)
	c.nodes = []*node{one, three, two}
	for i := range 20 {
		c.exchanges(t, exchange{fmt.Sprintf("POST /counter/killed-%d/increment", i), "1", 0, "1"})
	}
	two.start(t)
	two.ready(t)
	c.spread(t, "the restart after SIGKILL", one, two, three)

	// Killed and started before its lease is over.
	one.end(t, syscall.SIGKILL)
	one.start(t)
	one.ready(t)
	c.spread(t, "SIGKILL and a restart at once", one, two, three)
	eventually(t, "the timer has fired", func() error {
		if fires := read[[]TimerFire](t, c, "/timer/top/fires"); len(fires) != 1 {
			return fmt.Errorf("fires %+v", fires)
		}
		return nil
	})
	c.exchanges(t, exchange{"GET /timer/top/pending", "", 0, "[]"})
}

// decodeState reads the body of /singleton/state.
func decodeState(t *testing.T, text string) (s SingletonState) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("state %s: %v", text, err)
	}
	return s
}

// TestSingletonFailover stops the node that runs the singleton.
func TestSingletonFailover(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "5s")
	c.spread(t, "all serve", c.nodes...)
	state := func(n *node) (s SingletonState) {
		t.Helper()
		status, text, err := n.do(t.Context(), "GET", "/singleton/state", "")
		if err != nil || status != http.StatusOK {
			t.Fatalf("state at %s: %d %s %v", n.name, status, text, err)
		}
		return decodeState(t, text)
	}
	settled := func(n *node, but string) (s SingletonState) {
		t.Helper()
		eventually(t, "the singleton runs and the marker is gone", func() error {
			if s = state(n); s.RunnerID == but || s.RunnerID == "" || s.GracefulShutdownAt != nil || time.Since(s.LastTickAt.Time) > 5*time.Second {
				return fmt.Errorf("state %+v", s)
			}
			return nil
		})
		return s
	}
	find := func(name string) (holder, other *node) {
		for _, n := range c.nodes {
			if n.name == name {
				holder = n
			} else {
				other = n
			}
		}
		return holder, other
	}
	eventually(t, "the singleton has begun", func() error {
		if _, text, _ := c.nodes[0].do(t.Context(), "GET", "/singleton/state", ""); text == "null" {
			return fmt.Errorf("no row")
		}
		return nil
	})

	before := settled(c.nodes[0], "")
	holder, other := find(before.RunnerID)
	began := time.Now()
	holder.end(t, syscall.SIGTERM)
	begin := time.Now()
	left := state(other).GracefulShutdownAt
	switch took := time.Since(began); {
	case left != nil:
	case took < markerStays:
		t.Error("as soon as the node was gone there was no marker")
	default:
		t.Logf("the machine is too busy: the marker may be gone after %v", took)
		left = &Time{began}
	}
	after := settled(other, before.RunnerID)
	t.Logf("the singleton has moved, and the marker is gone, after %v", time.Since(begin).Round(time.Millisecond))
	if stayed := time.Since(left.Time); stayed < markerStays {
		t.Errorf("the marker was gone after %v", stayed)
	}
	if after.TickCount < before.TickCount {
		t.Errorf("the count went from %d to %d", before.TickCount, after.TickCount)
	}
	holder.start(t)
	holder.ready(t)
	c.spread(t, "the restart", c.nodes...)

	before = settled(c.nodes[0], "")
	holder, other = find(before.RunnerID)
	holder.end(t, syscall.SIGKILL)
	if s := state(other); s.GracefulShutdownAt != nil {
		t.Errorf("after SIGKILL: %+v, want no marker", s)
	}
	begin = time.Now()
	settled(other, before.RunnerID)
	t.Logf("the singleton has moved %v after SIGKILL", time.Since(begin).Round(time.Millisecond))
}
