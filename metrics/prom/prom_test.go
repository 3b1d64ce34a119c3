package prom_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/metrics/prom"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type door struct {
	_ cruster.Entity `cruster:"door"`
	_ cruster.RPC    `cruster:"Lock,persisted"`
}

func (*door) Knock(_ context.Context, who string) (string, error) {
	if who == "" {
		return "", errors.New("nobody is there")
	}
	return "hello " + who, nil
}

func (*door) Lock(_ context.Context, _ struct{}) (bool, error) { return true, nil }

func TestMetricsOfAService(t *testing.T) {
	m := prom.New("app")
	svc, err := cruster.New(cruster.Config{Observer: m})
	if err != nil {
		t.Fatal(err)
	}
	doors, err := cruster.Register(svc, &door{})
	if err != nil {
		t.Fatal(err)
	}
	m.Follow(svc)
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"a", "b", ""} {
		_, err := cruster.Call(t.Context(), doors.Entity("front"), (*door).Knock, who)
		if (err != nil) != (who == "") {
			t.Errorf("knock of %q: %v", who, err)
		}
	}
	if _, err := cruster.Call(t.Context(), doors.Entity("front"), (*door).Lock, struct{}{}); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, s := range f.GetMetric() {
			name := f.GetName()
			for _, l := range s.GetLabel() {
				if l.GetName() == "method" || l.GetName() == "outcome" {
					name += "/" + l.GetValue()
				}
			}
			got[name] = s.GetGauge().GetValue() + s.GetCounter().GetValue() + float64(s.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"app_handler_seconds/Knock/ok": 2, "app_handler_seconds/Knock/user": 1, "app_handler_seconds/Lock/ok": 1, "app_ready": 1, "app_shards": 300,
		"app_entities": 1, "app_committed_units_total": 2, "app_storage_stalled_seconds": 0,
	} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if err := svc.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func Example() {
	m := prom.New("shop")
	svc, err := cruster.New(cruster.Config{Observer: m})
	if err != nil {
		panic(err)
	}
	m.Follow(svc)
	reg := prometheus.NewRegistry()
	reg.MustRegister(m)
	n, err := testutil.GatherAndCount(reg, "shop_ready")
	fmt.Println(n, err)
	// Output: 1 <nil>
}
