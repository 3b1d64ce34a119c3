package cruster

import (
	"context"
	"iter"
	"reflect"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/mailbox"
	"github.com/cruster-go/cruster/scheduler"
)

// The markers are fields, first in a struct and named _, whose tags say what
// the struct is. A tag's first item is a name, options follow.
type (
	// Entity marks an entity type:
	//
	//	_ cruster.Entity `cruster:"counter,concurrency=1,mailbox=100,idle=60s,shard_group=default"`
	Entity struct{}

	// RPC sets the delivery of one method of an entity, or of an RPC group: a
	// struct that entities embed. Options: persisted, protected, private,
	// retries=N, timeout=D. Without a tag it makes its struct a group.
	//
	//	_ cruster.RPC `cruster:"Increment,persisted"`
	RPC struct{}

	// Workflow marks a workflow. Options: hash=false, shard_group, timeout,
	// retention.
	//
	//	_ cruster.Workflow `cruster:"order"`
	Workflow struct{}

	// Activity sets the retries of one activity of a workflow, or of an activity
	// group: a struct that workflows embed. Options: retries=N,
	// backoff=exponential|constant, initial=D, max=D, timeout=D. Without a tag
	// it makes its struct a group.
	//
	//	_ cruster.Activity `cruster:"Charge,retries=3,timeout=10s"`
	Activity struct{}
)

func (s *Service) markers() handler.Markers {
	return handler.Markers{
		Entity: reflect.TypeFor[Entity](), RPC: reflect.TypeFor[RPC](), Workflow: reflect.TypeFor[Workflow](), Activity: reflect.TypeFor[Activity](),
		WorkflowContext: reflect.TypeFor[*WorkflowContext](),
		CheckType:       func(t reflect.Type) error { return codec.CheckTypeFor(s.cfg.Codec, t) },
	}
}

// Register makes the service host an entity type. impl is a pointer to a struct
// with an [Entity] marker; the one value serves all entities of the type at
// once, so its fields are dependencies, never an entity's state.
//
// Every exported method of the forms
//
//	func (c *Counter) Get(ctx context.Context, req GetRequest) (int64, error)
//	func (c *Counter) Reset(ctx context.Context, req ResetRequest) error
//	func (c *Counter) List(ctx context.Context, req ListRequest) iter.Seq2[Item, error]
//
// can be called, those of embedded RPC groups included. Everything that is wrong
// with the type is reported in one error. Register before Start.
func Register[E any](s *Service, impl E) (Client[E], error) {
	scan, err := handler.ScanEntity(impl, s.markers())
	if err != nil {
		return Client[E]{}, invalid("register: %w", err)
	}
	if err := s.reserve("entity type", scan.Name()); err != nil {
		return Client[E]{}, err
	}
	o := scan.Options
	typ := &runner.EntityType{
		Name: scan.Name(), Group: o.ShardGroup.Or(crustertype.DefaultShardGroup), Impl: impl, Methods: runnerMethods(scan.Table),
		Options: mailbox.Options{Capacity: o.Mailbox.Or(s.cfg.MailboxCapacity), Concurrency: max(0, o.Concurrency.Or(s.cfg.Concurrency))},
		Idle:    max(0, time.Duration(o.Idle.Or(s.cfg.EntityIdle))),
	}
	h := &entityHandle{
		Target: dispatch.Target{Host: s.calls, Name: typ.Name, Group: typ.Group, Type: typ},
		svc:    s, scan: scan.Table, print: scan.Fingerprint(), impl: impl, methods: typ.Methods,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.Register(typ)
	s.entities[typ.Name] = h
	return Client[E]{h}, nil
}

// runnerMethods turns scanned methods into what the runner dispatches.
func runnerMethods(t *handler.Table) map[string]*runner.Method {
	methods := make(map[string]*runner.Method, len(t.Methods()))
	for _, m := range t.Methods() {
		methods[m.Name] = &runner.Method{
			Name: m.Name, Persisted: m.Persisted, Protected: m.Visibility == handler.Protected, Stream: m.Kind == handler.Stream,
			Retries: m.Retries.Or(0), Timeout: max(0, m.Timeout.Or(0)),
			Backoff: scheduler.Policy{Kind: scheduler.Exponential, Initial: time.Second, Max: time.Minute, Jitter: 0.2},
			Invoke:  m.Invoke,
			Iterate: func(ctx context.Context, in any) iter.Seq2[any, error] { return m.InvokeStream(ctx, in) },
			Decode: func(c codec.Codec, payload []byte) (any, error) {
				in := m.NewIn()
				if len(payload) == 0 {
					return in, nil
				}
				return in, c.Unmarshal(payload, in)
			},
		}
	}
	return methods
}

// resolve finds what a method expression stands for.
func (h *entityHandle) resolve(m any, pc uintptr) (*binding, error) {
	found, ok := h.scan.ByPointer(pc)
	if !ok {
		var err error
		if found, err = h.scan.Resolve(m); err != nil {
			return nil, invalid("call an entity of type %q: %w", h.Name, err)
		}
	}
	rm := h.methods[found.Name]
	typed := h.impl != nil && reflect.TypeOf(h.impl).AssignableTo(reflect.TypeOf(m).In(0))
	return &binding{
		Method: dispatch.Method{M: rm, What: invoke.What{Type: h.Name, Method: rm.Name}}, scanned: found, typed: typed,
		direct: typed && h.Type != nil && !rm.Persisted && !rm.Stream && !h.svc.cfg.AlwaysEncode,
	}, nil
}
