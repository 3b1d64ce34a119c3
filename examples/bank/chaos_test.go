package main

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cruster-go/cruster/internal/testdb"
)

// TestChaos runs three processes, their database and, when asked to, etcd
// through faults of all kinds while clients make transfers. Afterwards nothing
// is lost, nothing happened twice, and what the clients were told is true.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of faults")
	}
	seed, d := seed(t), time.Minute
	if s := os.Getenv(envChaos); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatalf("%s: %v", envChaos, err)
		}
	}
	server := testdb.StartServer(t, testdb.Config{})
	s := setup{database: server.URL(), membership: "postgres", ttl: 2 * time.Second, flags: []string{"--think", "2ms", "--stubborn"}}
	var etcd *etcdServer
	if os.Getenv(envMembership) == "etcd" {
		etcd = newEtcd(t)
		s.membership, s.etcd = "etcd", etcd.Addr()
	}
	f := newFleet(t, s)
	l := newLoad(f, 4*time.Second)
	l.run(seed, 8)
	x := &nemesis{f: f, l: l, server: server, etcd: etcd, r: rand.New(rand.NewPCG(uint64(seed), 1<<32))}
	least := 12
	if d >= 10*time.Minute {
		least = 60
	}
	x.run(d, least)
	healed := time.Now()
	l.end()
	took := f.drained()
	t.Logf("all work was done %v after the last fault, %v after the last request", time.Since(healed).Round(time.Millisecond), took.Round(time.Millisecond))
	x.report()
	r := f.check()
	l.check(t)
	t.Logf("verify: %d transfers, %d done, %d refused, %d executions, %d faults", r.Transfers, r.Done, r.Refused, r.Executions, len(r.Faults))
	for _, n := range f.nodes {
		n.stop()
	}
}
