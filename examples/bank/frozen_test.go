package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cruster-go/cruster/internal/testdb"
)

// TestFrozenRunners freezes runners, or what they have just sent to the database,
// in the middle of transactions and for longer than their leases. What arrives
// afterwards must be refused.
func TestFrozenRunners(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	r := freeze(t, "", 4)
	for _, x := range r.Faults {
		t.Errorf("%s: %d times, such as %q", x.Invariant, x.Count, x.Examples)
	}
}

// TestMissingFenceIsFound does the same with a program whose commits are not
// fenced: were nothing found, the tests here would show nothing.
func TestMissingFenceIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	program := filepath.Join(t.TempDir(), "bank")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "cruster_nofence", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	r := freeze(t, program, 12)
	if len(r.Faults) == 0 {
		t.Errorf("without the fence nothing is wrong after %d executions: the fence is not tested", r.Executions)
	}
	for _, x := range r.Faults {
		t.Logf("found: %s: %d times, such as %q", x.Invariant, x.Count, x.Examples)
	}
}

// commits are what the last message of a handler's transaction contains: the
// text of a statement at its first use on a connection, then pgx's name for it.
var commits = func() []string {
	const text = "set constraints all immediate"
	hash := sha256.Sum256([]byte(text))
	return []string{text, "stmtcache_" + hex.EncodeToString(hash[:24])}
}()

// freeze freezes runners until something is wrong, so many times at most.
func freeze(t *testing.T, program string, rounds int) (r result) {
	seed := seed(t)
	f := newFleet(t, setup{
		program: program, database: testdb.Database(t), membership: "postgres", ttl: 2 * time.Second,
		flags: []string{"--think", "1ms", "--stubborn"},
	})
	l := newLoad(f, 2*time.Second)
	l.run(seed, 16)
	for n := range rounds {
		victim := f.nodes[n%len(f.nodes)]
		f.wait(500 * time.Millisecond)
		process := n%4 == 3
		if process {
			victim.signal(syscall.SIGSTOP)
		} else {
			select {
			case <-victim.db.holdAt(commits...):
			case <-time.After(10 * time.Second):
				victim.db.hold()
			}
		}
		f.eventually(time.Minute, "another runner takes over", func() error { return f.without(victim) })
		f.wait(time.Second) // it works on what the frozen one had begun
		if process {
			victim.signal(syscall.SIGCONT)
		} else {
			victim.db.heal()
		}
		f.wait(500 * time.Millisecond)
		if r = f.verify(); broken(r) {
			t.Logf("found after %d freezes", n+1)
			break
		}
	}
	l.end()
	if !broken(r) {
		f.drained()
		r = f.verify()
	}
	return r
}

// broken reports a fault that more time will not repair.
func broken(r result) bool {
	for _, x := range r.Faults {
		switch x.Invariant {
		case "no transfer is half done", "nothing is left to do":
		default:
			return true
		}
	}
	return false
}

// without reports whether a node still owns accounts, as the database has it.
func (f *fleet) without(n *node) error {
	top, err := f.topology()
	if err != nil {
		return err
	}
	for _, address := range top.Accounts {
		if address == n.peers.address() || address == "" {
			return errors.New("not all accounts have a new owner")
		}
	}
	return nil
}
