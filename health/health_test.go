package health_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, h http.Handler) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	return w.Code, w.Body.String()
}

func TestProbes(t *testing.T) {
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	live, ready := health.Livez(svc), health.Readyz(svc)
	if code, body := get(t, ready); code != http.StatusServiceUnavailable || !strings.Contains(body, `"reason":"the service is new"`) {
		t.Errorf("ready before start: %d %s", code, body)
	}
	if code, body := get(t, live); code != http.StatusOK {
		t.Errorf("live before start: %d %s", code, body)
	}
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, ready); code != http.StatusOK || !strings.Contains(body, `"shards":300`) {
		t.Errorf("ready while serving: %d %s", code, body)
	}
	if err := svc.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, _ := get(t, ready); code != http.StatusServiceUnavailable {
		t.Errorf("ready after shutdown: %d", code)
	}
	if code, _ := get(t, live); code != http.StatusServiceUnavailable {
		t.Errorf("live after shutdown: %d", code)
	}
}

func TestAnUnhealthyServiceStaysAlive(t *testing.T) {
	h := source(cruster.Health{State: "serving", Live: true, Reason: "the runner has no lease: it joins the cluster again"})
	if code, body := get(t, health.Readyz(h)); code != http.StatusServiceUnavailable || !strings.Contains(body, "no lease") {
		t.Errorf("ready without a lease: %d %s", code, body)
	}
	if code, body := get(t, health.Livez(h)); code != http.StatusOK {
		t.Errorf("live without a lease: %d %s", code, body)
	}
}

type source cruster.Health

func (s source) Health() cruster.Health { return cruster.Health(s) }

func ExampleReadyz() {
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /livez", health.Livez(svc))
	mux.Handle("GET /readyz", health.Readyz(svc))
}
