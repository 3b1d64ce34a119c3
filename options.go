package cruster

import "time"

// CallOption changes one call. See [At], [After], [Key], [Uninterruptible] and
// [Immediately].
type CallOption interface{ applyCall(*callOptions) }

type callOptions struct {
	at              time.Time
	after           time.Duration
	scheduled       bool
	key             string
	keyed           bool
	uninterruptible bool
	immediately     bool
}

type callOption func(*callOptions)

func (f callOption) applyCall(o *callOptions) { f(o) }

// At delivers the request at t, not before. The request is stored, whatever the
// method's own delivery is. A time in the past means at once.
func At(t time.Time) CallOption {
	return callOption(func(o *callOptions) { o.at, o.scheduled = t, true })
}

// After delivers the request d from now. See [At].
func After(d time.Duration) CallOption {
	return callOption(func(o *callOptions) { o.after, o.scheduled = d, true })
}

// Key makes the request one with all others of the same key, entity and
// method: it runs once, and every caller gets its outcome, failures too. The
// same key with another body is refused with [ErrKeyConflict]. Persisted
// methods only.
func Key(k string) CallOption {
	return callOption(func(o *callOptions) { o.key, o.keyed = k, true })
}

// Uninterruptible lets the handler run on while the service shuts down, until
// the context of Shutdown ends, instead of being cancelled at once. Persisted
// methods only.
func Uninterruptible() CallOption {
	return callOption(func(o *callOptions) { o.uninterruptible = true })
}

// Immediately sends from inside a handler or activity at once, instead of with
// its commit: the request is sent even when the handler fails.
func Immediately() CallOption {
	return callOption(func(o *callOptions) { o.immediately = true })
}

func callOptionsOf(opts []CallOption) callOptions {
	var o callOptions
	for _, opt := range opts {
		if opt != nil {
			opt.applyCall(&o)
		}
	}
	return o
}
