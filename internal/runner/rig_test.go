package runner

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/mailbox"
	"github.com/cruster-go/cruster/scheduler"
	"github.com/cruster-go/cruster/storage"
)

// do is a handler of these tests: text in, text out.
type do func(ctx context.Context, text string) (string, error)

// echo is a type with one persisted method "Do".
func echo(name string, o mailbox.Options, f do) *EntityType {
	return &EntityType{Name: name, Group: crustertype.DefaultShardGroup, Options: o, Idle: time.Minute, Methods: map[string]*Method{"Do": {
		Name: "Do", Persisted: true, Backoff: scheduler.Policy{Initial: time.Second, Max: time.Second},
		Decode: func(c codec.Codec, payload []byte) (any, error) {
			var s string
			return &s, c.Unmarshal(payload, &s)
		},
		Invoke: func(ctx context.Context, in any) (any, error) { return f(ctx, *in.(*string)) },
	}}}
}

func one(capacity int) mailbox.Options { return mailbox.Options{Capacity: capacity, Concurrency: 1} }

// setUp returns a runner that is not started.
func setUp(t *testing.T, store storage.Store, types ...*EntityType) *Runner {
	t.Helper()
	codecs, err := codec.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	r := New(Config{
		Store: store, Codec: codec.JSON(), Lookup: codecs.Lookup, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		ShardsPerGroup: 4, MaxPayload: 1 << 20, MaxDeliveries: 3, PollInterval: -1, LeaseTTL: 10 * time.Second,
		Redelivery: scheduler.Policy{Kind: scheduler.Exponential, Initial: 100 * time.Millisecond, Max: time.Minute},
		Encode: func(err error) *crustertype.Failure {
			return &crustertype.Failure{Code: crustertype.CodeOf(err), Message: err.Error()}
		},
		Decode: func(f *crustertype.Failure) error { return crustertype.Errorf(f.Code, "%s", f.Message) },
	})
	for _, typ := range types {
		r.Register(typ)
	}
	return r
}

// hold makes a runner that is not started the owner of every shard.
func hold(t *testing.T, r *Runner) {
	t.Helper()
	r.change(func(m tenures) {
		for i := range r.cfg.ShardsPerGroup {
			own := &tenure{lease: crustertype.Lease{Shard: crustertype.Shard{Group: crustertype.DefaultShardGroup, Index: i}, Epoch: 1}}
			own.life, own.endLife = context.WithCancelCause(t.Context())
			own.hard, own.endHard = context.WithCancelCause(t.Context())
			own.open.Store(true)
			m[own.lease.Shard] = own
		}
	})
	for _, typ := range r.types {
		typ.open(nil)
	}
}

// begin starts a runner, and stops it when the test has ended unless it was
// stopped.
func begin(t *testing.T, store storage.Store, types ...*EntityType) *Runner {
	t.Helper()
	r := setUp(t, store, types...)
	start(t, r)
	return r
}

func start(t *testing.T, r *Runner) {
	t.Helper()
	if err := r.Start(t.Context(), context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func halt(t *testing.T, r *Runner) {
	t.Helper()
	if err := haltWithin(r, time.Hour); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}

func haltWithin(r *Runner, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return r.Shutdown(ctx, nil)
}

// message makes a request to "Do".
func (r *Runner) message(typ, id, text string) crustertype.Message {
	payload, _ := codec.JSON().Marshal(text)
	return crustertype.Message{
		ID: crustertype.NewRequestID(), Shard: r.ShardOf(crustertype.DefaultShardGroup, id), Address: crustertype.Address{Type: typ, ID: id},
		Method: "Do", Codec: codec.JSON().Name(), Payload: payload, State: crustertype.MessagePending, CreatedAt: time.Now(),
	}
}

// storeAs stores messages as somebody else than the owner does.
func storeAs(t *testing.T, store storage.Store, msgs ...crustertype.Message) {
	t.Helper()
	if _, err := store.Commit(t.Context(), []storage.Unit{{Accepts: msgs}}); err != nil {
		t.Fatal(err)
	}
}

// post sends a message through the runner and waits until it is durable.
func post(t *testing.T, r *Runner, m crustertype.Message) {
	t.Helper()
	done := make(chan error, 1)
	r.Send(storage.Unit{Accepts: []crustertype.Message{m}}, func(_ storage.Result, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// state returns a message as it is stored.
func state(t *testing.T, store storage.Store, id crustertype.RequestID) crustertype.Message {
	t.Helper()
	m, err := store.Message(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// seen is what handlers have seen, in order.
type seen struct {
	mu   sync.Mutex
	list []string
}

func (s *seen) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, text)
}

func (s *seen) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.list...)
}
