package postgres_test

import (
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/membership/membertest"
	memberpg "github.com/cruster-go/cruster/membership/postgres"
	"github.com/cruster-go/cruster/membership/stored"
	"github.com/cruster-go/cruster/membership/stored/storedtest"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/storage/postgres"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestMain(m *testing.M) { os.Exit(testdb.Main(m, func() error { return goleak.Find() })) }

func open(t *testing.T, dsn, schema string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, &postgres.Options{Schema: schema, AutoMigrate: true, Logger: quiet, EngineConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for leases in real time")
	}
	t.Parallel()
	membertest.Run(t, func(t *testing.T) *membertest.Service {
		dsn, schema := testdb.URL(t), testdb.Schema(t)
		engine := storedtest.Engine{Store: open(t, dsn, schema)}
		return &membertest.Service{
			TTL: 4 * time.Second, Late: 5 * time.Second,
			Node: func(t *testing.T) *membertest.Node {
				l := &storedtest.Link{Ownership: open(t, dsn, schema)}
				own := storedtest.Engine{Store: l.Ownership}
				return &membertest.Node{
					Backend: stored.New(l, &memberpg.Options{Logger: quiet}), Register: own.Register, Cut: l.Cut, Heal: l.Heal,
				}
			},
			Steal: engine.Steal, Storage: engine,
		}
	})
}

func TestNewRefusesOtherStores(t *testing.T) {
	t.Parallel()
	store := memory.New()
	defer store.Close()
	if _, err := memberpg.New(store, nil); err == nil {
		t.Error("New over a memory store succeeds")
	}
	if _, err := memberpg.New(nil, nil); err == nil {
		t.Error("New without a store succeeds")
	}
	if _, err := memberpg.New(open(t, testdb.URL(t), testdb.Schema(t)), nil); err != nil {
		t.Errorf("New over PostgreSQL = %v", err)
	}
}
