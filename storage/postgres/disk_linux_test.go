package postgres_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage"
)

// TestDiskFull commits until the disk is full. Commits then fail as transient
// ones that certainly have not happened, what was acknowledged is there, leases
// are renewed all the same, and the same commits succeed when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) (f *fixture, code string, fill, free func()){
		"file system":     onSmallDisk,
		"file size limit": underLimit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, code, fill, free := open(t)
			lease := f.own(t, 0)
			unit := func(m crustertype.Message) []storage.Unit {
				return []storage.Unit{{Leases: []crustertype.Lease{lease}, Accepts: []crustertype.Message{m}}}
			}
			var stored []crustertype.Message
			var refused crustertype.Message
			fill()
			for refused.ID.IsZero() {
				m := message()
				m.Payload = make([]byte, 500_000)
				rand.Read(m.Payload) // does not compress
				_, err := f.Commit(t.Context(), unit(m))
				if err == nil {
					if stored = append(stored, m); len(stored) > 1000 {
						t.Fatal("the disk is never full")
					}
					continue
				}
				var tr *storage.TransientError
				var pg *pgconn.PgError
				if !errors.As(err, &tr) || tr.Unknown || !errors.As(err, &pg) || code != "" && pg.Code != code {
					t.Fatalf("Commit on a full disk = %v (%+v), want a transient error %s that has certainly not happened", err, pg, code)
				}
				refused = m
			}
			t.Logf("%d messages until the disk was full", len(stored))
			if err := f.Renew(t.Context(), lease.Owner, false, time.Hour); err != nil {
				t.Errorf("Renew on a full disk = %v", err)
			}
			if _, err := f.Commit(t.Context(), unit(refused)); !storage.IsTransient(err) {
				t.Errorf("the second try on a full disk = %v, want a transient error", err)
			}
			if _, err := f.Message(t.Context(), refused.ID); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("the message whose commit failed: %v, want ErrNotFound", err)
			}
			free()
			if res, err := f.Commit(t.Context(), unit(refused)); err != nil || res[0].Accepts != nil {
				t.Errorf("Commit when there is room again = %+v, %v, want a new row", res, err)
			}
			for _, m := range append(stored, refused) {
				got, err := f.Message(t.Context(), m.ID)
				if err != nil || string(got.Payload) != string(m.Payload) {
					t.Errorf("message %s: %v, or another payload: an acknowledged commit is lost", m.ID, err)
				}
			}
		})
	}
}

// onSmallDisk puts a database on a file system of 48 MB. Making one needs
// privileges that containers often lack.
func onSmallDisk(t *testing.T) (f *fixture, code string, fill, free func()) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root; the other case needs nothing")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m,mode=777"); err != nil {
		t.Skipf("mounting a file system: %v; the other case needs nothing", err)
	}
	t.Cleanup(func() { // the server has ended by then
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	space := filepath.Join(dir, "space")
	if err := os.Mkdir(space, 0o777); err != nil {
		t.Fatal(err)
	}
	for path := dir; path != "/" && path != os.TempDir(); path = filepath.Dir(path) { // the server runs as somebody else
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	server := testdb.StartServer(t, testdb.Config{})
	admin := testdb.Pool(t, server.URL())
	var data string
	if err := admin.QueryRow(t.Context(), "SHOW data_directory").Scan(&data); err != nil {
		t.Fatal(err)
	}
	// A tablespace has to belong to who runs the server.
	if out, err := exec.Command("chown", "--reference="+data, space).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, sql := range []string{"CREATE TABLESPACE small LOCATION '" + space + "'", "CREATE DATABASE small TABLESPACE small"} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	f = &fixture{dsn: strings.Replace(server.URL(), "/postgres?", "/small?", 1), schema: "cruster"}
	f.Store, f.pool = f.open(t)
	ballast := filepath.Join(dir, "ballast")
	fill = func() {
		file, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for chunk := make([]byte, 1<<16); err == nil; {
			_, err = file.Write(chunk)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	free = func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	return f, "53100", fill, free
}

// underLimit lets no file of a server grow beyond 16 MB, the size of a segment
// of its write-ahead log. To a table that is what a full disk is.
func underLimit(t *testing.T) (f *fixture, code string, fill, free func()) {
	server := testdb.StartServer(t, testdb.Config{})
	f = &fixture{dsn: server.URL(), schema: "cruster"}
	f.Store, f.pool = f.open(t)
	limit := func(soft string) {
		t.Helper()
		for range 2 { // again for those that were started meanwhile, as the first would have it
			var set strings.Builder
			for _, pid := range serverProcesses(t, f) {
				fmt.Fprintf(&set, "prlimit --fsize=%s: --pid %d || test ! -d /proc/%d || exit 1; ", soft, pid, pid)
			}
			// The server runs the program, as the user whose processes they are.
			f.exec(t, "COPY (SELECT 1) TO PROGRAM '"+set.String()+"cat >/dev/null'")
		}
	}
	return f, "", func() { limit("16777216") }, func() { limit("unlimited") }
}

// serverProcesses returns the processes of the fixture's server: the one that
// starts the others first, so that new ones inherit what it is given.
func serverProcesses(t *testing.T, f *fixture) []int {
	t.Helper()
	backend := int(f.number(t, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol))
	parent := parentOf(backend)
	if parent <= 1 {
		t.Fatalf("process %d of the server has no parent", backend)
	}
	pids := []int{parent}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && parentOf(pid) == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf returns a process's parent, 0 when there is no such process.
func parentOf(pid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}
