package bench

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const (
	envRemoteDSN  = "CRUSTER_BENCH_REMOTE_DSN"  // set in the serving process: the database
	envRemoteArgs = "CRUSTER_BENCH_REMOTE_ARGS" // flags for it, such as -test.cpuprofile=server.out
)

// remoteAddresses is where the serving process is reached.
type remoteAddresses struct{ Bare, Grains string }

// remoteProcess is the process that answers the remote calls: this program once
// more. What it says is JSON, an answer for each byte that it is sent.
type remoteProcess struct {
	served remoteAddresses
	ask    func() error
	answer *json.Decoder
}

func startRemoteProcess(tb testing.TB, dsn string) *remoteProcess {
	tb.Helper()
	args := append([]string{"-test.run=^TestRemoteProcess$"}, strings.Fields(os.Getenv(envRemoteArgs))...)
	cmd := exec.Command(must(os.Executable()), args...)
	cmd.Env = append(os.Environ(), envRemoteDSN+"="+dsn)
	cmd.Stderr = os.Stderr
	in, out := must(cmd.StdinPipe()), must(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("the serving process: %v", err)
		}
	})
	p := &remoteProcess{answer: json.NewDecoder(out), ask: func() error {
		_, err := in.Write([]byte{'?'})
		return err
	}}
	if err := p.answer.Decode(&p.served); err != nil {
		tb.Fatal(err)
	}
	return p
}

// spent asks the process what it has used.
func (p *remoteProcess) spent(tb testing.TB) (s spent) {
	tb.Helper()
	err := p.ask()
	if err == nil {
		err = p.answer.Decode(&s)
	}
	if err != nil {
		tb.Fatalf("ask the serving process: %v", err)
	}
	return s
}

// TestRemoteProcess is the serving process, and nothing anywhere else.
func TestRemoteProcess(t *testing.T) {
	dsn := os.Getenv(envRemoteDSN)
	if dsn == "" {
		return
	}
	startDepot(t, dsn, 1)
	say := json.NewEncoder(os.Stdout)
	err := say.Encode(remoteAddresses{Bare: serveBare(t), Grains: serveGrains(t)})
	for question := make([]byte, 1); err == nil; err = say.Encode(spentHere()) {
		if _, err := os.Stdin.Read(question); err != nil {
			return // the other process has ended, or wants no more
		}
	}
	t.Error(err)
}
