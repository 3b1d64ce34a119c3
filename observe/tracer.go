package observe

import "context"

// Tracer connects the runs of handlers and activities with a tracing system, by
// the trace context of the W3C, which travels with requests, also through
// storage. Its methods are called concurrently.
type Tracer interface {
	// Inject returns the traceparent and tracestate of the span that ctx is in;
	// "" when there is none.
	Inject(ctx context.Context) (traceparent, tracestate string)

	// Begin begins the span of a run. The parent is the span of the sender, ""
	// when it had none; ctx is empty. The run's context shows the values of the
	// context that is returned. end is called once, with the run's error.
	Begin(ctx context.Context, traceparent, tracestate string, s Span) (spanCtx context.Context, end func(err error))
}

// Span says what runs.
type Span struct {
	Type, Method string
	Kind         Kind
	Attempt      int
}
