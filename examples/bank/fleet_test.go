package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
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
const envProgram = "BANK_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(envProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(testdb.Main(m, func() error { return goleak.Find() }))
}

// Environment variables of the tests.
const (
	envSeed       = "CRUSTER_TEST_SEED"       // of what is random, default: a new one
	envChaos      = "CRUSTER_TEST_CHAOS"      // how long faults go on, default 60s
	envMembership = "CRUSTER_TEST_MEMBERSHIP" // postgres, the default, or etcd
	envLogs       = "CRUSTER_TEST_LOGS"       // where to keep what the runners say, default: nowhere
)

func seed(t *testing.T) int64 {
	t.Helper()
	n := rand.Int64()
	if s := os.Getenv(envSeed); s != "" {
		var err error
		if n, err = strconv.ParseInt(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
	}
	t.Logf("%s=%d", envSeed, n)
	return n
}

// options of a fleet.
type setup struct {
	program    string // "": the test binary
	database   string
	membership string
	etcd       string
	ttl        time.Duration
	flags      []string
}

const (
	accounts = 20
	opening  = 1000
	shards   = 30
)

// fleet is three runners in processes of their own. Each reaches the others, and
// the database, through proxies.
type fleet struct {
	t     *testing.T
	setup setup
	logs  string
	nodes []*node
	watch *bank // the test's own eyes: it only reads
	begin time.Time

	mu     sync.Mutex
	faults []string // processes that ended by themselves
}

// node is one of them.
type node struct {
	f     *fleet
	name  string
	http  string
	args  []string
	peers *proxy // how others reach it
	db    *proxy // how it reaches the database
	log   *os.File

	mu      sync.Mutex
	process *process
}

// process is one life of a node.
type process struct {
	cmd     *exec.Cmd
	ready   chan struct{}
	exited  chan struct{}
	err     error // of Wait; valid after exited
	asked   bool  // to end
	handed  time.Duration
	stopped bool
	mu      sync.Mutex
}

func newFleet(t *testing.T, s setup) *fleet {
	t.Helper()
	f := &fleet{t: t, setup: s, logs: os.Getenv(envLogs), begin: time.Now()}
	if f.logs == "" {
		f.logs = t.TempDir()
	}
	db, err := openDatabase(t.Context(), options{storage: "postgres", pg: s.database, accounts: accounts, opening: opening})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.close)
	f.watch = &bank{o: options{shards: shards, accounts: accounts}, db: db}
	u, err := url.Parse(s.database)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		n := &node{f: f, name: fmt.Sprintf("n%d", i+1), http: freeAddress(t), db: newProxy(t, u.Host)}
		listen := freeAddress(t)
		n.peers = newProxy(t, listen)
		through := *u
		through.Host = n.db.address()
		n.args = append([]string{
			"--id", n.name, "--http", n.http, "--listen", listen, "--advertise", n.peers.address(), "--peer-secret", "only-for-this-test",
			"--pg", through.String(), "--membership", s.membership, "--etcd", s.etcd, "--ttl", s.ttl.String(), "--drain-timeout", "3s",
			"--shards", fmt.Sprint(shards), "--accounts", fmt.Sprint(accounts), "--opening", fmt.Sprint(opening),
		}, s.flags...)
		if n.log, err = os.Create(filepath.Join(f.logs, n.name+".log")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.log.Close() })
		f.nodes = append(f.nodes, n)
	}
	t.Cleanup(func() {
		for _, n := range f.nodes {
			n.kill()
		}
		if t.Failed() {
			f.tell()
		}
	})
	var all sync.WaitGroup
	for _, n := range f.nodes {
		all.Go(func() { n.start() })
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	f.spread()
	return f
}

// freeAddress returns one whose port the system does not give to others.
func freeAddress(t testing.TB) string {
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

// spread waits until every runner has shards.
func (f *fleet) spread() {
	f.t.Helper()
	f.eventually(20*time.Second, "every runner owns shards", func() error {
		top, err := f.topology()
		if err != nil {
			return err
		}
		busy := 0
		for _, m := range top.Runners {
			if m.Shards > 0 {
				busy++
			}
		}
		if busy != len(f.nodes) {
			return fmt.Errorf("%+v", top.Runners)
		}
		return nil
	})
}

// topology asks the nodes until one answers.
func (f *fleet) topology() (t topology, err error) {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, i := range rand.Perm(len(f.nodes)) {
		var res *http.Response
		if res, err = client.Get("http://" + f.nodes[i].http + "/v1/topology"); err != nil {
			continue
		}
		err = json.NewDecoder(res.Body).Decode(&t)
		res.Body.Close()
		if err == nil && len(t.Accounts) > 0 {
			return t, nil
		}
	}
	return t, errors.Join(errors.New("no runner answers"), err)
}

// eventually asks again and again, and returns how long it took.
func (f *fleet) eventually(limit time.Duration, what string, check func() error) time.Duration {
	f.t.Helper()
	begin := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		took := time.Since(begin)
		if err == nil {
			return took
		}
		if took > limit {
			f.t.Errorf("not within %v: %s: %v", limit, what, err)
			return took
		}
		select {
		case <-tick.C:
		case <-f.t.Context().Done():
			f.t.Error(context.Cause(f.t.Context()))
			return took
		}
	}
}

// program is the command that runs the bank in a process of its own.
func (f *fleet) program(args ...string) *exec.Cmd {
	name := f.setup.program
	if name == "" {
		name = os.Args[0]
	}
	cmd := exec.Command(name, args...)
	// The race detector would wait for a second at each exit.
	cmd.Env = append(os.Environ(), envProgram+"=1", envPostgres+"=", "GORACE=atexit_sleep_ms=0 halt_on_error=1")
	return cmd
}

