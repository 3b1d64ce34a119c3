package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/internal/testdb"
)

// envProgram makes the test binary be the program, with its flags.
const envProgram = "REMINDERS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(envProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(testdb.Main(m, func() error { return goleak.Find() }))
}

// Environment variables of the tests.
const (
	envSeed  = "CRUSTER_TEST_SEED"  // of what is random, default: a new one
	envKills = "CRUSTER_TEST_KILLS" // of the singleton's holder, default 20
	envTicks = "CRUSTER_TEST_TICKS" // of the cron, a second each, default 25
)

func number(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// program is the command that runs the program in a process of its own.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	// The race detector would wait for a second at each exit.
	cmd.Env = append(os.Environ(), envProgram+"=1", envPostgres+"=", "GORACE=atexit_sleep_ms=0 halt_on_error=1")
	return cmd
}

// ttl is that of the tests' processes, and budget how long what a killed one did
// may be nobody's.
const (
	ttl    = 2 * time.Second
	budget = ttl + 1500*time.Millisecond
)

// fleet is three processes on one database. Tests that have one are not run in
// parallel: a busy machine lets leases end that nobody has killed.
type fleet struct {
	*testing.T
	db    *database // the test's own eyes
	nodes []*node
	rand  *rand.Rand
}

// node is one of them, and may have many lives.
type node struct {
	f    *fleet
	name string
	http string
	args []string

	mu     sync.Mutex
	cmd    *exec.Cmd // nil: not running
	ready  chan struct{}
	exited chan struct{}
	err    error         // of the last life; valid after exited
	events *bytes.Buffer // of all lives
}

func newFleet(t *testing.T, args ...string) *fleet {
	t.Helper()
	url := testdb.Database(t)
	db, err := openDatabase(t.Context(), options{storage: "postgres", pg: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.close)
	seed := number(t, envSeed, rand.Int64())
	t.Logf("%s=%d", envSeed, seed)
	f := &fleet{T: t, db: db, rand: rand.New(rand.NewPCG(uint64(seed), 0))}
	for i := range 3 {
		n := &node{f: f, name: fmt.Sprintf("n%d", i+1), http: freeAddress(t), events: new(bytes.Buffer)}
		n.args = append([]string{
			"-id", n.name, "-storage", "postgres", "-pg", url, "-http", n.http, "-listen", freeAddress(t),
			"-peer-secret", "only-for-this-test", "-ttl", ttl.String(),
		}, args...)
		f.nodes = append(f.nodes, n)
	}
	t.Cleanup(func() {
		for _, n := range f.nodes {
			n.kill()
			if t.Failed() {
				n.tell()
			}
		}
	})
	f.startAll()
	return f
}

// freeAddress returns one whose port the system does not give to others.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		a := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", a); err == nil {
			l.Close()
			return a
		}
	}
	t.Fatal("there is no free port")
	return ""
}

func (f *fleet) startAll() {
	f.Helper()
	var all sync.WaitGroup
	for _, n := range f.nodes {
		all.Go(n.start)
	}
	all.Wait()
	if f.Failed() {
		f.FailNow()
	}
}

// start runs the node and waits until it is ready. Like a supervisor it starts
// it again when it gives up, since a busy machine may let its first lease end.
func (n *node) start() {
	for try := range 10 {
		ready, exited := n.launch()
		select {
		case <-ready:
			return
		case <-exited:
			n.f.Logf("%s did not start, try %d: %v", n.name, try+1, n.err)
		case <-time.After(time.Minute):
			n.f.Errorf("%s is not ready after a minute", n.name)
			return
		}
	}
	n.f.Errorf("%s does not start", n.name)
}

// launch starts a life of the node.
func (n *node) launch() (ready, exited chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	cmd := program(n.args...)
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	ready, exited = make(chan struct{}), make(chan struct{})
	if err != nil {
		n.err = err
		close(exited)
		return ready, exited
	}
	n.cmd, n.ready, n.exited = cmd, ready, exited
	go func() {
		n.read(out, ready)
		err := cmd.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.cmd, n.err = nil, err
		close(exited)
	}()
	return ready, exited
}

