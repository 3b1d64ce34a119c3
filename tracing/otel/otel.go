// Package otel connects a service's handlers and activities with OpenTelemetry:
//
//	svc, err := cruster.New(cruster.Config{Tracer: otel.New(nil), ...})
//
// Each run of a handler and each attempt of an activity is a span. Its parent is
// the span that the request was sent from, on whichever runner, also when the
// request waited in storage in between: the context travels as W3C traceparent
// and tracestate. A handler continues the trace with the context it is given.
package otel

import (
	"context"

	api "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/cruster-go/cruster/observe"
)

// name is that of the instrumentation.
const name = "github.com/cruster-go/cruster"

// Tracer is an [observe.Tracer].
type Tracer struct {
	tracer trace.Tracer
	wire   propagation.TraceContext
}

var _ observe.Tracer = (*Tracer)(nil)

// New returns a Tracer whose spans go to p. nil: to the global provider.
func New(p trace.TracerProvider) *Tracer {
	if p == nil {
		p = api.GetTracerProvider()
	}
	return &Tracer{tracer: p.Tracer(name)}
}

// Inject returns the trace context of the span in ctx.
func (t *Tracer) Inject(ctx context.Context) (traceparent, tracestate string) {
	c := propagation.MapCarrier{}
	t.wire.Inject(ctx, c)
	return c["traceparent"], c["tracestate"]
}

// Begin begins the span of a run.
func (t *Tracer) Begin(ctx context.Context, traceparent, tracestate string, s observe.Span) (context.Context, func(err error)) {
	if traceparent != "" {
		ctx = t.wire.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent, "tracestate": tracestate})
	}
	kind := trace.SpanKindServer
	switch s.Kind {
	case observe.Persisted:
		kind = trace.SpanKindConsumer
	case observe.Activity, observe.Workflow:
		kind = trace.SpanKindInternal
	default:
	}
	ctx, span := t.tracer.Start(ctx, s.Type+"."+s.Method, trace.WithSpanKind(kind), trace.WithAttributes(
		attribute.String("cruster.type", s.Type), attribute.String("cruster.method", s.Method),
		attribute.String("cruster.kind", s.Kind.String()), attribute.Int("cruster.attempt", s.Attempt),
	))
	return ctx, func(err error) {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}
