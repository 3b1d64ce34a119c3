package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// flushTime bounds how long the last spans are waited for.
const flushTime = 500 * time.Millisecond

// newTraces returns where spans go: to a collector that takes OTLP over gRPC,
// or nowhere. flush sends what is left.
func newTraces(ctx context.Context, endpoint, node string) (p trace.TracerProvider, flush func(), err error) {
	if endpoint == "" {
		return noop.NewTracerProvider(), func() {}, nil
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint))
	if err != nil {
		return nil, nil, err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(
		attribute.String("service.name", "cluster-tests"), attribute.String("service.instance.id", node))))
	return provider, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		_ = provider.Shutdown(ctx) // a collector that is away keeps nobody
	}, nil
}

// traced begins a span for a request, of which the spans of handlers and
// activities become children, on whichever node they run.
func traced(tracer trace.Tracer, name string, r *http.Request) (*http.Request, trace.Span) {
	ctx, span := tracer.Start(r.Context(), name, trace.WithSpanKind(trace.SpanKindServer))
	return r.WithContext(ctx), span
}
