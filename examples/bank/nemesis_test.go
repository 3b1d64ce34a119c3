package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cruster-go/cruster/internal/testdb"
)

// nemesis does harm, one fault after the other, as its seed says.
type nemesis struct {
	f      *fleet
	l      *load
	server *testdb.Server
	etcd   *etcdServer // nil: there is none
	r      *rand.Rand

	count   map[string]int
	crashes []time.Duration // from a kill to the next answer of an account of the victim
	moves   []time.Duration // the longest call of such an account while its runner stops
	handed  []time.Duration // how long that took the runner
	probes  int
}

type disaster struct {
	name string
	do   func(ctx context.Context)
}

func (x *nemesis) disasters() []disaster {
	all := []disaster{
		{"kill -9", x.crash}, {"kill -9", x.crash},
		{"freeze", x.freeze}, {"freeze", x.freeze},
		{"SIGTERM", x.restart}, {"SIGTERM", x.restart},
		{"database sessions ended", x.endSessions},
		{"database restarted", x.restartDatabase},
		{"database cut off", x.cutDatabase},
		{"peers cut off", x.cutPeers}, {"peers cut off", x.cutPeers},
		{"everything killed", x.crashAll},
	}
	if x.etcd != nil {
		all = append(all, disaster{"etcd restarted", x.restartEtcd})
	}
	return all
}

