package cruster_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/cruster-go/cruster"
)

// Number is the smallest entity: what is measured is the way to it.
type Number struct {
	_ cruster.Entity `cruster:"number"`
	_ cruster.RPC    `cruster:"Put,persisted"`
}

type Add struct{ N int64 }

func (n *Number) Get(_ context.Context, a Add) (int64, error) { return a.N + 1, nil }
func (n *Number) Put(_ context.Context, a Add) (int64, error) { return a.N + 1, nil }

func benchService(b *testing.B) cruster.Client[*Number] {
	svc, err := cruster.New(cruster.Config{Logger: slog.New(slog.DiscardHandler), MailboxCapacity: 1000})
	if err != nil {
		b.Fatal(err)
	}
	numbers, err := cruster.Register(svc, &Number{})
	if err != nil {
		b.Fatal(err)
	}
	if err := svc.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = svc.Shutdown(context.WithoutCancel(b.Context())) })
	return numbers
}

func BenchmarkCallBestEffort(b *testing.B) {
	numbers := benchService(b)
	ctx, ref := b.Context(), numbers.Entity("1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cruster.Call(ctx, ref, (*Number).Get, Add{1}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMutexFloor(b *testing.B) {
	var mu sync.Mutex
	n := &Number{}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		mu.Lock()
		_, err := n.Get(ctx, Add{1})
		mu.Unlock()
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallHotEntity64(b *testing.B) {
	numbers := benchService(b)
	ctx, ref := b.Context(), numbers.Entity("1")
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := cruster.Call(ctx, ref, (*Number).Get, Add{1}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCallPersistedMemory(b *testing.B) {
	numbers := benchService(b)
	ctx, ref := b.Context(), numbers.Entity("1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cruster.Call(ctx, ref, (*Number).Put, Add{1}); err != nil {
			b.Fatal(err)
		}
	}
}
