// Package prom exports a service's metrics to Prometheus.
//
//	m := prom.New("cruster")
//	svc, err := cruster.New(cruster.Config{Observer: m, ...})
//	m.Follow(svc)
//	prometheus.MustRegister(m)
//
// Labels are types, methods and outcomes: never entity IDs, keys or payloads.
package prom

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/observe"
)

// Source is what has a health: a [*cruster.Service].
type Source interface {
	Health() cruster.Health
}

// Metrics is an [observe.Observer] and a [prometheus.Collector]. It may be used
// concurrently, and by one service.
type Metrics struct {
	handled   *prometheus.HistogramVec
	flushed   prometheus.Histogram
	units     prometheus.Counter
	routed    *prometheus.HistogramVec
	shards    *prometheus.CounterVec
	members   *prometheus.CounterVec
	detached  prometheus.Counter
	dead      *prometheus.CounterVec
	dropped   *prometheus.CounterVec
	all       []prometheus.Collector
	source    atomic.Pointer[Source]
	ready     *prometheus.Desc
	owned     *prometheus.Desc
	entities  *prometheus.Desc
	workflows *prometheus.Desc
	stalled   *prometheus.Desc
}

var (
	_ observe.Observer     = (*Metrics)(nil)
	_ prometheus.Collector = (*Metrics)(nil)
)

// seconds are the buckets of durations: 50 µs to 13 s.
var seconds = prometheus.ExponentialBuckets(50e-6, 4, 10)

// New returns metrics whose names begin with namespace and an underscore.
func New(namespace string) *Metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: namespace, Name: name, Help: help}
	}
	histogram := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: seconds}
	}
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, nil, nil)
	}
	m := &Metrics{
		handled: prometheus.NewHistogramVec(histogram("handler_seconds", "Time that handlers and attempts of activities took."),
			[]string{"type", "method", "kind", "outcome"}),
		flushed: prometheus.NewHistogram(histogram("commit_seconds", "Time that shared commits took.")),
		units:   prometheus.NewCounter(prometheus.CounterOpts(opts("committed_units_total", "Units that were written by shared commits."))),
		routed: prometheus.NewHistogramVec(histogram("routed_seconds", "Time from the search for a shard's owner to its answer."),
			[]string{"outcome"}),
		shards:    prometheus.NewCounterVec(prometheus.CounterOpts(opts("shards_total", "What happened to shards.")), []string{"event"}),
		members:   prometheus.NewCounterVec(prometheus.CounterOpts(opts("members_total", "What happened to other runners.")), []string{"event"}),
		detached:  prometheus.NewCounter(prometheus.CounterOpts(opts("detached_total", "How often the runner lost its lease."))),
		dead:      prometheus.NewCounterVec(prometheus.CounterOpts(opts("dead_letters_total", "Requests that were given up.")), []string{"type", "method"}),
		dropped:   prometheus.NewCounterVec(prometheus.CounterOpts(opts("notifications_dropped_total", "Notifications of handlers whose key was used with another body at the same time.")), []string{"type", "method"}),
		ready:     gauge("ready", "1 while requests should be sent to the runner."),
		owned:     gauge("shards", "Shards that the runner serves."),
		entities:  gauge("entities", "Entities in memory."),
		workflows: gauge("executions", "Workflow runs in memory."),
		stalled:   gauge("storage_stalled_seconds", "For how long storage has not answered commits that wait."),
	}
	m.all = []prometheus.Collector{m.handled, m.flushed, m.units, m.routed, m.shards, m.members, m.detached, m.dead, m.dropped}
	return m
}

// Follow makes the gauges show the health of s. Without it there are none.
func (m *Metrics) Follow(s Source) { m.source.Store(&s) }

// Observe counts an event.
func (m *Metrics) Observe(e observe.Event) {
	switch e := e.(type) {
	case observe.Handled:
		m.handled.WithLabelValues(e.Type, e.Method, e.Kind.String(), outcome(e.OK, e.Code)).Observe(e.Took.Seconds())
	case observe.CommitFlushed:
		m.flushed.Observe(e.Took.Seconds())
		m.units.Add(float64(e.Units))
	case observe.CallRouted:
		m.routed.WithLabelValues(outcome(e.OK, e.Code)).Observe(e.Took.Seconds())
	case observe.ShardsAcquired:
		m.count("acquired", len(e.Shards))
	case observe.ShardsTakenOver:
		m.count("taken_over", len(e.Shards))
	case observe.ShardsMoved:
		m.count("moved", len(e.Shards))
	case observe.ShardsLost:
		m.count("lost", len(e.Shards))
	case observe.ShardsFenced:
		m.count("fenced", len(e.Shards))
	case observe.MemberJoined:
		m.members.WithLabelValues("joined").Inc()
	case observe.MemberLeft:
		m.members.WithLabelValues("left").Inc()
	case observe.MemberSuspected:
		m.members.WithLabelValues("suspected").Inc()
	case observe.Detached:
		m.detached.Inc()
	case observe.DeadLettered:
		m.dead.WithLabelValues(e.Type, e.Method).Inc()
	case observe.NotificationDropped:
		m.dropped.WithLabelValues(e.Type, e.Method).Inc()
	}
}

func (m *Metrics) count(event string, n int) { m.shards.WithLabelValues(event).Add(float64(n)) }

func outcome(ok bool, code interface{ String() string }) string {
	if ok {
		return "ok"
	}
	return code.String()
}

// Describe describes the metrics.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{m.ready, m.owned, m.entities, m.workflows, m.stalled} {
		ch <- d
	}
}

// Collect sends the metrics as they are now.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(ch)
	}
	s := m.source.Load()
	if s == nil {
		return
	}
	h := (*s).Health()
	ready := 0.0
	if h.Ready {
		ready = 1
	}
	for _, g := range []struct {
		d *prometheus.Desc
		v float64
	}{
		{m.ready, ready},
		{m.owned, float64(h.Shards)},
		{m.entities, float64(h.Entities)},
		{m.workflows, float64(h.Executions)},
		{m.stalled, h.Stalled.Round(time.Millisecond).Seconds()},
	} {
		ch <- prometheus.MustNewConstMetric(g.d, prometheus.GaugeValue, g.v)
	}
}