// read follows the events.
func (n *node) read(out io.Reader, ready chan struct{}) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes('\n')
		n.mu.Lock()
		n.events.Write(line)
		n.mu.Unlock()
		var e struct{ Msg string }
		if json.Unmarshal(line, &e) == nil && e.Msg == "ready" {
			close(ready)
		}
		if err != nil {
			return
		}
	}
}

// signal sends one and returns what is closed when the process has ended, and
// whether there was one.
func (n *node) signal(s syscall.Signal) (exited chan struct{}, running bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return n.exited, false
	}
	return n.exited, n.cmd.Process.Signal(s) == nil
}

// kill ends the process at once.
func (n *node) kill() {
	if exited, running := n.signal(syscall.SIGKILL); running {
		<-exited
	}
}

// stop ends the process as an orchestrator would.
func (n *node) stop() {
	n.f.Helper()
	exited, running := n.signal(syscall.SIGTERM)
	if !running {
		n.f.Errorf("%s has ended by itself: %v", n.name, n.err)
		return
	}
	select {
	case <-exited:
		if n.err != nil {
			n.f.Errorf("%s after SIGTERM: %v, want exit code 0", n.name, n.err)
		}
	case <-time.After(30 * time.Second):
		n.f.Errorf("%s does not end after SIGTERM", n.name)
		n.kill()
	}
}

// tell logs what the node has warned of last.
func (n *node) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for line := range strings.Lines(n.events.String()) {
		if !strings.Contains(line, `"level":"INFO"`) {
			lines = append(lines, line)
		}
	}
	n.f.Logf("last warnings of %s:\n%s", n.name, strings.Join(lines[max(0, len(lines)-15):], ""))
}

// named returns the node of a name.
func (f *fleet) named(name string) *node {
	return f.nodes[slices.IndexFunc(f.nodes, func(n *node) bool { return n.name == name })]
}

// wait does nothing for a while: time is what the faults are made of.
func (f *fleet) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-f.Context().Done():
	}
}

// below returns a random time below d.
func (f *fleet) below(d time.Duration) time.Duration { return time.Duration(f.rand.Int64N(int64(d))) }

// now is the database's time.
func (f *fleet) now() int64 {
	f.Helper()
	var at int64
	f.scan(`SELECT `+f.db.clock, &at)
	return at
}

// scan reads one row.
func (f *fleet) scan(query string, to ...any) {
	f.Helper()
	if err := f.db.sql.QueryRowContext(f.Context(), query).Scan(to...); err != nil {
		f.Fatalf("%s: %v", query, err)
	}
}

// eventually asks again and again.
func (f *fleet) eventually(limit time.Duration, what string, check func() error) {
	f.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		err := check()
		if err == nil {
			return
		}
		if time.Since(begin) > limit {
			f.Fatalf("not within %v: %s: %v", limit, what, err)
		}
	}
}

// remind sets a reminder at one node after the other until one has taken it.
func (f *fleet) remind(client *http.Client, i int, r Reminder) error {
	body, err := json.Marshal(wish{Text: r.Text, Due: r.Due, Times: r.Times, Nag: r.Nag})
	if err != nil {
		return err
	}
	for try := range 100 {
		n := f.nodes[(i+try)%len(f.nodes)]
		req, err := http.NewRequestWithContext(f.Context(), http.MethodPut, "http://"+n.http+"/users/"+r.User+"/reminders/"+r.ID, bytes.NewReader(body))
		if err != nil {
			return err
		}
		var answer []byte
		res, err := client.Do(req)
		if err == nil {
			answer, err = io.ReadAll(res.Body)
			res.Body.Close()
			if err == nil && res.StatusCode == http.StatusOK {
				return nil
			}
			if res.StatusCode < 500 {
				return fmt.Errorf("reminder %s: status %d: %s", r.ID, res.StatusCode, answer)
			}
		}
		if err := context.Cause(f.Context()); err != nil {
			return err
		}
		f.wait(50 * time.Millisecond)
	}
	return fmt.Errorf("reminder %s: nobody takes it", r.ID)
}
