package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the program that is killed.
func TestMain(m *testing.M) {
	if file := os.Getenv("ORDERS_DB"); file != "" {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var crash int
		fmt.Sscan(os.Getenv("ORDERS_CRASH"), &crash)
		if err := run(ctx, os.Stdout, file, "order-42", crash); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process runs the program and reports whether it was killed.
func process(t *testing.T, file string, crashAfter int) (out string, killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "ORDERS_DB="+file, fmt.Sprintf("ORDERS_CRASH=%d", crashAfter))
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return buf.String(), true
	}
	if err != nil {
		t.Fatalf("orders --crash-after %d: %v\n%s", crashAfter, err, buf.String())
	}
	return buf.String(), false
}

const once = "1 in reservations\n1 in payments\n1 in parcels\n1 in confirmations\n"

// TestKillAtEveryPoint kills a real process at every point of the workflow in
// turn; the next process must finish with each effect exactly once.
func TestKillAtEveryPoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	points := 0
	for ; ; points++ {
		if points > 100 {
			t.Fatal("the program still reaches its crash point after 100 of them")
		}
		file := filepath.Join(dir, fmt.Sprintf("%d.db", points))
		out, killed := process(t, file, points+1)
		if !killed {
			if !strings.HasSuffix(out, once) {
				t.Errorf("undisturbed run ended with\n%s\nwant each effect once", out)
			}
			break
		}
		next, killed := process(t, file, 0)
		if killed || !strings.HasSuffix(next, once) {
			t.Errorf("%s\nthe next process (killed: %v) ended with\n%s\nwant each effect once", out, killed, next)
		}
	}
	if points < 12 {
		t.Errorf("the process was killed at %d points, want at least 12", points)
	}
}

// TestKillEveryProcess kills each successive process one point further on, so
// that one execution survives many crashes.
func TestKillEveryProcess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "orders.db")
	for n := 1; n < 100; n++ {
		out, killed := process(t, file, n)
		if killed {
			continue
		}
		if !strings.HasSuffix(out, once) {
			t.Errorf("after %d crashes:\n%s\nwant each effect once", n-1, out)
		}
		return
	}
	t.Error("the execution never finished")
}

func TestSecondRunReplaysNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "orders.db")
	for range 2 {
		var out bytes.Buffer
		if err := run(t.Context(), io.MultiWriter(&out, t.Output()), file, "order-1", 0); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), once) {
			t.Errorf("ended with\n%s\nwant each effect once", out.String())
		}
	}
}
