package cruster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/cluster"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/duty"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/mailbox"
	"github.com/cruster-go/cruster/membership/stored"
	"github.com/cruster-go/cruster/scheduler"
)

// Service is one runner: it hosts the entities, workflows, singletons and crons
// that are registered with it. Register first, then Start. All methods may be
// called concurrently.
type Service struct {
	cfg       Config
	run       *runner.Runner
	workflows *replay.Engine
	codecs    *codec.Registry
	spawn     mailbox.Spawn
	calls     *dispatch.Host
	node      *cluster.Node // nil: the service is alone
	ownsStore bool

	mu         sync.Mutex
	state      state
	names      map[string]string // registered names, and as what
	entities   map[string]*entityHandle
	clients    []*entityHandle
	crons      map[string]*duty.Cron
	stopped    chan struct{}
	stopErr    error
	retention  duty.Retention
	background sync.WaitGroup
	endBack    context.CancelFunc
}

type state int

const (
	stateNew state = iota
	stateStarting
	stateServing
	stateDraining // the cluster takes the shards; calls go on
	stateStopping
	stateStopped
)

// New returns a service that is not started. It reports every fault of cfg in
// one error.
func New(cfg Config) (*Service, error) {
	owns := cfg.Storage == nil
	if len(cfg.Seeds) > 0 && !owns {
		return nil, invalid("config: Seeds make the service a client, which has no Storage: set one of them")
	}
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, crustertype.Errorf(crustertype.CodeInvalid, "%w", err)
	}
	extra := cfg.Codecs
	if n := cfg.Codec.Name(); n != codec.Msgpack().Name() && n != codec.JSON().Name() {
		extra = append([]codec.Codec{cfg.Codec}, extra...)
	}
	codecs, err := codec.NewRegistry(extra...)
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeInvalid, "config: %w", err)
	}
	s := &Service{
		cfg: cfg, codecs: codecs, ownsStore: owns, names: make(map[string]string), entities: make(map[string]*entityHandle), crons: make(map[string]*duty.Cron),
		stopped: make(chan struct{}), retention: duty.Retention{Keep: cfg.Retention, KeepKeys: cfg.KeyRetention},
	}
	probe := invoke.NewProbe(cfg.Observer, cfg.Tracer)
	s.run = runner.New(runner.Config{
		Store: cfg.Storage, Codec: cfg.Codec, Lookup: codecs.Lookup, Logger: cfg.Logger, ShardsPerGroup: cfg.ShardsPerGroup,
		MaxPayload: cfg.MaxPayload, MaxDeliveries: cfg.MaxDeliveries, PollInterval: cfg.searchEvery(), LeaseTTL: cfg.LeaseTTL,
		Cluster: cfg.Transport != nil, Probe: probe,
		Redelivery: scheduler.Policy{Kind: scheduler.Exponential, Initial: 100 * time.Millisecond, Max: time.Minute, Jitter: 0.2},
		Encode:     encodeError, Decode: decodeError,
		Wake:    func(ref crustertype.ExecutionRef) { s.workflows.Wake(ref) },
		Recover: func(ctx context.Context, shards []crustertype.Shard) error { return s.workflows.Recover(ctx, shards) },
		Fenced:  func(shards []crustertype.Shard) { s.node.Fenced(shards) },
		Stored:  func(m *crustertype.Message) { s.node.Tell(dispatch.Note{Shard: m.Shard, At: m.DeliverAt}) },
	})
	s.spawn = s.run.Spawn
	s.calls = &dispatch.Host{
		Run: s.run, Store: cfg.Storage, Codec: cfg.Codec, Lookup: codecs.Lookup, Logger: cfg.Logger, MaxPayload: cfg.MaxPayload, Probe: probe,
	}
	s.workflows = s.newWorkflows()
	s.calls.Workflows, s.calls.Client = s.workflows, len(cfg.Seeds) > 0
	if cfg.Transport != nil {
		return s, s.joinable()
	}
	return s, nil
}

// joinable gives the service its part in a cluster.
func (s *Service) joinable() (err error) {
	cfg := s.cfg
	backend := cfg.Membership
	if backend == nil {
		backend = stored.New(cfg.Storage, &stored.Options{Logger: cfg.Logger})
	}
	s.node, err = cluster.New(cluster.Config{
		Store: cfg.Storage, Backend: backend, Transport: cfg.Transport, Run: s.run, Workflows: s.workflows, Host: s.calls, Logger: cfg.Logger,
		Name: cfg.ClusterName, ShardsPerGroup: cfg.ShardsPerGroup, Weight: max(0, cfg.Weight), TTL: cfg.LeaseTTL,
		Debounce: max(0, cfg.RebalanceDelay), Grace: max(0, cfg.HandlerGrace), DrainTimeout: cfg.DrainTimeout, Patience: cfg.RouteTimeout,
		Probe: s.calls.Probe, Seeds: cfg.Seeds,
	})
	if err != nil {
		return invalid("%w", err)
	}
	s.calls.Router = s.node
	return nil
}

