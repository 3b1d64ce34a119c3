package cruster

import (
	"time"

	"github.com/cruster-go/cruster/internal/dispatch"
)

// CallOption changes one call. See [At], [After], [Key], [Uninterruptible] and
// [Immediately].
type CallOption interface{ applyCall(*dispatch.Options) }

type callOption func(*dispatch.Options)

func (f callOption) applyCall(o *dispatch.Options) { f(o) }

// At delivers the request at t, not before. The request is stored, whatever the
// method's own delivery is. A time in the past means at once.
func At(t time.Time) CallOption {
	return callOption(func(o *dispatch.Options) { o.At, o.Scheduled = t, true })
}

// After delivers the request d from now. See [At].
func After(d time.Duration) CallOption {
	return callOption(func(o *dispatch.Options) { o.After, o.Scheduled = d, true })
}

// Key makes the request one with all others of the same key, entity and
// method: it runs once, and every caller gets its outcome, failures too. The
// same key with another body is refused with [ErrKeyConflict]. Persisted
// methods only.
func Key(k string) CallOption {
	return callOption(func(o *dispatch.Options) { o.Key, o.Keyed = k, true })
}

// Uninterruptible lets the handler run on while the service shuts down, until
// the context of Shutdown ends, instead of being cancelled at once. Persisted
// methods only.
func Uninterruptible() CallOption {
	return callOption(func(o *dispatch.Options) { o.Uninterruptible = true })
}

// Immediately sends from inside a handler or activity at once, instead of with
// its commit: the request is sent even when the handler fails.
func Immediately() CallOption {
	return callOption(func(o *dispatch.Options) { o.Immediately = true })
}

func callOptionsOf(opts []CallOption) dispatch.Options {
	var o dispatch.Options
	for _, opt := range opts {
		if opt != nil {
			opt.applyCall(&o)
		}
	}
	return o
}
