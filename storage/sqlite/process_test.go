package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// childEnv names the file that the test binary, run again, works on.
const childEnv = "CRUSTER_SQLITE_TEST_FILE"

// runChild does the work of a second process and reports whether this is one.
// It opens the file, commits one message after the other, and prints the ID of
// each when it has been acknowledged.
func runChild() bool {
	path := os.Getenv(childEnv)
	if path == "" {
		return false
	}
	s, err := sqlite.Open(path, nil)
	if err != nil {
		fmt.Println("error", err)
		return true
	}
	ctx := context.Background()
	fmt.Println("open")
	for {
		m := message()
		if _, err := s.Commit(ctx, []storage.Unit{{Accepts: []crustertype.Message{m}}}); err != nil {
			fmt.Println("error", err)
			return true
		}
		if _, err := fmt.Println("id", m.ID); err != nil {
			return true
		}
	}
}

func message() crustertype.Message {
	return crustertype.Message{
		ID: crustertype.NewRequestID(), Shard: crustertype.Shard{Group: "default", Index: 3},
		Address: crustertype.Address{Type: "counter", ID: "1"}, Method: "Add", Codec: "json", Payload: []byte(`{"n":1}`),
		State: crustertype.MessagePending, CreatedAt: time.Now(),
	}
}

// child is a second process that has the file open.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// startChild runs the test binary again. It is killed at the end of the test.
func startChild(t *testing.T, path string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.CommandContext(t.Context(), exe, "-test.run=^$")}
	c.cmd.Env = append(os.Environ(), childEnv+"="+path)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	return c
}

func (c *child) line(t *testing.T) string {
	t.Helper()
	if !c.lines.Scan() {
		t.Fatalf("the other process ended: %v", c.lines.Err())
	}
	return c.lines.Text()
}

// kill ends the process as a power switch would, and returns what it still
// printed.
func (c *child) kill(t *testing.T) (rest []string) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for c.lines.Scan() {
		rest = append(rest, c.lines.Text())
	}
	_ = c.cmd.Wait() // it was killed
	return rest
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cruster.db")
	acknowledged := 0
	for round := range 3 {
		c := startChild(t, path)
		if got := c.line(t); got != "open" {
			t.Fatalf("the other process says %q", got)
		}
		var lines []string
		for range 20 * (round + 1) {
			lines = append(lines, c.line(t))
		}
		lines = append(lines, c.kill(t)...)
		s := open(t, path, nil) // the lock of the killed process is free
		for _, l := range lines {
			var text string
			if _, err := fmt.Sscanf(l, "id %s", &text); err != nil {
				t.Fatalf("the other process says %q", l)
			}
			id, err := crustertype.ParseRequestID(text)
			if err != nil {
				continue // cut off while it was printed
			}
			acknowledged++
			if _, err := s.Message(t.Context(), id); err != nil {
				t.Errorf("message %s was acknowledged but Message() = %v", id, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged commits", acknowledged)
}

func TestSecondProcessIsKeptOut(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cruster.db")
	c := startChild(t, path)
	if got := c.line(t); got != "open" {
		t.Fatalf("the other process says %q", got)
	}
	_, err := sqlite.Open(path, nil)
	want := fmt.Sprintf("process %d", c.cmd.Process.Pid)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path+".lock") {
		t.Errorf("Open of a file that another process uses = %v, want an error that names %q and the lock", err, want)
	}
	c.kill(t)
	open(t, path, nil)
}

func TestSecondStoreIsKeptOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cruster.db")
	link, dirLink := filepath.Join(dir, "link.db"), filepath.Join(t.TempDir(), "dir")
	if err := os.Symlink("cruster.db", link); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if err := os.Symlink(dir, dirLink); err != nil {
		t.Fatal(err)
	}
	s := open(t, link, nil) // the file does not exist yet
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(wd, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link, relative, filepath.Join(dirLink, "cruster.db"), dir + "/./cruster.db"} {
		if again, err := sqlite.Open(name, nil); err == nil || !strings.Contains(err.Error(), "this process") {
			t.Errorf("a second Open by the name %q = %v, %v, want an error", name, again, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, nil)
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, want := range map[string]string{
		"":                                 "path is empty",
		dir:                                "is a folder",
		filepath.Join(dir, "none", "a.db"): "does not exist",
		filepath.Join(dir, "loop"):         "symbolic links",
		filepath.Join(dir, "text.db"):      "not a SQLite database",
		filepath.Join(dir, "short"):        "not a SQLite database",
	} {
		switch filepath.Base(path) {
		case "loop":
			if err := os.Symlink("loop", path); err != nil {
				t.Fatal(err)
			}
		case "text.db":
			write(t, path, strings.Repeat("this is not a database\n", 1000))
		case "short":
			write(t, path, "x")
		}
		if _, err := sqlite.Open(path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q) = %v, want an error with %q", path, err, want)
		}
	}
	for _, o := range []sqlite.Options{{Synchronous: 7}, {Readers: -1}} {
		if _, err := sqlite.Open(filepath.Join(dir, "x.db"), &o); err == nil {
			t.Errorf("Open with %+v succeeded", o)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