// Start takes ownership of the storage's shards, resumes what was unfinished,
// and begins to serve. ctx bounds the start, not the service; its values reach
// no handler. A service is started once: after Shutdown, make a new one.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	if s.state != stateNew {
		s.mu.Unlock()
		return invalid("start: the service was started before: make a new one")
	}
	if err := s.linkClients(); err != nil {
		s.mu.Unlock()
		return fmt.Errorf("start: %w", err)
	}
	s.state = stateStarting
	s.mu.Unlock()
	base := context.WithoutCancel(ctx)
	back, endBack := context.WithCancel(base)
	s.endBack = endBack
	s.goBackground(func() { _ = s.workflows.Run(back) }) // it fails only when it runs already
	<-s.workflows.Begun()
	err := s.run.Start(ctx, base)
	if err == nil && s.node != nil {
		if err = s.node.Start(ctx, base); err != nil {
			s.run.Abort(err)
		}
	}
	if err != nil {
		endBack()
		err = errors.Join(err, duty.Await(ctx, &s.background))
		s.finish(err)
		return fmt.Errorf("start: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = stateServing
	s.goBackground(func() { s.dutyHost().Retain(back, s.retention) })
	s.goBackground(func() {
		select {
		case <-s.run.Lost():
			s.cfg.Logger.Error("service stops", "error", s.run.LostErr())
			go s.stop(back) //nolint:contextcheck // stop waits for this goroutine's group
		case <-back.Done():
		}
	})
	return nil
}

func (s *Service) goBackground(f func()) {
	s.background.Add(1)
	go func() {
		defer s.background.Done()
		f()
	}()
}

// Shutdown stops in stages: it refuses new requests, cancels running handlers
// and activities and waits for them, suspends workflows, flushes commits, and
// leaves. Persisted work that did not finish goes on when a runner is up again.
// When ctx ends before, Shutdown abandons what still runs and returns an error;
// commits of abandoned handlers are refused. It is idempotent; before Start it
// makes the service unusable.
func (s *Service) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	switch state {
	case stateNew:
		s.finish(nil)
		return nil
	case stateStarting:
		return invalid("shutdown: the service is starting: cancel the context of Start")
	case stateServing:
		if s.stop(ctx) {
			return s.stopErr
		}
	}
	select {
	case <-s.stopped:
		return s.stopErr
	case <-ctx.Done():
		return fmt.Errorf("shutdown: %w", context.Cause(ctx))
	}
}

// stop reports whether it has stopped the service; else somebody else does.
func (s *Service) stop(ctx context.Context) bool {
	s.mu.Lock()
	if s.state != stateServing {
		s.mu.Unlock()
		return false
	}
	s.state = stateStopping
	if s.node != nil {
		s.state = stateDraining
	}
	s.mu.Unlock()
	lost := s.run.LostErr()
	err := s.leave(ctx)
	err = errors.Join(err, s.run.Shutdown(ctx, func(ctx context.Context) error {
		return errors.Join(s.calls.Streams.Drain(ctx), s.workflows.Drain(ctx))
	}))
	s.endBack()
	err = errors.Join(err, duty.Await(ctx, &s.background))
	if s.ownsStore {
		err = errors.Join(err, s.cfg.Storage.Close())
	}
	s.finish(errors.Join(lost, err))
	return true
}

// leave gives the shards to the others and leaves the cluster.
func (s *Service) leave(ctx context.Context) error {
	if s.node == nil {
		return nil
	}
	err := s.node.Drain(ctx)
	s.mu.Lock()
	s.state = stateStopping
	s.mu.Unlock()
	return errors.Join(err, s.node.Leave(ctx))
}

func (s *Service) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateStopped {
		s.state, s.stopErr = stateStopped, err
		close(s.stopped)
	}
}

// Stopped is closed when the service has stopped, by Shutdown or by itself. A
// service stops by itself when it has lost its lease.
func (s *Service) Stopped() <-chan struct{} { return s.stopped }

// serving reports why the service takes no calls.
func (s *Service) serving() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case stateNew:
		return crustertype.Errorf(crustertype.CodeNotStarted, "the service is not started: call Start first")
	case stateStarting, stateServing, stateDraining:
		return nil
	}
	return crustertype.ErrShuttingDown
}

// reserve takes a name for something that is registered.
func (s *Service) reserve(what, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls.Client {
		return invalid("register %s %q: the service is a client, Seeds are set: use NewClient and NewWorkflowClient", what, name)
	}
	if s.state != stateNew {
		return invalid("register %s %q: the service was started: register everything before Start", what, name)
	}
	if have, ok := s.names[name]; ok {
		return invalid("register %s %q: the name is taken by %s: names are unique within a service", what, name, have)
	}
	s.names[name] = "a " + what
	return nil
}
