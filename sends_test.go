package cruster_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// refusing is a store that takes no messages while on is set.
type refusing struct {
	storage.Store
	on atomic.Bool
}

func (r *refusing) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	for i, u := range units {
		if r.on.Load() && len(u.Accepts) > 0 {
			return nil, &storage.UnitError{Index: i, Err: errors.New("full")}
		}
	}
	return r.Store.Commit(ctx, units)
}

// relayer passes things on, best effort.
type relayer struct {
	_ cruster.Entity `cruster:"relayer"`
	_ cruster.RPC    `cruster:"Keep,persisted"`

	self cruster.Client[*relayer]
	runs atomic.Int32
}

func (r *relayer) Pass(ctx context.Context, to string) (string, error) {
	r.runs.Add(1)
	return to, cruster.Notify(ctx, r.self.Entity(to), (*relayer).Keep, "x")
}

func (*relayer) Keep(context.Context, string) (string, error) { return "", nil }

// A best-effort handler whose sends cannot be stored has run all the same: its
// caller must not be told to try again.
func TestRefusedSendsOfABestEffortHandler(t *testing.T) {
	t.Parallel()
	for name, encode := range map[string]bool{"direct": false, "encoded": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &refusing{Store: memory.New()}
			svc, err := cruster.New(cruster.Config{Storage: store, AlwaysEncode: encode})
			if err != nil {
				t.Fatal(err)
			}
			r := &relayer{}
			if r.self, err = cruster.Register(svc, r); err != nil {
				t.Fatal(err)
			}
			if err := svc.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			store.on.Store(true)
			_, err = cruster.Call(t.Context(), r.self.Entity("a"), (*relayer).Pass, "b")
			if err == nil || cruster.Retryable(err) || !cruster.MaybeExecuted(err) || r.runs.Load() != 1 {
				t.Errorf("err %v, retryable %v, maybe executed %v, %d runs", err, cruster.Retryable(err), cruster.MaybeExecuted(err), r.runs.Load())
			}
			if err := svc.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
