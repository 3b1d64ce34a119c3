package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/internal/testetcd"
)

// envProgram makes the test binary be the program.
const envProgram = "CLUSTER_TESTS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(envProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(testdb.Main(m, func() error {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		return goleak.Find()
	}))
}

// patience is how long a test waits for what should take a moment: the machine
// may be busy.
const patience = 60 * time.Second

// program is the command that runs the program in a process of its own, with
// these variables and no others of its settings.
func program(ctx context.Context, env map[string]string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	// The race detector would wait for a second at each exit.
	cmd.Env = append(os.Environ(), envProgram+"=1", "GORACE=atexit_sleep_ms=0 halt_on_error=1")
	for _, s := range settingList {
		cmd.Env = append(cmd.Env, s.name+"="+env[s.name])
	}
	return cmd
}

// cluster is some nodes on a database and an etcd of their own.
type cluster struct {
	url   string
	etcd  *testetcd.Server
	keys  *clientv3.Client
	lease string
	nodes []*node
	next  atomic.Int64 // node of the next request
}

// node is one process, which may have been started several times.
type node struct {
	c          *cluster
	name, http string // addresses
	cmd        *exec.Cmd
	log        bytes.Buffer
	gone       chan struct{} // closed when the process has ended
}

// newCluster starts nodes at the same moment, on an empty database and an empty
// etcd.
func newCluster(t *testing.T, nodes int, lease string) *cluster {
	t.Helper()
	c := &cluster{url: testdb.Database(t), etcd: testetcd.Start(t), lease: lease}
	c.keys = c.etcd.Client(t)
	for range nodes {
		n := &node{c: c, name: freeAddr(t), http: freeAddr(t)}
		c.nodes = append(c.nodes, n)
		n.start(t)
	}
	for _, n := range c.nodes {
		n.ready(t)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.signal(syscall.SIGTERM)
		}
		for i, n := range c.nodes {
			select {
			case <-n.gone:
			case <-time.After(patience):
				t.Errorf("node %d does not stop", i+1)
				n.signal(syscall.SIGKILL)
				<-n.gone
			}
			if strings.Contains(n.log.String(), "DATA RACE") || t.Failed() {
				t.Logf("log of node %d, %s:\n%s", i+1, n.name, n.log.String())
			}
			if strings.Contains(n.log.String(), "DATA RACE") {
				t.Errorf("node %d has a data race", i+1)
			}
		}
	})
	return c
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the process, and returns at once.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.cmd = program(context.WithoutCancel(t.Context()), map[string]string{
		"POSTGRES_URL": n.c.url, "ETCD_ENDPOINTS": " " + n.c.etcd.Addr() + " ", "RUNNER_ADDRESS": n.name, "LISTEN_ADDR": n.http, "LEASE_TTL": n.c.lease,
	})
	n.cmd.Stderr = &n.log
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	n.gone = gone
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(gone)
	}(n.cmd)
}

// ready waits for the first answer of /health.
func (n *node) ready(t *testing.T) {
	t.Helper()
	begin := time.Now()
	eventually(t, n.name+" serves", func() error {
		select {
		case <-n.gone:
			t.Fatalf("%s has ended: %v\n%s", n.name, n.cmd.ProcessState, n.log.String())
		default:
		}
		_, _, err := n.do(t.Context(), "GET", "/health", "")
		return err
	})
	t.Logf("%s serves after %v", n.name, time.Since(begin).Round(time.Millisecond))
}

func (n *node) signal(s syscall.Signal) { _ = n.cmd.Process.Signal(s) }

// end sends a signal and returns when the process has gone.
func (n *node) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	begin := time.Now()
	n.signal(s)
	select {
	case <-n.gone:
	case <-time.After(patience):
		t.Fatalf("%s does not stop\n%s", n.name, n.log.String())
	}
	t.Logf("%s is gone %v after %v", n.name, time.Since(begin).Round(time.Millisecond), s)
	if s != syscall.SIGKILL && !n.cmd.ProcessState.Success() {
		t.Errorf("%s ended with %v, want success", n.name, n.cmd.ProcessState)
	}
}

