package replay_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
)

// steps is a workflow of n activities that do nothing.
func steps(n int) code {
	payload, _ := codec.Msgpack().Marshal("ok")
	return func(r *replay.Run) (string, error) {
		for i := range n {
			_, err := r.Do(replay.Call{Kind: crustertype.StepActivity, Name: "A", In: i, Fn: func(*invoke.Context, []byte) (crustertype.Outcome, error) {
				return crustertype.Outcome{Codec: "msgpack", Payload: payload}, nil
			}})
			if err != nil {
				return "", err
			}
		}
		return "", nil
	}
}

// BenchmarkRun starts workflows of some steps on memory storage and waits for
// their ends.
func BenchmarkRun(b *testing.B) {
	for _, n := range []int{1, 3, 10} {
		b.Run(fmt.Sprintf("steps=%d", n), func(b *testing.B) {
			r := newWorld(b).start(map[string]code{"w": steps(n)})
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				if _, err := r.Wait(b.Context(), r.begin("w", fmt.Sprint(i))); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(r.commit.Flushes())/float64(i), "commits/op")
		})
		b.Run(fmt.Sprintf("steps=%d/callers=64", n), func(b *testing.B) {
			r := newWorld(b).start(map[string]code{"w": steps(n)})
			b.ReportAllocs()
			b.SetParallelism(64)
			var i atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := r.Wait(context.WithoutCancel(b.Context()), r.begin("w", fmt.Sprint(i.Add(1)))); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(r.commit.Flushes())/float64(i.Load()), "commits/op")
		})
	}
}

// BenchmarkRecover loads and replays a thousand workflows of ten recorded steps.
func BenchmarkRecover(b *testing.B) {
	const runs = 1000
	w := newWorld(b)
	arrived := make(chan struct{}, runs)
	defs := map[string]code{"w": func(r *replay.Run) (string, error) {
		if _, err := steps(10)(r); err != nil {
			return "", err
		}
		return do(r, act("Wait", nil, func(ctx context.Context) (string, error) {
			arrived <- struct{}{}
			<-ctx.Done()
			return "", ctx.Err()
		}))
	}}
	r := w.start(defs)
	for i := range runs {
		r.begin("w", fmt.Sprint(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		for range runs {
			<-arrived
		}
		if err := r.Drain(b.Context()); err != nil {
			b.Fatal(err)
		}
		r.kill()
		r = w.start(defs)
	}
	for range runs {
		<-arrived
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/runs, "µs/run")
}
