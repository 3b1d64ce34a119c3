package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
)

// population is how many there are of what is weighed: fewer with -short.
func population(n int) int {
	if testing.Short() {
		return n / 100
	}
	return n
}

// BenchmarkIdleEntities is the memory of 1,000,000 entities that were called
// once, and wait. One operation is all of them.
func BenchmarkIdleEntities(b *testing.B) {
	n := population(1_000_000)
	ids := entityIDs(n)
	for b.Loop() {
		var numbers cruster.Client[*Number]
		svc := start(b, cruster.Config{EntityIdle: -1}, func(s *cruster.Service) { numbers = must(cruster.Register(s, &Number{})) })
		ctx, goroutines, before := b.Context(), runtime.NumGoroutine(), heap()
		for _, id := range ids {
			if _, err := cruster.Call(ctx, numbers.Entity(id), (*Number).Get, Add{1}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(int64(heap()-before))/float64(n), "B/entity")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
		if err := svc.Shutdown(ctx); err != nil {
			b.Fatal(err)
		}
	}
	runtime.KeepAlive(ids)
}

// Sleeper is a workflow that takes a step and sleeps for a day.
type Sleeper struct {
	_ cruster.Workflow `cruster:"sleeper"`
}

// SleepRequest is its request.
type SleepRequest struct{ N int64 }

// Execute takes the step and sleeps.
func (w *Sleeper) Execute(wf *cruster.WorkflowContext, req SleepRequest) (int64, error) {
	n, err := cruster.Do(wf, (*Sleeper).Add, Add(req))
	if err != nil {
		return 0, err
	}
	return n, cruster.Sleep(wf, 24*time.Hour)
}

// Add is its step.
func (w *Sleeper) Add(_ context.Context, a Add) (int64, error) { return a.N + 1, nil }

// BenchmarkAsleepWorkflows is what 100,000 workflows that sleep for a day cost a
// runner on an SQLite file. One operation is all of them.
func BenchmarkAsleepWorkflows(b *testing.B) {
	const starters, watched = 256, 11 * time.Second
	n := population(100_000)
	for b.Loop() {
		store := openStore(b)
		var sleeper cruster.WorkflowClient[SleepRequest, int64]
		svc := start(b, cruster.Config{Storage: store}, func(s *cruster.Service) { sleeper = must(cruster.RegisterWorkflow(s, &Sleeper{})) })
		ctx, goroutines, before, units := b.Context(), runtime.NumGoroutine(), heap(), store.Stats().Units
		began := time.Now()
		var running sync.WaitGroup
		for s := range starters {
			running.Go(func() {
				for i := s; i < n; i += starters {
					if _, err := sleeper.Start(ctx, SleepRequest{int64(i)}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		running.Wait()
		for idle := 0; idle < 3; { // everybody sleeps when nothing is written any more
			time.Sleep(500 * time.Millisecond)
			if now := store.Stats().Units; now == units {
				idle++
			} else {
				units, idle = now, 0
			}
		}
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "starts/s")
		time.Sleep(2 * time.Second) // workers without work end after one
		b.ReportMetric(float64(int64(heap()-before))/float64(n), "B/sleeper")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
		quiet := store.Stats()
		time.Sleep(watched)
		later := store.Stats()
		b.ReportMetric(float64(later.Statements-quiet.Statements)/watched.Seconds(), "statements/s")
		b.ReportMetric(float64(later.Commits-quiet.Commits)/watched.Seconds(), "commits/s")
		if err := svc.Shutdown(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkColdStart is the time from nothing to the first answer on memory
// storage, in this process and as a process of its own.
func BenchmarkColdStart(b *testing.B) {
	b.Run("in-process", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := firstCall(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("process", func(b *testing.B) {
		file := build(b, "./cmd/firstcall")
		for b.Loop() {
			if out, err := exec.Command(file).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
	})
}

func firstCall(ctx context.Context) error {
	svc, err := cruster.New(cruster.Config{Logger: quiet})
	if err != nil {
		return err
	}
	numbers, err := cruster.Register(svc, &Number{})
	if err != nil {
		return err
	}
	if err := svc.Start(ctx); err != nil {
		return err
	}
	if _, err := cruster.Call(ctx, numbers.Entity("1"), (*Number).Get, Add{1}); err != nil {
		return err
	}
	return svc.Shutdown(ctx)
}

// BenchmarkBinarySize is the size of a stripped program that uses cruster with
// SQLite. What is timed is its build.
func BenchmarkBinarySize(b *testing.B) {
	for b.Loop() {
		info, err := os.Stat(build(b, "github.com/cruster-go/cruster/examples/quickstart"))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/1e6, "MB")
	}
}

// build makes a stripped program and returns its file.
func build(b *testing.B, pkg string) string {
	b.Helper()
	file := filepath.Join(b.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return file
}

// TestFootprint checks that the programs which are weighed work.
func TestFootprint(t *testing.T) {
	if err := firstCall(t.Context()); err != nil {
		t.Error(err)
	}
}
