package cruster

import (
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// Health is how a service is doing, as it knows from its own memory: nobody is
// asked, so it can be read often, and while the database is away.
type Health struct {
	// State is "new", "starting", "serving", "draining", "stopping" or "stopped".
	State string
	// Live is false when the service will not work again by itself. A database or
	// a cluster that is away does not make it so: to restart the process would
	// not bring them back.
	Live bool
	// Ready is whether requests should be sent here: the service serves, is a
	// member of its cluster, and commits get through. It is false from the first
	// moment of a shutdown.
	Ready bool
	// Reason says why the service is not ready.
	Reason string
	// Stalled is for how long storage has not answered commits that wait; 0: it
	// does.
	Stalled time.Duration
	// Incarnation is what the runner is registered as; 0: it is not.
	Incarnation crustertype.Incarnation
	// Shards is how many shards the runner serves, Entities how many entities are
	// in its memory, and Executions how many workflow runs.
	Shards, Entities, Executions int
}

// Health returns how the service is doing. Package health serves it over HTTP.
func (s *Service) Health() Health {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	h := Health{
		State: [...]string{"new", "starting", "serving", "draining", "stopping", "stopped"}[state], Live: state != stateStopped,
		Incarnation: s.run.Incarnation(), Shards: s.run.Owned(), Entities: s.run.Entities(), Executions: s.workflows.Resident(),
	}
	if since := s.run.Commit.StalledSince(); !since.IsZero() {
		h.Stalled = time.Since(since)
	}
	switch {
	case state != stateServing:
		h.Reason = "the service is " + h.State
	case !s.run.Working():
		h.Reason = "the runner has no lease: it joins the cluster again"
	case h.Stalled > s.cfg.LeaseTTL/2:
		h.Reason = "storage has not committed anything for " + h.Stalled.Round(time.Second).String()
	default:
		h.Ready = true
	}
	return h
}

// Member is one runner of the cluster, as another one sees it.
type Member struct {
	Incarnation crustertype.Incarnation
	Address     string
	Groups      []string // shard groups that it hosts
	Weight      int
	Draining    bool // it gives its shards away
	Self        bool
	// Shards is how many shards are assigned to it. While shards move, another
	// may still serve them.
	Shards int
}

// Members returns the runners of the cluster, by incarnation, from memory. A
// service without a cluster has none.
func (s *Service) Members() []Member {
	var list []Member
	for _, m := range s.node.Members() {
		list = append(list, Member{
			Incarnation: m.Incarnation, Address: m.Address, Groups: m.Groups, Weight: m.Weight, Draining: m.Draining,
			Self: m.Incarnation == s.run.Incarnation(), Shards: m.Shards,
		})
	}
	return list
}
