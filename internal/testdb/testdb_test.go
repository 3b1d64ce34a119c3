package testdb_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/internal/testdb"
)

// envVictim makes the test binary start a server, say where, and wait to be
// killed.
const envVictim = "TESTDB_VICTIM"

func TestMain(m *testing.M) { os.Exit(testdb.Main(m, func() error { return goleak.Find() })) }

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			pool := testdb.Pool(t, testdb.Database(t))
			if _, err := pool.Exec(t.Context(), "CREATE TABLE public.only_here ()"); err != nil {
				t.Errorf("the database is not empty: %v", err)
			}
		})
	}
}

func TestSchemaIsDroppedAtTheEnd(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("inner", func(t *testing.T) {
		name = testdb.Schema(t)
		pool := testdb.Pool(t, testdb.URL(t))
		if _, err := pool.Exec(t.Context(), "CREATE SCHEMA "+pgx.Identifier{name}.Sanitize()); err != nil {
			t.Fatal(err)
		}
	})
	var n int
	err := testdb.Pool(t, testdb.URL(t)).QueryRow(t.Context(), "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1", name).Scan(&n)
	if err != nil || n != 0 {
		t.Errorf("schema %q: %d left, error %v, want none", name, n, err)
	}
}

func TestStoppedServerStartsAgainWithItsData(t *testing.T) {
	t.Parallel()
	s := testdb.StartServer(t, testdb.Config{Fsync: true})
	pool := testdb.Pool(t, s.URL())
	if _, err := pool.Exec(t.Context(), "CREATE TABLE public.kept AS SELECT 7 AS n"); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	if err := pool.Ping(t.Context()); err == nil {
		t.Error("a stopped server answers")
	}
	s.Start(t)
	var n int
	if err := testdb.Pool(t, s.URL()).QueryRow(t.Context(), "SELECT n FROM public.kept").Scan(&n); err != nil || n != 7 {
		t.Errorf("after the restart: %d, %v, want 7: a commit was lost", n, err)
	}
}

// TestKilledTestLeavesNoServer kills a test binary with SIGKILL.
func TestKilledTestLeavesNoServer(t *testing.T) {
	if os.Getenv(envVictim) != "" {
		s := testdb.StartServer(t, testdb.Config{})
		fmt.Println("victim", s.URL())
		<-t.Context().Done() // never: this process is killed
		return
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledTestLeavesNoServer$")
	cmd.Env = append(os.Environ(), envVictim+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dsn string
	for lines := bufio.NewScanner(out); dsn == "" && lines.Scan(); {
		dsn, _ = strings.CutPrefix(lines.Text(), "victim ")
		if !strings.HasPrefix(dsn, "postgres://") {
			dsn = ""
		}
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatalf("the victim's server does not answer: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the victim ended by itself")
	}
	// The server closes the connection when the watchdog stops it.
	_, err = conn.WaitForNotification(t.Context())
	if err == nil {
		t.Fatal("the connection is still there")
	}
	conn.Close(t.Context())
	if conn, err := pgx.ConnectConfig(t.Context(), cfg); err == nil {
		conn.Close(t.Context())
		t.Error("the server of a killed test still takes connections")
	}
}
