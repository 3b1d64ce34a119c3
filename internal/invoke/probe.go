package invoke

import (
	"context"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/observe"
)

// Probe follows what runs, for the user's observer and tracer. A nil Probe
// follows nothing.
type Probe struct {
	Observer observe.Observer // optional
	Tracer   observe.Tracer   // optional
}

// NewProbe returns nil when there is nobody to tell.
func NewProbe(o observe.Observer, t observe.Tracer) *Probe {
	if o == nil && t == nil {
		return nil
	}
	return &Probe{o, t}
}

// Tell tells the observer of an event.
func (p *Probe) Tell(e observe.Event) {
	if p != nil && p.Observer != nil {
		p.Observer.Observe(e)
	}
}

// Inject adds the trace context of ctx to m.
func (p *Probe) Inject(ctx context.Context, m *crustertype.Meta) {
	if p != nil && p.Tracer != nil && ctx != nil {
		m.TraceParent, m.TraceState = p.Tracer.Inject(ctx)
	}
}

// Begin begins to follow a run. The function that it returns is called at its
// end.
func (p *Probe) Begin(c *Context, kind observe.Kind, meta crustertype.Meta, attempt int) func(err error) {
	if p == nil {
		return func(error) {}
	}
	var endSpan func(error)
	if p.Tracer != nil {
		ctx, end := p.Tracer.Begin(empty{}, meta.TraceParent, meta.TraceState, observe.Span{Type: c.what.Type, Method: c.what.Method, Kind: kind, Attempt: attempt})
		c.setValues(ctx)
		endSpan = end
	}
	begin := time.Now()
	return func(err error) {
		if p.Observer != nil {
			p.Observer.Observe(observe.Handled{
				Type: c.what.Type, Method: c.what.Method, Kind: kind, Attempt: attempt, Took: time.Since(begin), OK: err == nil, Code: codeOf(err),
			})
		}
		if endSpan != nil {
			endSpan(err)
		}
	}
}

// codeOf classifies what a handler returned.
func codeOf(err error) crustertype.Code {
	if c := crustertype.CodeOf(err); err == nil || c != crustertype.CodeUnknown {
		return c
	}
	return crustertype.CodeUser
}

// setValues makes the run's context show the values of ctx.
func (c *Context) setValues(ctx context.Context) {
	m, _ := c.use()
	m.values = ctx
	c.mu.Unlock()
}

// empty is what a span's context is derived from: only its values are used.
type empty struct{}

func (empty) Deadline() (time.Time, bool) { return time.Time{}, false }
func (empty) Done() <-chan struct{}       { return nil }
func (empty) Err() error                  { return nil }
func (empty) Value(any) any               { return nil }