// start runs the node until it is ready. Like a supervisor it starts it again
// when it gives up, because there is no database, say.
func (n *node) start() {
	for try := range 60 {
		p, err := n.launch()
		if err != nil {
			n.f.t.Error(err)
			return
		}
		select {
		case <-p.ready:
			return
		case <-p.exited:
			if try > 0 {
				n.f.t.Logf("%s did not start: %v", n.name, p.err)
			}
			n.f.wait(500 * time.Millisecond)
		case <-time.After(60 * time.Second):
			n.f.t.Errorf("%s is not ready after a minute", n.name)
			return
		case <-n.f.t.Context().Done():
			return
		}
	}
	n.f.t.Errorf("%s does not start", n.name)
}

// wait does nothing for a while: time is what the faults are made of.
func (f *fleet) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-f.t.Context().Done():
	}
}

func (n *node) launch() (*process, error) {
	p := &process{cmd: n.f.program(n.args...), ready: make(chan struct{}), exited: make(chan struct{})}
	out, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()
	go func() {
		n.read(p, out)
		p.err = p.cmd.Wait()
		close(p.exited)
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.asked && isClosed(p.ready) || p.err != nil && strings.Contains(p.err.Error(), "exit status 66") {
			n.f.mu.Lock()
			defer n.f.mu.Unlock()
			n.f.faults = append(n.f.faults, fmt.Sprintf("%s ended by itself: %v", n.name, p.err))
		}
	}()
	return p, nil
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// read follows the events.
func (n *node) read(p *process, out io.Reader) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes('\n')
		_, _ = n.log.Write(line)
		var e struct {
			Msg    string
			Handed int64 `json:"handed_over_ms"`
		}
		if json.Unmarshal(line, &e) == nil {
			switch e.Msg {
			case "ready":
				close(p.ready)
			case "stopped":
				p.mu.Lock()
				p.handed, p.stopped = time.Duration(e.Handed)*time.Millisecond, true
				p.mu.Unlock()
			}
		}
		if err != nil {
			return
		}
	}
}

func (n *node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

func (n *node) signal(s syscall.Signal) {
	if p := n.current(); p != nil && !isClosed(p.exited) {
		_ = p.cmd.Process.Signal(s) // it may have ended just now
	}
}

// end notes that the process may end from now on.
func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
}

// kill ends the process at once.
func (n *node) kill() {
	if p := n.current(); p != nil {
		p.end()
		n.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// stop ends the process as an orchestrator would, and reports how long it took
// to give its shards away.
func (n *node) stop() (handed time.Duration) {
	p := n.current()
	p.end()
	n.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		n.f.t.Errorf("%s does not end after SIGTERM", n.name)
		n.kill()
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil || !p.stopped {
		n.f.t.Errorf("%s after SIGTERM: %v, want exit code 0", n.name, p.err)
	}
	return p.handed
}

// tell logs what the nodes have warned of last.
func (f *fleet) tell() {
	for _, n := range f.nodes {
		b, _ := os.ReadFile(filepath.Join(f.logs, n.name+".log"))
		var lines []string
		for line := range strings.Lines(string(b)) {
			if !strings.Contains(line, `"level":"INFO"`) {
				lines = append(lines, line)
			}
		}
		f.t.Logf("last warnings of %s:\n%s", n.name, strings.Join(lines[max(0, len(lines)-15):], ""))
	}
}

// verify runs the program's own check.
func (f *fleet) verify() result {
	f.t.Helper()
	cmd := f.program("verify", "--pg", f.setup.database, "--accounts", "0")
	var out, events bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &events
	err := cmd.Run()
	var r result
	if json.Unmarshal(out.Bytes(), &r) != nil {
		f.t.Fatalf("verify: %v\n%s%s", err, out.String(), events.String())
	}
	if (err == nil) != (len(r.Faults) == 0) {
		f.t.Errorf("verify ended with %v and %d faults", err, len(r.Faults))
	}
	return r
}

// drained waits until nothing is left to do.
func (f *fleet) drained() time.Duration {
	return f.eventually(2*f.setup.ttl+5*time.Second, "all work is done", func() error {
		b, err := f.watch.db.backlog(f.t.Context())
		if err == nil && b.waiting+b.stuck > 0 {
			err = fmt.Errorf("%d waiting, %d stuck", b.waiting, b.stuck)
		}
		return err
	})
}

// check looks at everything at the end.
func (f *fleet) check() result {
	f.t.Helper()
	r := f.verify()
	for _, x := range r.Faults {
		f.t.Errorf("%s: %d times, such as\n\t%s", x.Invariant, x.Count, strings.Join(x.Examples, "\n\t"))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.faults {
		f.t.Error(x)
	}
	return r
}

// post sends a transfer to a node. refused reports that the node took no
// connection: nothing was sent.
func post(ctx context.Context, client *http.Client, address string, o order) (status int, a answer, refused bool) {
	body, _ := json.Marshal(o)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v1/transfers", bytes.NewReader(body))
	if err != nil {
		return 0, a, false
	}
	req.Header.Set("Idempotency-Key", o.ID) // net/http may repeat it on an idle connection that was closed
	res, err := client.Do(req)
	if err != nil {
		var op *net.OpError
		return 0, a, errors.As(err, &op) && op.Op == "dial"
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return 0, a, false
	}
	return res.StatusCode, a, false
}
