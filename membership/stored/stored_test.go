package stored_test

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/cruster-go/cruster/membership/membertest"
	"github.com/cruster-go/cruster/membership/stored"
	"github.com/cruster-go/cruster/membership/stored/storedtest"
	"github.com/cruster-go/cruster/storage/memory"
)

var quiet = &stored.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}

func TestContract(t *testing.T) {
	t.Parallel()
	membertest.RunVirtual(t, func(t *testing.T) *membertest.Service {
		store := memory.New()
		t.Cleanup(func() { store.Close() })
		engine := storedtest.Engine{Store: store}
		return &membertest.Service{
			TTL: 10 * time.Second, Late: 300 * time.Millisecond,
			Node: func(*testing.T) *membertest.Node {
				l := &storedtest.Link{Ownership: store}
				return &membertest.Node{Backend: stored.New(l, quiet), Register: engine.Register, Cut: l.Cut, Heal: l.Heal}
			},
			Steal: engine.Steal, Storage: engine,
		}
	})
}
