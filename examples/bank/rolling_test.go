package main

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/cruster-go/cruster/internal/testdb"
)

// TestRollingRestart stops and starts all runners under load. No call fails:
// clients only go elsewhere when a runner takes no connection.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	seed := seed(t)
	f := newFleet(t, setup{database: testdb.Database(t), membership: "postgres", ttl: 5 * time.Second})
	l := newLoad(f, 20*time.Second)
	l.once = true
	l.run(seed, 6)
	var handed []time.Duration
	for range 2 {
		for _, n := range f.nodes {
			f.wait(700 * time.Millisecond)
			handed = append(handed, n.stop())
			n.start()
			f.spread()
		}
	}
	f.wait(500 * time.Millisecond)
	l.end()
	f.drained()
	f.check()
	l.check(t)
	for status, n := range l.codes {
		if status != http.StatusOK && status != http.StatusAccepted && status != http.StatusUnprocessableEntity {
			t.Errorf("%d calls were answered with status %d", n, status)
		}
	}
	slices.Sort(handed)
	t.Logf("time to give all shards away, p50 %v, max %v: %v", quantile(handed, .5), quantile(handed, 1), handed)
}
