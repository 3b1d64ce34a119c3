package cruster_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/transport"
)

// client is a service that is no member of the fleet and has no storage.
func (f *fleet) client(seeds ...string) (*cruster.Service, cruster.Client[*place], cruster.WorkflowClient[int, int]) {
	f.t.Helper()
	svc, err := cruster.New(cruster.Config{
		Transport: f.net.Client("client", transport.Options{}), Seeds: seeds, ShardsPerGroup: 30, RouteTimeout: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(f.t.Output(), nil)).With("node", "client"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	places, err := cruster.NewClient[*place](svc)
	if err != nil {
		f.t.Fatal(err)
	}
	tours, err := cruster.NewWorkflowClient[int, int](svc, "tour")
	if err != nil {
		f.t.Fatal(err)
	}
	if err := svc.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return svc, places, tours
}

func TestClientWithoutStorage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "a", "b", "c")
		time.Sleep(2 * time.Second) // virtual: the shards are spread
		svc, places, tours := f.client("nobody", "b")
		defer func() {
			if err := svc.Shutdown(context.WithoutCancel(t.Context())); err != nil {
				t.Errorf("shutdown of the client: %v", err)
			}
		}()
		at := make(map[string]bool)
		for _, id := range strings.Fields("e1 e2 e3 e4 e5 e6 e7 e8 e9") {
			where, err := cruster.Call(t.Context(), places.Entity(id), (*place).Where, struct{}{})
			if err != nil {
				t.Fatal(err)
			}
			at[where] = true
			if got, err := cruster.Call(t.Context(), places.Entity(id), (*place).Visit, "client", cruster.Key("once")); err != nil || got != "client at "+where {
				t.Errorf("visit of %s: %q, %v", id, got, err)
			}
			if err := cruster.Notify(t.Context(), places.Entity(id), (*place).Visit, "note"); err != nil {
				t.Errorf("notify %s: %v", id, err)
			}
		}
		if len(at) != 3 {
			t.Errorf("entities are at %v, want all three", at)
		}
		if got, err := tours.WithRawKey("t1").Execute(t.Context(), 2); err != nil || got != 2 {
			t.Errorf("execute: %d, %v", got, err)
		}
		if got, done, err := tours.Poll(t.Context(), "t1"); err != nil || !done || got != 2 {
			t.Errorf("poll: %d, %v, %v", got, done, err)
		}
		id, err := tours.Start(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if _, done, err := tours.Poll(t.Context(), id); err != nil || done {
			t.Errorf("poll of a running execution: %v, %v", done, err)
		}
		if err := tours.Cancel(t.Context(), id, "enough"); err != nil {
			t.Fatal(err)
		}
		if _, err := tours.Join(t.Context(), id); !errors.Is(err, cruster.ErrCancelled) {
			t.Errorf("join of a cancelled execution: %v", err)
		}

		f.stop("b") // the seed that answered: the others are known
		time.Sleep(3 * time.Second)
		for _, id := range strings.Fields("e1 e2 e3 e4 e5 e6 e7 e8 e9") {
			if _, err := cruster.Call(t.Context(), places.Entity(id), (*place).Visit, "after"); err != nil {
				t.Errorf("visit of %s after a runner left: %v", id, err)
			}
		}
		f.stop("a", "c")
		for name, err := range map[string]error{
			"call": func() error {
				_, err := cruster.Call(t.Context(), places.Entity("e1"), (*place).Visit, "x")
				return err
			}(),
			"notify": cruster.Notify(t.Context(), places.Entity("e1"), (*place).Visit, "x"),
			"start":  func() error { _, err := tours.Start(t.Context(), 1); return err }(),
		} {
			if !errors.Is(err, cruster.ErrUnavailable) || !cruster.Retryable(err) {
				t.Errorf("%s with nobody there: %v, want ErrUnavailable that can be retried", name, err)
			}
		}
	})
}

func TestClientMisuse(t *testing.T) {
	t.Parallel()
	net := transport.NewNetwork(1)
	if _, err := cruster.New(cruster.Config{Seeds: []string{"a"}}); err == nil || !strings.Contains(err.Error(), "Transport") {
		t.Errorf("a client without a transport: %v", err)
	}
	if _, err := cruster.New(cruster.Config{Seeds: []string{"a"}, Transport: net.Client("x", transport.Options{}), Storage: memory.New()}); err == nil || !strings.Contains(err.Error(), "Storage") {
		t.Errorf("a client with a storage: %v", err)
	}
	svc, err := cruster.New(cruster.Config{Seeds: []string{"a"}, Transport: net.Client("x", transport.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cruster.Register(svc, &place{}); err == nil || !strings.Contains(err.Error(), "NewClient") {
		t.Errorf("register with a client: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := svc.Start(ctx); !errors.Is(err, cruster.ErrUnavailable) {
		t.Errorf("start without a runner: %v", err)
	}
}