// do sends one request, and reads the answer.
func (n *node) do(ctx context.Context, method, path, body string) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.http+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.Header.Get("Content-Type") != "application/json" {
		err = fmt.Errorf("content type %q", resp.Header.Get("Content-Type"))
	}
	return resp.StatusCode, strings.TrimSuffix(string(b), "\n"), err
}

// do sends a request to the next node that lives.
func (c *cluster) do(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	for {
		n := c.nodes[int(c.next.Add(1))%len(c.nodes)]
		select {
		case <-n.gone:
			continue
		default:
		}
		status, text, err := n.do(t.Context(), method, path, body)
		if err != nil {
			t.Fatalf("%s %s at %s: %v", method, path, n.name, err)
		}
		return status, text
	}
}

// exchange is a request and what must come back: the whole body, unless it is
// "", which stands for anything.
type exchange struct {
	request string // method and path
	body    string
	status  int
	want    string
}

func (c *cluster) exchanges(t *testing.T, list ...exchange) {
	t.Helper()
	for _, e := range list {
		method, path, _ := strings.Cut(e.request, " ")
		if e.status == 0 {
			e.status = http.StatusOK
		}
		status, text := c.do(t, method, path, e.body)
		if status != e.status || e.want != "" && text != e.want {
			t.Errorf("%s with %.200s: %d %s, want %d %s", e.request, e.body, status, text, e.status, e.want)
		}
		if e.status != http.StatusOK {
			var v struct{ Error string }
			if err := json.Unmarshal([]byte(text), &v); err != nil || v.Error == "" {
				t.Errorf("%s: body %s, want {\"error\":...}", e.request, text)
			}
		}
	}
}

// read gets a value.
func read[T any](t *testing.T, c *cluster, path string) (v T) {
	t.Helper()
	status, text := c.do(t, "GET", path, "")
	if err := json.Unmarshal([]byte(text), &v); err != nil || status != http.StatusOK {
		t.Errorf("GET %s: %d %s, %v", path, status, text, err)
	}
	return v
}

// eventually asks again until f has no error.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not after %v: %v", what, patience, err)
		}
	}
}

// pass lets time go by.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// TestSettings starts the program with what it cannot work with.
func TestSettings(t *testing.T) {
	t.Parallel()
	good := map[string]string{"POSTGRES_URL": "postgres://a:b@127.0.0.1:1/x", "ETCD_ENDPOINTS": "127.0.0.1:1", "RUNNER_ADDRESS": "127.0.0.1:9"}
	for _, tt := range []struct{ name, value string }{
		{"POSTGRES_URL", ""}, {"ETCD_ENDPOINTS", ""}, {"RUNNER_ADDRESS", ""},
		{"POSTGRES_URL", "host=x"}, {"POSTGRES_URL", "postgres://a:b@h:port/x"},
		{"ETCD_ENDPOINTS", "http://127.0.0.1:2379"}, {"ETCD_ENDPOINTS", "a:1,,b:2"},
		{"RUNNER_ADDRESS", "node1"}, {"RUNNER_ADDRESS", ":9000"}, {"RUNNER_ADDRESS", "node1:x"},
		{"GRPC_PORT", "0"}, {"LISTEN_ADDR", "8080"}, {"LOG_LEVEL", "loud"}, {"LEASE_TTL", "1h"},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{tt.name: tt.value}
			for name, v := range good {
				if name != tt.name {
					env[name] = v
				}
			}
			out, err := program(t.Context(), env).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() <= 0 || !strings.Contains(string(out), tt.name) {
				t.Errorf("it ended with %v:\n%s\nwant a failure that names %s", err, out, tt.name)
			}
		})
	}
	s, err := readSettings([]string{"-runner-address", "[::1]:7", "--log-level=debug"}, func(name string) (string, bool) {
		v, ok := good[name]
		return v, ok
	}, io.Discard)
	if err != nil || s.runner != "[::1]:7" || s.grpcPort != "7" || s.listen != "0.0.0.0:8080" || s.lease != 10*time.Second || s.pool.MaxConns != poolSize {
		t.Errorf("settings %+v, %v: want the flag, and defaults", s, err)
	}
}
