package cruster

import (
	"reflect"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/handler"
)

// NewClient returns a client of an entity type that this process need not
// host. E is the implementation's pointer type, or a contract: an interface with
// the methods, and then spec is one struct with the markers, which the
// implementation embeds:
//
//	package counterapi
//
//	type Counter interface {
//		Increment(ctx context.Context, req IncrementRequest) (int64, error)
//	}
//	type Spec struct {
//		_ cruster.Entity `cruster:"counter"`
//		_ cruster.RPC    `cruster:"Increment,persisted"`
//	}
//
//	counters, err := cruster.NewClient[counterapi.Counter](svc, counterapi.Spec{})
//	v, err := cruster.Call(ctx, counters.Entity("c-1"), counterapi.Counter.Increment, req)
//
// When caller and owner disagree about names, delivery or types, the one that
// finds out returns [ErrContractMismatch] with all differences. Make clients
// before Start.
func NewClient[E any](s *Service, spec ...any) (Client[E], error) {
	h, err := s.newClient(reflect.TypeFor[E](), spec)
	return Client[E]{h}, err
}

func (s *Service) newClient(t reflect.Type, spec []any) (*entityHandle, error) {
	m := s.markers()
	h := &entityHandle{Target: dispatch.Target{Host: s.calls}, svc: s}
	var options handler.EntityOptions
	switch {
	case len(spec) > 1:
		return nil, invalid("new client of %s: %d specs are given: pass one", t, len(spec))
	case t.Kind() == reflect.Interface:
		var sp *handler.Spec
		if len(spec) == 1 {
			var err error
			if sp, err = handler.ScanSpec(spec[0], m); err != nil {
				return nil, invalid("new client: %w", err)
			}
		}
		c, err := handler.ScanInterface(t, sp, m)
		if err != nil {
			return nil, invalid("new client: %w", err)
		}
		h.scan, options, h.print = c.Table, c.Options, c.Fingerprint()
	case len(spec) == 1:
		return nil, invalid("new client of %s: a spec belongs to an interface; the markers of a struct are its own", t)
	default:
		e, err := handler.ScanEntityType(t, m)
		if err != nil {
			return nil, invalid("new client: %w", err)
		}
		h.scan, options, h.print = e.Table, e.Options, e.Fingerprint()
	}
	h.Name, h.Group = h.scan.Name(), options.ShardGroup.Or(crustertype.DefaultShardGroup)
	h.methods = runnerMethods(h.scan)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateNew {
		return nil, invalid("new client of %s: the service was started: make clients before Start", t)
	}
	s.clients = append(s.clients, h)
	if owner := s.entities[h.Name]; owner != nil {
		return h, h.link(owner)
	}
	return h, nil
}

// link connects a client with the implementation in the same process.
func (h *entityHandle) link(owner *entityHandle) error {
	if err := h.print.Check(owner.print); err != nil {
		return crustertype.Errorf(crustertype.CodeContract, "client of entity type %q: %w", h.Name, err)
	}
	h.Type, h.impl, h.methods = owner.Type, owner.impl, owner.methods
	return nil
}

// linkClients connects the clients that were made before their type was
// registered. s.mu is held.
func (s *Service) linkClients() error {
	for _, h := range s.clients {
		if owner := s.entities[h.Name]; owner != nil && h.Type == nil {
			if err := h.link(owner); err != nil {
				return err
			}
		}
	}
	return nil
}
