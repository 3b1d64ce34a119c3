package bench

import (
	"context"
	"log/slog"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
)

var quiet = slog.New(slog.DiscardHandler)

// start makes a service, lets register fill it, and starts it.
func start(b testing.TB, cfg cruster.Config, register func(*cruster.Service)) *cruster.Service {
	b.Helper()
	cfg.Logger = quiet
	svc, err := cruster.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	register(svc)
	if err := svc.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.Context()), time.Minute)
		defer cancel()
		if err := svc.Shutdown(ctx); err != nil {
			b.Error(err)
		}
	})
	return svc
}

// must returns v, or ends the benchmark.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// loop runs op b.N times from so many callers at a time; op gets the caller's
// number and how often that caller was there before. On a machine with more
// processors than callers there is one caller for each processor.
func loop(b *testing.B, callers int, op func(caller, i int) error) {
	b.Helper()
	b.ReportAllocs()
	if callers == 1 {
		i := 0
		for b.Loop() {
			if err := op(0, i); err != nil {
				b.Fatal(err)
			}
			i++
		}
		return
	}
	b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
	var next atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		caller := int(next.Add(1) - 1)
		for i := 0; pb.Next(); i++ {
			if err := op(caller, i); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// eachCallers runs f with one caller and with many.
func eachCallers(b *testing.B, f func(b *testing.B, callers int)) {
	for _, n := range []int{1, 64} {
		b.Run("callers="+strconv.Itoa(n), func(b *testing.B) { f(b, n) })
	}
}

// entityIDs returns n IDs.
func entityIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = "entity-" + strconv.Itoa(i)
	}
	return ids
}

// heap returns what is in use after a collection: objects and stacks.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
