package cruster

import (
	"context"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/internal/invoke"
)

// Raw calls entities by names and encoded values: for gateways and tools that
// know no Go types. Payloads are in the service's codec. Visibility and delivery
// are those of the method.
type Raw struct{ s *Service }

// Raw returns the untyped form of the service's calls.
func (s *Service) Raw() Raw { return Raw{s} }

// Call sends a request and returns the encoded reply. See [Call].
func (r Raw) Call(ctx context.Context, entityType, id, method string, payload []byte, opts ...CallOption) ([]byte, error) {
	h, b, in, err := r.prepare(entityType, method, payload)
	if err != nil {
		return nil, err
	}
	o, err := h.check(ctx, id, b, opts)
	if err == nil {
		err = h.Admissible(&b.Method, invoke.From(ctx))
	}
	var out crustertype.Outcome
	if err == nil {
		out, err = h.Outcome(ctx, invoke.From(ctx), id, &b.Method, in, o, crustertype.RequestID{})
	}
	if err != nil {
		return nil, h.Failed("call", &b.Method, id, err)
	}
	if out.Failure != nil {
		return nil, decodeError(out.Failure)
	}
	return out.Payload, nil
}

// Notify sends a request and returns when it is accepted. See [Notify].
func (r Raw) Notify(ctx context.Context, entityType, id, method string, payload []byte, opts ...CallOption) error {
	h, b, in, err := r.prepare(entityType, method, payload)
	if err != nil {
		return err
	}
	return h.notify(ctx, id, b, in, opts)
}

// Await waits for the outcome of a persisted request that was sent before, from
// anywhere, and returns the encoded reply.
func (r Raw) Await(ctx context.Context, id crustertype.RequestID) ([]byte, error) {
	if err := r.s.serving(); err != nil {
		return nil, err
	}
	out, err := r.s.calls.AwaitStored(ctx, crustertype.Shard{}, id)
	if err != nil {
		return nil, err
	}
	if out.Failure != nil {
		return nil, decodeError(out.Failure)
	}
	return out.Payload, nil
}

func (r Raw) prepare(entityType, method string, payload []byte) (*entityHandle, *binding, any, error) {
	r.s.mu.Lock()
	h := r.s.entities[entityType]
	r.s.mu.Unlock()
	if h == nil {
		return nil, nil, nil, dispatch.NotRegistered("entity type", entityType)
	}
	scanned, ok := h.scan.ByName(method)
	if !ok {
		return nil, nil, nil, crustertype.Errorf(crustertype.CodeNotRegistered, "entity type %q has no method %q", entityType, method)
	}
	b := &binding{Method: dispatch.Method{M: h.methods[method], What: invoke.What{Type: h.Name, Method: method}}, scanned: scanned}
	in := scanned.NewIn()
	if len(payload) > 0 {
		if err := r.s.cfg.Codec.Unmarshal(payload, in); err != nil {
			return nil, nil, nil, crustertype.Errorf(crustertype.CodeEncoding, "decode the request of %s.%s: %w", entityType, method, err)
		}
	}
	return h, b, in, nil
}
