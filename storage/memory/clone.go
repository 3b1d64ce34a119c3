package memory

import (
	"bytes"
	"maps"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// stamp returns t as this store keeps it: in UTC, to the microsecond, without
// a monotonic reading, so that it compares the same wherever it came from and
// reads the same as from a database.
func stamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

func cloneOutcome(o crustertype.Outcome) crustertype.Outcome {
	o.Payload = bytes.Clone(o.Payload)
	if o.Failure != nil {
		f := *o.Failure
		o.Failure = &f
	}
	return o
}

func equalOutcome(a, b crustertype.Outcome) bool {
	if a.Failure != nil || b.Failure != nil {
		return a.Failure != nil && b.Failure != nil && *a.Failure == *b.Failure
	}
	return a.Codec == b.Codec && bytes.Equal(a.Payload, b.Payload)
}

// cloneMessage copies what is behind m's pointers. Payload and Meta share one
// allocation.
func cloneMessage(m crustertype.Message, payload bool) crustertype.Message {
	if !payload {
		m.Payload = nil
	}
	m.Payload, m.Meta = clonePair(m.Payload, m.Meta)
	m.Outcome = cloneOutcome(m.Outcome)
	return m
}

func cloneExecution(e crustertype.Execution, input bool) crustertype.Execution {
	if !input {
		e.Input = nil
	}
	e.Input, e.Meta = clonePair(e.Input, e.Meta)
	e.Outcome = cloneOutcome(e.Outcome)
	e.Tags = maps.Clone(e.Tags)
	return e
}

func cloneStep(s crustertype.Step) crustertype.Step {
	s.Args = bytes.Clone(s.Args)
	s.Outcome = cloneOutcome(s.Outcome)
	return s
}

func cloneSchedule(s crustertype.Schedule) crustertype.Schedule {
	s.History = bytes.Clone(s.History)
	return s
}

func clonePair(a, b []byte) ([]byte, []byte) {
	switch {
	case len(b) == 0:
		return bytes.Clone(a), nil
	case len(a) == 0:
		return nil, bytes.Clone(b)
	}
	slab := make([]byte, 0, len(a)+len(b))
	slab = append(append(slab, a...), b...)
	return slab[:len(a):len(a)], slab[len(a):]
}

func stampMessage(m *crustertype.Message) {
	m.DeliverAt, m.CreatedAt, m.FinishedAt = stamp(m.DeliverAt), stamp(m.CreatedAt), stamp(m.FinishedAt)
}

func stampExecution(e *crustertype.Execution) {
	e.WakeAt, e.CancelAt, e.Deadline = stamp(e.WakeAt), stamp(e.CancelAt), stamp(e.Deadline)
	e.CreatedAt, e.UpdatedAt, e.FinishedAt = stamp(e.CreatedAt), stamp(e.UpdatedAt), stamp(e.FinishedAt)
}

func stampSchedule(s *crustertype.Schedule) {
	s.LastTick, s.NextTick, s.Since, s.UpdatedAt = stamp(s.LastTick), stamp(s.NextTick), stamp(s.Since), stamp(s.UpdatedAt)
}

func equalSchedule(a, b *crustertype.Schedule) bool {
	return a.Kind == b.Kind && a.Name == b.Name && a.Shard == b.Shard && a.LastTick.Equal(b.LastTick) &&
		a.NextTick.Equal(b.NextTick) && a.Paused == b.Paused && a.Holder == b.Holder && a.Since.Equal(b.Since) &&
		a.Restarts == b.Restarts && a.LastError == b.LastError && a.UpdatedAt.Equal(b.UpdatedAt) &&
		a.Version == b.Version && bytes.Equal(a.History, b.History)
}