// run does harm for so long, and at least so many times. Each kind comes once
// before one comes twice.
func (x *nemesis) run(d time.Duration, least int) {
	x.count = make(map[string]int)
	t := x.f.t
	all := x.disasters()
	begin := time.Now()
	for n := 0; (time.Since(begin) < d || n < least) && !t.Failed() && t.Context().Err() == nil; n++ {
		if n%len(all) == 0 {
			x.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		x.f.wait(x.upTo(2 * time.Second))
		at := time.Since(begin).Round(time.Millisecond)
		now := all[n%len(all)]
		before := time.Now()
		now.do(t.Context())
		x.count[now.name]++
		t.Logf("%v: %s, over after %v", at, now.name, time.Since(before).Round(time.Millisecond))
	}
}

func (x *nemesis) upTo(d time.Duration) time.Duration { return time.Duration(x.r.Int64N(int64(d))) }

func (x *nemesis) node() (victim, other *node) {
	i := x.r.IntN(len(x.f.nodes))
	return x.f.nodes[i], x.f.nodes[(i+1+x.r.IntN(len(x.f.nodes)-1))%len(x.f.nodes)]
}

// of returns some accounts that a node owns.
func (x *nemesis) of(n *node) (list []int64) {
	top, err := x.f.topology()
	if err != nil {
		return nil
	}
	for account, address := range top.Accounts {
		if address == n.peers.address() {
			list = append(list, account)
		}
	}
	slices.Sort(list)
	return list[:min(3, len(list))]
}

// ask makes a transfer from an account until it is answered.
func (x *nemesis) ask(ctx context.Context, account int64, through *node) (took time.Duration, ok bool) {
	x.l.mu.Lock()
	x.probes++
	o := order{ID: fmt.Sprintf("probe-%d", x.probes), From: account, To: 1 + account%accounts, Amount: 1, Mode: "call"}
	x.l.mu.Unlock()
	begin := time.Now()
	what := unknown
	for ctx.Err() == nil && time.Since(begin) < clientPatience {
		status, _, _ := post(ctx, x.l.client, through.http, o)
		if status == http.StatusOK || status == http.StatusUnprocessableEntity {
			what = done
			if status == http.StatusUnprocessableEntity {
				what = refused
			}
			break
		}
		x.f.wait(10 * time.Millisecond)
	}
	x.l.mu.Lock()
	x.l.ledger[o.ID] = what
	x.l.mu.Unlock()
	return time.Since(begin), what != unknown
}

func (x *nemesis) crash(ctx context.Context) {
	victim, other := x.node()
	list := x.of(victim)
	victim.kill()
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, account := range list {
		all.Go(func() {
			if took, ok := x.ask(ctx, account, other); ok {
				mu.Lock()
				defer mu.Unlock()
				x.crashes = append(x.crashes, took)
			}
		})
	}
	if x.r.IntN(2) == 0 { // half of them come back before their lease has run out
		all.Wait()
	}
	x.f.wait(x.upTo(time.Second))
	victim.start()
	all.Wait()
}

func (x *nemesis) crashAll(context.Context) {
	for _, n := range x.f.nodes {
		n.kill()
	}
	x.startAll()
}

func (x *nemesis) startAll() {
	var all sync.WaitGroup
	for _, n := range x.f.nodes {
		all.Go(n.start)
	}
	all.Wait()
}

// freeze stops a process for longer than its lease.
func (x *nemesis) freeze(context.Context) {
	victim, _ := x.node()
	victim.signal(syscall.SIGSTOP)
	x.f.wait(x.f.setup.ttl + 500*time.Millisecond + x.upTo(1500*time.Millisecond))
	victim.signal(syscall.SIGCONT)
}

func (x *nemesis) restart(ctx context.Context) {
	victim, other := x.node()
	list := x.of(victim)
	stopped := make(chan struct{})
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, account := range list {
		all.Go(func() {
			var longest time.Duration
			for last := false; !last; {
				last = isClosed(stopped)
				if took, ok := x.ask(ctx, account, other); ok {
					longest = max(longest, took)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			x.moves = append(x.moves, longest)
		})
	}
	x.handed = append(x.handed, victim.stop())
	close(stopped)
	all.Wait()
	x.f.wait(x.upTo(time.Second))
	victim.start()
}

func (x *nemesis) endSessions(ctx context.Context) {
	for range 1 + x.r.IntN(4) {
		conn, err := pgx.Connect(ctx, x.f.setup.database)
		if err != nil {
			x.f.t.Errorf("end sessions: %v", err)
			return
		}
		_, err = conn.Exec(ctx, `SELECT setseed($1)`, x.r.Float64())
		if err == nil {
			_, err = conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.6`)
		}
		conn.Close(ctx)
		if err != nil {
			x.f.t.Errorf("end sessions: %v", err)
		}
		x.f.wait(x.upTo(300 * time.Millisecond))
	}
}

func (x *nemesis) restartDatabase(context.Context) {
	x.server.Stop(x.f.t)
	x.f.wait(x.upTo(2 * time.Second))
	x.server.Start(x.f.t)
}

func (x *nemesis) restartEtcd(context.Context) {
	x.etcd.Stop(x.f.t)
	x.f.wait(x.upTo(2 * x.f.setup.ttl))
	x.etcd.Start(x.f.t)
}

// cutDatabase separates a node from the database.
func (x *nemesis) cutDatabase(context.Context) {
	victim, _ := x.node()
	x.disturb(victim.db)
}

// cutPeers separates nodes from each other: one or two of three, or all.
func (x *nemesis) cutPeers(context.Context) {
	var list []*proxy
	for _, n := range x.f.nodes {
		list = append(list, n.peers)
	}
	x.r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	x.disturb(list[:1+x.r.IntN(len(list))]...)
}

// disturb cuts connections, or keeps them waiting, for a while.
func (x *nemesis) disturb(list ...*proxy) {
	silent := x.r.IntN(2) == 0
	for _, p := range list {
		if silent {
			p.hold()
		} else {
			p.cut()
		}
	}
	x.f.wait(200*time.Millisecond + x.upTo(2*x.f.setup.ttl))
	for _, p := range list {
		p.heal()
	}
}

// report tells how often what was done, and how long it took to recover.
func (x *nemesis) report() {
	total := 0
	var kinds []string
	for name, n := range x.count {
		total += n
		kinds = append(kinds, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(kinds)
	x.f.t.Logf("%d faults: %s", total, strings.Join(kinds, ", "))
	for _, s := range []struct {
		what string
		d    []time.Duration
	}{
		{"from a crash to the next answer", x.crashes}, {"longest call of an account while its runner stops", x.moves},
		{"to give all shards away", x.handed},
	} {
		slices.Sort(s.d)
		x.f.t.Logf("%s: p50 %v p99 %v of %d", s.what, quantile(s.d, .5), quantile(s.d, .99), len(s.d))
	}
}
