package handler_test

import (
	"testing"

	"github.com/cruster-go/cruster/internal/handler"
)

func BenchmarkByPointer(b *testing.B) {
	e := scanEntity(b, newCounter())
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := e.ByPointer(handler.PointerOf((*Counter).Add)); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkByPointerParallel(b *testing.B) {
	e := scanEntity(b, newCounter())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := e.ByPointer(handler.PointerOf((*Counter).Log)); !ok {
				b.Error("not found")
			}
		}
	})
}

func BenchmarkByName(b *testing.B) {
	e := scanEntity(b, newCounter())
	name := "Reset"
	for b.Loop() {
		if _, ok := e.ByName(name); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkInvoke(b *testing.B) {
	e := scanEntity(b, newCounter())
	add, _ := e.ByName("Add")
	reset, _ := e.ByName("Reset")
	list, _ := e.ByName("List")
	ctx := b.Context()
	in := &AddRequest{Amount: 1}
	run := func(b *testing.B) {
		b.Run("unary", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := add.Invoke(ctx, in); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("error-only", func(b *testing.B) {
			empty := &Empty{}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := reset.Invoke(ctx, empty); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("stream of 100", func(b *testing.B) {
			in := &AddRequest{Amount: 100}
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for range list.InvokeStream(ctx, in) {
					n++
				}
				if n != 101 {
					b.Fatal(n)
				}
			}
		})
	}
	b.Run("reflect", run)
	handler.Specialize(add, (*Counter).Add)
	handler.SpecializeErr(reset, (*Counter).Reset)
	handler.SpecializeStream(list, (*Counter).List)
	b.Run("typed", run)
}

func BenchmarkScanEntity(b *testing.B) {
	c := newCounter()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := handler.ScanEntity(c, markers); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResolveGroup(b *testing.B) {
	w := scanWorkflow(b, &OrderWorkflow{})
	for b.Loop() {
		if _, err := w.ByGroupPointer(handler.PointerOf((*Inventory).Reserve)); err != nil {
			b.Fatal(err)
		}
	}
}
