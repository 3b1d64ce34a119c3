package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/transport"
)

// place is an entity that says where it is.
type place struct {
	_ cruster.Entity `cruster:"place"`
	_ cruster.RPC    `cruster:"Visit,persisted"`

	name  string
	mu    sync.Mutex
	seen  map[string]int
	block chan struct{} // Wait returns when it is closed
}

func (p *place) Where(_ context.Context, _ struct{}) (string, error) { return p.name, nil }

func (p *place) Fail(_ context.Context, text string) (string, error) {
	return "", errors.New(text)
}

func (p *place) Visit(ctx context.Context, who string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = make(map[string]int)
	}
	p.seen[cruster.EntityID(ctx)+"/"+who]++
	return who + " at " + p.name, nil
}

// tour is a workflow that visits places.
type tour struct {
	_ cruster.Workflow `cruster:"tour"`
	_ cruster.Activity `cruster:"Pack"`

	places cruster.Client[*place]
}

func (w *tour) Pack(_ context.Context, what string) (string, error) { return "packed " + what, nil }

func (w *tour) Execute(wf *cruster.WorkflowContext, stops int) (int, error) {
	if _, err := cruster.Do(wf, (*tour).Pack, "bag"); err != nil {
		return 0, err
	}
	for i := range stops {
		if _, err := cruster.Call(wf, w.places.Entity(fmt.Sprintf("stop-%d", i)), (*place).Visit, wf.ExecutionID()); err != nil {
			return 0, err
		}
		if err := cruster.Sleep(wf, time.Second); err != nil {
			return 0, err
		}
	}
	return stops, nil
}

// node is one runner of a test's cluster.
type node struct {
	*cruster.Service
	place  *place
	places cruster.Client[*place]
	tours  cruster.WorkflowClient[int, int]
	link   transport.Transport
}

// fleet is a cluster in one process and virtual time.
type fleet struct {
	t     *testing.T
	net   *transport.Network
	store storage.Store
	nodes map[string]*node
}

func newFleet(t *testing.T, names ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, net: transport.NewNetwork(1), store: memory.New(), nodes: make(map[string]*node)}
	for _, name := range names {
		f.start(name)
	}
	return f
}

func (f *fleet) start(name string) *node {
	f.t.Helper()
	n := &node{place: &place{name: name}, link: f.net.Transport(name, transport.Options{})}
	var err error
	n.Service, err = cruster.New(cruster.Config{
		Storage: f.store, Transport: n.link, ShardsPerGroup: 30, AlwaysEncode: true,
		Logger: slog.New(slog.NewTextHandler(f.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if n.places, err = cruster.Register(n.Service, n.place); err != nil {
		f.t.Fatal(err)
	}
	if n.tours, err = cruster.RegisterWorkflow(n.Service, &tour{places: n.places}); err != nil {
		f.t.Fatal(err)
	}
	if err := n.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	f.nodes[name] = n
	return n
}

func (f *fleet) stop(names ...string) {
	f.t.Helper()
	for _, name := range names {
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
		if err := f.nodes[name].Shutdown(ctx); err != nil {
			f.t.Errorf("shutdown of %s: %v", name, err)
		}
		cancel()
	}
}

func TestCallsReachTheOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "a", "b", "c")
		defer f.stop("a", "b", "c")
		time.Sleep(2 * time.Second) // virtual: the shards are spread
		at := make(map[string]int)
		for i := range 60 {
			id := fmt.Sprintf("e-%d", i)
			answers := make(map[string]bool)
			for name, n := range f.nodes {
				where, err := cruster.Call(t.Context(), n.places.Entity(id), (*place).Where, struct{}{})
				if err != nil {
					t.Fatalf("call of %s from %s: %v", id, name, err)
				}
				answers[where] = true
				at[where]++
			}
			if len(answers) != 1 {
				t.Errorf("%s is in several places: %v", id, answers)
			}
		}
		if len(at) != 3 {
			t.Errorf("entities are in %v, want all three", at)
		}
		for name, n := range f.nodes {
			got, err := cruster.Call(t.Context(), n.places.Entity("x"), (*place).Visit, name)
			if err != nil || got[:len(name)] != name {
				t.Errorf("visit from %s: %q, %v", name, got, err)
			}
			_, err = cruster.Call(t.Context(), n.places.Entity("y"), (*place).Fail, "no "+name)
			if err == nil || cruster.Retryable(err) {
				t.Errorf("fail from %s: %v", name, err)
			}
		}
	})
}

func TestWorkflowGoesOnWhenItsOwnerIsKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "a", "b", "c")
		time.Sleep(2 * time.Second) // virtual
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				got, err := f.nodes["a"].tours.WithRawKey(fmt.Sprintf("tour-%d", i)).Execute(t.Context(), 5)
				if err != nil || got != 5 {
					t.Errorf("tour %d: %d, %v", i, got, err)
				}
			})
		}
		time.Sleep(2500 * time.Millisecond) // virtual: in the middle
		f.stop("b")
		wg.Wait()
		f.stop("a", "c")
	})
}
