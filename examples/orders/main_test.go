package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage/postgres"
)

// envProgram makes the test binary be the program, with its flags.
const envProgram = "ORDERS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(envProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(testdb.Main(m, func() error { return goleak.Find() }))
}

// program is the command that runs the program in a process of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	// The race detector would wait for a second at each exit.
	cmd.Env = append(os.Environ(), envProgram+"=1", envPostgres+"=", "GORACE=atexit_sleep_ms=0 halt_on_error=1")
	return cmd
}

// process runs the program and reports whether it was killed.
func process(t *testing.T, args ...string) (out string, killed bool) {
	t.Helper()
	for {
		cmd := program(t, args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		switch {
		case err == nil:
			return stdout.String(), false
		case wasKilled(err):
			if i := slices.Index(args, "-pg"); i >= 0 && slices.Contains(args, longLease) {
				bury(t, args[i+1])
			}
			return stdout.String(), true
		case starved(stderr.String()):
			t.Log("the machine is too busy for the lease: once more")
		default:
			t.Fatalf("orders %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
		}
	}
}

// bury says of a PostgreSQL database that no process works with it.
func bury(t *testing.T, url string) {
	t.Helper()
	store, err := postgres.Open(t.Context(), url, &postgres.Options{AutoMigrate: true})
	if err == nil {
		err = errors.Join(endLeases(t.Context(), store), store.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// starved reports that a process stopped because it got no time to renew its
// short lease. It is started again, as who operates it would.
func starved(out string) bool { return strings.Contains(out, "lease expired") }

func wasKilled(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

const once = "1 in reservations\n1 in payments\n1 in parcels\n1 in confirmations\n"

const (
	// longLease is one that a busy machine does not lose. After a kill the
	// test takes the record of the dead process away.
	longLease = "1m"
	// shortLease is one that is waited for.
	shortLease = "2s"
)

// databases returns for each storage a function that names a new database.
func databases(t *testing.T) map[string]func() []string {
	files := 0
	dir := t.TempDir()
	return map[string]func() []string{
		"sqlite": func() []string {
			files++
			return []string{"-db", filepath.Join(dir, fmt.Sprintf("%d.db", files))}
		},
		"postgres": func() []string {
			return []string{"-storage", "postgres", "-pg", testdb.Database(t), "-lease", longLease}
		},
	}
}

func with(flags []string, more ...string) []string {
	return append(flags[:len(flags):len(flags)], more...)
}

// TestKillAtEveryPoint kills a real process at every point of the workflow in
// turn; the next process must finish with each effect exactly once.
func TestKillAtEveryPoint(t *testing.T) {
	t.Parallel()
	for name, next := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			points := 0
			for ; ; points++ {
				if points > 100 {
					t.Fatal("the program still reaches its crash point after 100 of them")
				}
				if name == "postgres" && points%4 > 0 { // slow; TestKillEveryProcess has the others
					continue
				}
				flags := next()
				out, killed := process(t, with(flags, "-crash-after", fmt.Sprint(points+1))...)
				if !killed {
					if !strings.HasSuffix(out, once) {
						t.Errorf("undisturbed run ended with\n%s\nwant each effect once", out)
					}
					break
				}
				next, killed := process(t, flags...)
				if killed || !strings.HasSuffix(next, once) {
					t.Errorf("%s\nthe next process (killed: %v) ended with\n%s\nwant each effect once", out, killed, next)
				}
			}
			if points < 12 {
				t.Errorf("the process was killed at %d points, want at least 12", points)
			}
		})
	}
}

// TestKillEveryProcess kills each successive process one point further on, so
// that one execution survives many crashes.
func TestKillEveryProcess(t *testing.T) {
	t.Parallel()
	for name, next := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := next()
			for n := 1; n < 100; n++ {
				out, killed := process(t, with(flags, "-crash-after", fmt.Sprint(n))...)
				if killed {
					continue
				}
				if !strings.HasSuffix(out, once) {
					t.Errorf("after %d crashes:\n%s\nwant each effect once", n-1, out)
				}
				return
			}
			t.Error("the execution never finished")
		})
	}
}

// TestLeaseOfAKilledProcess waits, as a user's program does.
func TestLeaseOfAKilledProcess(t *testing.T) {
	t.Parallel()
	flags := []string{"-storage", "postgres", "-pg", testdb.Database(t), "-lease", shortLease}
	if out, killed := process(t, with(flags, "-crash-after", "5")...); !killed {
		t.Errorf("the process was not killed:\n%s", out)
	}
	if out, _ := process(t, flags...); !strings.HasSuffix(out, once) {
		t.Errorf("the next process ended with\n%s\nwant each effect once", out)
	}
}

func TestSecondRunReplaysNothing(t *testing.T) {
	t.Parallel()
	for name, next := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := next()
			for i := range 2 {
				out, _ := process(t, with(flags, "-order", "order-1")...)
				if !strings.HasSuffix(out, once) {
					t.Errorf("ended with\n%s\nwant each effect once", out)
				}
				if ran := strings.Contains(out, "ran"); ran != (i == 0) {
					t.Errorf("run %d: steps ran: %v\n%s", i+1, ran, out)
				}
			}
		})
	}
}

// A user who cannot reach the database is told which flag to change.
func TestUnreachableDatabase(t *testing.T) {
	for name, tt := range map[string]struct {
		o    options
		env  string
		want []string
		not  string
	}{
		"no name":                 {o: options{storage: "postgres"}, want: []string{"-pg postgres://", envPostgres}},
		"not a connection string": {o: options{storage: "postgres", pg: "://"}, want: []string{"-pg", envPostgres}},
		"nobody there": {
			o:    options{storage: "postgres", pg: "postgres://ann:secret@127.0.0.1:1/shop"},
			want: []string{"-pg", envPostgres, `"shop" on 127.0.0.1:1`, "start the server"}, not: "secret",
		},
		"from the environment": {o: options{storage: "postgres"}, env: "postgres://127.0.0.1:1/other", want: []string{`"other" on 127.0.0.1:1`}},
		"unknown storage":      {o: options{storage: "mysql"}, want: []string{"-storage mysql", "sqlite or postgres"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(envPostgres, tt.env)
			begin := time.Now()
			err := run(t.Context(), t.Output(), tt.o)
			if err == nil {
				t.Fatal("run() succeeded")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("run() = %v, want it to contain %q", err, want)
				}
			}
			if tt.not != "" && strings.Contains(err.Error(), tt.not) {
				t.Errorf("run() = %v: it tells the password", err)
			}
			if took := time.Since(begin); took > 2*patience {
				t.Errorf("it took %v", took)
			}
		})
	}
}
