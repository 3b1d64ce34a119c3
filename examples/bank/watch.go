package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/sharding"
	"github.com/cruster-go/cruster/storage"
)

// topology is who owns what: owners as the database has them, and where those
// are as the membership has it.
type topology struct {
	Runner   string           `json:"runner"` // who answers
	Runners  []member         `json:"runners"`
	Accounts map[int64]string `json:"accounts"` // addresses of their owners
}

type member struct {
	Incarnation int64  `json:"incarnation"`
	Address     string `json:"address"`
	Shards      int    `json:"shards"`
}

func (b *bank) topology(ctx context.Context) (topology, error) {
	t := topology{Runner: b.o.id, Accounts: make(map[int64]string)}
	shards := make([]crustertype.Shard, b.o.shards)
	for i := range shards {
		shards[i] = crustertype.Shard{Group: crustertype.DefaultShardGroup, Index: i}
	}
	leases, err := b.db.store.Owners(ctx, shards)
	if err != nil {
		return t, err
	}
	owned := make(map[crustertype.Incarnation]int)
	for _, l := range leases {
		owned[l.Owner]++
	}
	address := make(map[crustertype.Incarnation]string)
	for _, m := range b.svc.Members() {
		address[m.Incarnation] = m.Address
		t.Runners = append(t.Runners, member{int64(m.Incarnation), m.Address, owned[m.Incarnation]})
	}
	for n := range int64(b.o.accounts) {
		shard := sharding.ShardOf(crustertype.DefaultShardGroup, accountID(n+1), b.o.shards)
		t.Accounts[n+1] = address[leases[shard].Owner]
	}
	return t, nil
}

func (b *bank) getTopology(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	t, err := b.topology(ctx)
	if err != nil {
		reply(w, http.StatusServiceUnavailable, answer{Error: err.Error()})
		return
	}
	reply(w, http.StatusOK, t)
}

// getHealth is for who would restart the process. A database that is away is no
// reason to.
func (b *bank) getHealth(w http.ResponseWriter, _ *http.Request) {
	if !b.svc.Health().Live {
		reply(w, http.StatusServiceUnavailable, answer{Error: "the service has stopped"})
		return
	}
	reply(w, http.StatusOK, struct{}{})
}

// getReady is for who would send requests.
func (b *bank) getReady(w http.ResponseWriter, _ *http.Request) {
	if h := b.svc.Health(); !b.ready.Load() || !h.Ready {
		reply(w, http.StatusServiceUnavailable, answer{Error: "the runner is starting or stopping, or cut off: " + h.Reason})
		return
	}
	reply(w, http.StatusOK, struct{}{})
}

// counters count answers by mode and status.
type counters struct {
	mu   sync.Mutex
	rows map[counter]*count
}

type counter struct {
	mode   string
	status int
}

type count struct {
	n    int64
	took time.Duration
}

func (c *counters) add(mode string, status int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil {
		c.rows = make(map[counter]*count)
	}
	k := counter{mode, status}
	if c.rows[k] == nil {
		c.rows[k] = new(count)
	}
	c.rows[k].n++
	c.rows[k].took += took
}

func (c *counters) write(w *strings.Builder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(c.rows), func(x, y counter) int {
		return cmp.Or(cmp.Compare(x.mode, y.mode), cmp.Compare(x.status, y.status))
	})
	for _, k := range keys {
		labels := fmt.Sprintf("{mode=%q,status=\"%d\"}", k.mode, k.status)
		fmt.Fprintf(w, "bank_transfers_seconds_count%s %d\n", labels, c.rows[k].n)
		fmt.Fprintf(w, "bank_transfers_seconds_sum%s %g\n", labels, c.rows[k].took.Seconds())
	}
}

// getMetrics writes Prometheus' text format. What the database counts is left
// out when it does not answer.
func (b *bank) getMetrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	var s strings.Builder
	s.WriteString("# HELP bank_transfers_seconds Time to answer transfers.\n# TYPE bank_transfers_seconds summary\n")
	b.answers.write(&s)
	gauge := func(name, help string, v int64) {
		fmt.Fprintf(&s, "# HELP %s %s\n# TYPE %s gauge\n%s %d\n", name, help, name, name, v)
	}
	if c, ok := b.db.store.(interface{ Stats() storage.Stats }); ok {
		st := c.Stats()
		for name, v := range map[string]int64{"commits": st.Commits, "statements": st.Statements, "units": st.Units} {
			fmt.Fprintf(&s, "# TYPE cruster_storage_%s_total counter\ncruster_storage_%s_total %d\n", name, name, v)
		}
	}
	gauge("cruster_runners", "Runners that are believed to live.", int64(len(b.svc.Members())))
	gauge("cruster_shards_owned", "Shards that this runner serves.", int64(b.svc.Health().Shards))
	if n, err := b.db.backlog(ctx); err == nil {
		gauge("cruster_backlog", "Requests and executions that are not finished, in the whole cluster.", n.waiting)
		gauge("cruster_stuck", "Dead letters, and executions that are dead or parked, in the whole cluster.", n.stuck)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = w.Write([]byte(s.String())) // the client has gone
}
