package bench

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/cruster-go/cruster"
)

// Number is the smallest entity: what is measured is the way to it.
type Number struct {
	_ cruster.Entity `cruster:"number,mailbox=1000"`
}

// Add is its request.
type Add struct{ N int64 }

// Get is its method.
func (n *Number) Get(_ context.Context, a Add) (int64, error) { return a.N + 1, nil }

// local is one way to call one method of entities that have IDs. Each caller
// makes its own function.
type local struct {
	name string
	open func(b testing.TB, ids []string) func() (call func(ctx context.Context, id string) (int64, error))
}

var locals = []local{
	{"mutex", openMutex},
	{"channel", openChannel},
	{"protoactor", openProtoActor},
	{"cruster", openCruster},
}

func benchmarkLocal(b *testing.B, callers, entities int) {
	ids := entityIDs(entities)
	for _, l := range locals {
		b.Run(l.name, func(b *testing.B) {
			open := l.open(b, ids)
			calls := make([]func(context.Context, string) (int64, error), max(callers, 1024))
			for i := range calls {
				calls[i] = open()
			}
			ctx := b.Context()
			loop(b, callers, func(caller, i int) error {
				_, err := calls[caller](ctx, ids[(caller*16+i)%len(ids)])
				return err
			})
		})
	}
}

// BenchmarkLocalOneCaller is one caller that calls one entity.
func BenchmarkLocalOneCaller(b *testing.B) { benchmarkLocal(b, 1, 1) }

// BenchmarkLocalSpread is 64 callers over 1,000 entities.
func BenchmarkLocalSpread(b *testing.B) { benchmarkLocal(b, 64, 1000) }

// BenchmarkLocalHot is 64 callers at one entity.
func BenchmarkLocalHot(b *testing.B) { benchmarkLocal(b, 64, 1) }

// openMutex is the floor: find the entity, lock it, call the method.
func openMutex(testing.TB, []string) func() func(context.Context, string) (int64, error) {
	type guarded struct {
		sync.Mutex
		Number
	}
	var mu sync.Mutex
	var all sync.Map
	find := func(id string) *guarded {
		if g, ok := all.Load(id); ok {
			return g.(*guarded)
		}
		mu.Lock()
		defer mu.Unlock()
		g, _ := all.LoadOrStore(id, new(guarded))
		return g.(*guarded)
	}
	return func() func(context.Context, string) (int64, error) {
		return func(ctx context.Context, id string) (int64, error) {
			g := find(id)
			g.Lock()
			defer g.Unlock()
			return g.Get(ctx, Add{1})
		}
	}
}

// openChannel is a goroutine and a channel for each entity.
func openChannel(b testing.TB, ids []string) func() func(context.Context, string) (int64, error) {
	type reply struct {
		v   int64
		err error
	}
	type request struct {
		ctx   context.Context
		add   Add
		reply chan reply
	}
	all := make(map[string]chan request, len(ids))
	var running sync.WaitGroup
	for _, id := range ids {
		ch := make(chan request, 1000)
		all[id] = ch
		running.Go(func() {
			var n Number
			for r := range ch {
				v, err := n.Get(r.ctx, r.add)
				r.reply <- reply{v, err}
			}
		})
	}
	b.Cleanup(func() {
		for _, ch := range all {
			close(ch)
		}
		running.Wait()
	})
	return func() func(context.Context, string) (int64, error) {
		mine := make(chan reply, 1)
		return func(ctx context.Context, id string) (int64, error) {
			all[id] <- request{ctx, Add{1}, mine}
			r := <-mine
			return r.v, r.err
		}
	}
}

// openProtoActor asks actors; a timeout below zero is the cheapest way, since it
// sets no timer.
func openProtoActor(b testing.TB, ids []string) func() func(context.Context, string) (int64, error) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }))
	b.Cleanup(system.Shutdown)
	all := make(map[string]*actor.PID, len(ids))
	for _, id := range ids {
		var n Number
		pid, err := system.Root.SpawnNamed(actor.PropsFromFunc(func(c actor.Context) {
			if add, ok := c.Message().(*Add); ok {
				v, err := n.Get(context.Background(), *add)
				if err != nil {
					c.Respond(err)
					return
				}
				c.Respond(v)
			}
		}), id)
		if err != nil {
			b.Fatal(err)
		}
		all[id] = pid
	}
	return func() func(context.Context, string) (int64, error) {
		return func(_ context.Context, id string) (int64, error) {
			v, err := system.Root.RequestFuture(all[id], &Add{1}, -1).Result()
			if err != nil {
				return 0, err
			}
			return v.(int64), nil
		}
	}
}

func openCruster(b testing.TB, _ []string) func() func(context.Context, string) (int64, error) {
	var numbers cruster.Client[*Number]
	start(b, cruster.Config{}, func(s *cruster.Service) { numbers = must(cruster.Register(s, &Number{})) })
	return func() func(context.Context, string) (int64, error) {
		return func(ctx context.Context, id string) (int64, error) {
			return cruster.Call(ctx, numbers.Entity(id), (*Number).Get, Add{1})
		}
	}
}

// TestLocal checks that every way to call gives the answer, so that none is fast
// because it does nothing.
func TestLocal(t *testing.T) {
	ids := entityIDs(3)
	for _, l := range locals {
		call := l.open(t, ids)()
		for _, id := range ids {
			if v, err := call(t.Context(), id); v != 2 || err != nil {
				t.Errorf("%s: Get = %d, %v, want 2", l.name, v, err)
			}
		}
	}
}
