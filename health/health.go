// Package health serves a service's health over HTTP, for load balancers and for
// the probes of Kubernetes.
package health

import (
	"encoding/json"
	"net/http"

	"github.com/cruster-go/cruster"
)

// Source is what has a health: a [*cruster.Service].
type Source interface {
	Health() cruster.Health
}

// Livez answers 200 as long as the process should be left alone, and 503 when
// only a restart helps. It depends on neither the database nor the cluster.
func Livez(s Source) http.Handler {
	return handler(s, func(h cruster.Health) bool { return h.Live })
}

// Readyz answers 200 while requests should be sent to the process, else 503. It
// turns to 503 before a shutdown begins to refuse them. Let it not gate the
// discovery of peers: runners that wait for each other never become ready.
func Readyz(s Source) http.Handler {
	return handler(s, func(h cruster.Health) bool { return h.Ready })
}

func handler(s Source, good func(cruster.Health) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := s.Health()
		body, err := json.Marshal(map[string]any{
			"state": h.State, "live": h.Live, "ready": h.Ready, "reason": h.Reason, "stalled_seconds": h.Stalled.Seconds(),
			"incarnation": h.Incarnation, "shards": h.Shards, "entities": h.Entities, "executions": h.Executions,
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !good(h) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write(append(body, '\n')) // the prober is gone
	})
}
