package otel_test

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/tracing/otel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type relay struct {
	_ cruster.Entity `cruster:"relay"`
	_ cruster.RPC    `cruster:"Keep,persisted"`

	next cruster.Client[*relay]
}

func (r *relay) Pass(ctx context.Context, to string) (string, error) {
	return cruster.Call(ctx, r.next.Entity(to), (*relay).Keep, "x")
}

func (r *relay) Keep(context.Context, string) (string, error) { return "", errors.New("no room") }

// A trace goes from the caller through a best-effort handler and a stored
// request, encoded or not.
func TestTraceGoesThroughStorage(t *testing.T) {
	for name, encode := range map[string]bool{"direct": false, "encoded": true} {
		t.Run(name, func(t *testing.T) {
			spans := tracetest.NewInMemoryExporter()
			provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
			svc, err := cruster.New(cruster.Config{Tracer: otel.New(provider), AlwaysEncode: encode})
			if err != nil {
				t.Fatal(err)
			}
			r := &relay{}
			if r.next, err = cruster.Register(svc, r); err != nil {
				t.Fatal(err)
			}
			if err := svc.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, root := provider.Tracer("test").Start(t.Context(), "root")
			_, err = cruster.Call(ctx, r.next.Entity("a"), (*relay).Pass, "b")
			root.End()
			if err == nil {
				t.Error("the call succeeded, want an error")
			}
			if err := svc.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			byName := make(map[string]tracetest.SpanStub)
			for _, s := range spans.GetSpans() {
				byName[s.Name] = s
			}
			pass, keep := byName["relay.Pass"], byName["relay.Keep"]
			if pass.Parent.SpanID() != root.SpanContext().SpanID() {
				t.Errorf("the parent of Pass is %v, want the root", pass.Parent.SpanID())
			}
			if keep.Parent.SpanID() != pass.SpanContext.SpanID() || !keep.Parent.SpanID().IsValid() {
				t.Errorf("the parent of Keep is %v, want Pass, %v", keep.Parent.SpanID(), pass.SpanContext.SpanID())
			}
			if keep.SpanContext.TraceID() != root.SpanContext().TraceID() {
				t.Error("Keep is in another trace")
			}
			if keep.Status.Code != codes.Error || keep.Status.Description != "no room" {
				t.Errorf("status of Keep is %v", keep.Status)
			}
		})
	}
}

func ExampleNew() {
	svc, err := cruster.New(cruster.Config{Tracer: otel.New(nil)}) // the global provider
	if err != nil {
		panic(err)
	}
	_ = svc
}
