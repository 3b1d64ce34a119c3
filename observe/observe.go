// Package observe is what a service tells about itself while it works: events
// for metrics, logs and tests.
//
// An [Observer] is given to the service's configuration. Package metrics/prom
// and tracing/otel have ready ones; [Func] makes one of a function, and [Log]
// writes to a logger.
package observe

import (
	"context"
	"log/slog"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// Observer is told what happens in a service. Observe is called concurrently,
// also while locks are held and on the path of calls: it must not block, and
// must not call the service.
type Observer interface {
	Observe(e Event)
}

// Func is an Observer.
type Func func(e Event)

// Observe calls f.
func (f Func) Observe(e Event) { f(e) }

// Join returns an Observer that tells all of list. nil ones are left out.
func Join(list ...Observer) Observer {
	var all []Observer
	for _, o := range list {
		if o != nil {
			all = append(all, o)
		}
	}
	return Func(func(e Event) {
		for _, o := range all {
			o.Observe(e)
		}
	})
}

// Event is one of the types of this package.
type Event interface {
	name() string
	attrs() []slog.Attr
}

// Name returns an event's name in lower case with underscores, such as
// "shards_acquired".
func Name(e Event) string { return e.name() }

// Attrs describes an event for logs: without payloads and without entity IDs.
func Attrs(e Event) []slog.Attr { return e.attrs() }

// Member is a runner as events name it.
type Member struct {
	Incarnation crustertype.Incarnation
	Address     string
}

func (m Member) describe() []slog.Attr {
	return []slog.Attr{slog.Int64("incarnation", int64(m.Incarnation)), slog.String("address", m.Address)}
}

// Events of the cluster, as one runner sees it.
type (
	// Joined: this runner is a member, as a new incarnation.
	Joined struct{ Member }
	// Detached: this runner has lost its lease. It has stopped all work, and
	// joins again.
	Detached struct{ Member }
	// MemberJoined: another runner is there.
	MemberJoined struct{ Member }
	// MemberLeft: another runner has left, or its lease has expired.
	MemberLeft struct{ Member }
	// MemberSuspected: another runner is believed dead before its lease has
	// expired. Revoked: its session was ended for it.
	MemberSuspected struct {
		Member
		Revoked bool
	}
	// ShardsAcquired: this runner serves the shards from now on.
	ShardsAcquired struct{ Shards []crustertype.Shard }
	// ShardsTakenOver: the shards were acquired from a runner that is gone.
	ShardsTakenOver struct {
		Shards []crustertype.Shard
		From   crustertype.Incarnation
	}
	// ShardsMoved: this runner has given the shards to another one.
	ShardsMoved struct {
		Shards []crustertype.Shard
		To     crustertype.Incarnation
	}
	// ShardsLost: this runner serves the shards no more, and nobody planned it.
	ShardsLost struct{ Shards []crustertype.Shard }
	// ShardsFenced: a commit was refused, since another runner owns the shards.
	ShardsFenced struct{ Shards []crustertype.Shard }
)

// Events of work.
type (
	// CommitFlushed: units were committed together.
	CommitFlushed struct {
		Units int
		Took  time.Duration
	}
	// CallRouted: a request was sent to another runner, and answered. Tries is
	// how many runners were asked; Code that of the last answer.
	CallRouted struct {
		Tries int
		Took  time.Duration
		Code  crustertype.Code
		OK    bool
	}
	// Handled: a handler, or an attempt of an activity, has ended.
	Handled struct {
		Type, Method string
		Kind         Kind
		Attempt      int
		Took         time.Duration
		Code         crustertype.Code // of the error, when not OK
		OK           bool
	}
	// DeadLettered: a persisted request was given up.
	DeadLettered struct{ Type, Method string }
	// NotificationDropped: what a handler or activity sent under a key was not
	// stored, since the key was used with another body at the same time.
	NotificationDropped struct{ Type, Method string }
)

// Kind says what was handled.
type Kind uint8

// The kinds of handlers.
const (
	BestEffort Kind = iota + 1
	Persisted
	Stream
	Activity
	Workflow // one life in memory of an execution
)

// String returns the kind in lower case, such as "best_effort".
func (k Kind) String() string {
	switch k {
	case BestEffort:
		return "best_effort"
	case Persisted:
		return "persisted"
	case Stream:
		return "stream"
	case Activity:
		return "activity"
	case Workflow:
		return "workflow"
	}
	return "unknown"
}

func shardAttrs(shards []crustertype.Shard) []slog.Attr {
	attrs := []slog.Attr{slog.Int("shards", len(shards))}
	if len(shards) > 0 {
		attrs = append(attrs, slog.String("first", shards[0].String()))
	}
	return attrs
}

func outcomeAttrs(ok bool, code crustertype.Code) slog.Attr {
	if ok {
		return slog.String("outcome", "ok")
	}
	return slog.String("outcome", code.String())
}

func (Joined) name() string              { return "joined" }
func (Detached) name() string            { return "detached" }
func (MemberJoined) name() string        { return "member_joined" }
func (MemberLeft) name() string          { return "member_left" }
func (MemberSuspected) name() string     { return "member_suspected" }
func (ShardsAcquired) name() string      { return "shards_acquired" }
func (ShardsTakenOver) name() string     { return "shards_taken_over" }
func (ShardsMoved) name() string         { return "shards_moved" }
func (ShardsLost) name() string          { return "shards_lost" }
func (ShardsFenced) name() string        { return "shards_fenced" }
func (CommitFlushed) name() string       { return "commit_flushed" }
func (CallRouted) name() string          { return "call_routed" }
func (Handled) name() string             { return "handled" }
func (DeadLettered) name() string        { return "dead_lettered" }
func (NotificationDropped) name() string { return "notification_dropped" }

func (e Joined) attrs() []slog.Attr       { return e.describe() }
func (e Detached) attrs() []slog.Attr     { return e.describe() }
func (e MemberJoined) attrs() []slog.Attr { return e.describe() }
func (e MemberLeft) attrs() []slog.Attr   { return e.describe() }
func (e MemberSuspected) attrs() []slog.Attr {
	return append(e.describe(), slog.Bool("revoked", e.Revoked))
}
func (e ShardsAcquired) attrs() []slog.Attr { return shardAttrs(e.Shards) }
func (e ShardsTakenOver) attrs() []slog.Attr {
	return append(shardAttrs(e.Shards), slog.Int64("from", int64(e.From)))
}
func (e ShardsMoved) attrs() []slog.Attr {
	return append(shardAttrs(e.Shards), slog.Int64("to", int64(e.To)))
}
func (e ShardsLost) attrs() []slog.Attr   { return shardAttrs(e.Shards) }
func (e ShardsFenced) attrs() []slog.Attr { return shardAttrs(e.Shards) }
func (e CommitFlushed) attrs() []slog.Attr {
	return []slog.Attr{slog.Int("units", e.Units), slog.Duration("took", e.Took)}
}
func (e CallRouted) attrs() []slog.Attr {
	return []slog.Attr{slog.Int("tries", e.Tries), slog.Duration("took", e.Took), outcomeAttrs(e.OK, e.Code)}
}
func (e Handled) attrs() []slog.Attr {
	return []slog.Attr{
		slog.String("type", e.Type), slog.String("method", e.Method), slog.String("kind", e.Kind.String()), slog.Int("attempt", e.Attempt),
		slog.Duration("took", e.Took), outcomeAttrs(e.OK, e.Code),
	}
}
func (e DeadLettered) attrs() []slog.Attr {
	return []slog.Attr{slog.String("type", e.Type), slog.String("method", e.Method)}
}

func (e NotificationDropped) attrs() []slog.Attr {
	return []slog.Attr{slog.String("type", e.Type), slog.String("method", e.Method)}
}

// Log returns an Observer that writes events to l: those of the cluster at
// level info, what goes wrong at warn, those of work at debug.
func Log(l *slog.Logger) Observer {
	return Func(func(e Event) {
		level := slog.LevelInfo
		switch e.(type) {
		case Detached, MemberSuspected, ShardsLost, ShardsFenced, DeadLettered, NotificationDropped:
			level = slog.LevelWarn
		case CommitFlushed, CallRouted, Handled:
			level = slog.LevelDebug
		}
		ctx := context.Background() //nolint:forbidigo // a log line waits for nothing
		if l.Enabled(ctx, level) {
			l.LogAttrs(ctx, level, e.name(), e.attrs()...)
		}
	})
}
