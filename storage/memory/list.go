package memory

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// scanStep bounds how many items a listing looks at before it lets writers in.
const scanStep = 5000

// Messages lists messages.
func (s *store) Messages(ctx context.Context, f storage.MessageFilter) ([]crustertype.Message, storage.Cursor, error) {
	return list(ctx, s, f.After, f.Limit, func(p place) *message { return p.message() },
		func(s *store) *ordered[*message] { return &s.messageLog },
		func(m *message) bool { return matchMessage(&f, m) },
		func(m *message) (crustertype.Message, storage.Cursor) {
			return cloneMessage(m.Message, false), placeOfMessage(m.CreatedAt, m.ID)
		})
}

// Executions lists executions.
func (s *store) Executions(ctx context.Context, f storage.ExecutionFilter) ([]crustertype.Execution, storage.Cursor, error) {
	return list(ctx, s, f.After, f.Limit, func(p place) *execution { return p.execution() },
		func(s *store) *ordered[*execution] { return &s.execLog },
		func(e *execution) bool { return matchExecution(&f, e) },
		func(e *execution) (crustertype.Execution, storage.Cursor) {
			return cloneExecution(e.Execution, false), placeOfExecution(e.CreatedAt, e.ExecutionRef)
		})
}

// list walks a log backwards, letting other calls in between.
func list[T, Out any](ctx context.Context, s *store, after storage.Cursor, limit int, at func(place) T,
	log func(*store) *ordered[T], match func(T) bool, show func(T) (Out, storage.Cursor),
) (out []Out, next storage.Cursor, err error) {
	pos, err := parsePlace(after)
	if err != nil {
		return nil, "", err
	}
	limit = min(limited(limit), defaultLimit)
	from, begin := at(pos), after == ""
	for {
		if err := s.enter(ctx); err != nil {
			return nil, "", err
		}
		set := log(s)
		c := set.last()
		if !begin {
			c = set.below(from)
		}
		more := false
		for range scanStep {
			x, ok := c.get()
			if more = ok; !ok {
				break
			}
			if match(x) {
				if len(out) == limit {
					s.mu.Unlock()
					return out, next, nil
				}
				var o Out
				o, next = show(x)
				out = append(out, o)
			}
			from, begin = x, false
			c.prev()
		}
		s.mu.Unlock()
		if !more {
			return out, "", nil
		}
	}
}

func within(t, from, to time.Time) bool {
	return (from.IsZero() || !t.Before(stamp(from))) && (to.IsZero() || t.Before(stamp(to)))
}

func matchMessage(f *storage.MessageFilter, m *message) bool {
	return (f.Type == "" || m.Address.Type == f.Type) && (f.ID == "" || m.Address.ID == f.ID) &&
		(f.Method == "" || m.Method == f.Method) && (len(f.States) == 0 || slices.Contains(f.States, m.State)) &&
		strings.HasPrefix(m.Key, f.KeyPrefix) && within(m.CreatedAt, f.From, f.To)
}

func matchExecution(f *storage.ExecutionFilter, e *execution) bool {
	if f.Type != "" && e.Type != f.Type || len(f.Statuses) > 0 && !slices.Contains(f.Statuses, e.Status) ||
		!strings.HasPrefix(e.ID, f.IDPrefix) || !strings.HasPrefix(e.Key, f.KeyPrefix) ||
		!strings.HasPrefix(e.WaitingFor, f.WaitingFor) || !within(e.CreatedAt, f.From, f.To) ||
		f.Parent != (crustertype.ExecutionRef{}) && e.Parent != f.Parent {
		return false
	}
	for k, v := range f.Tags {
		if got, ok := e.Tags[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// unfinished are the statuses that Counts reports.
var unfinished = []crustertype.Status{
	crustertype.StatusRunning, crustertype.StatusSuspended, crustertype.StatusParked, crustertype.StatusDead,
}

// Counts returns the numbers that the indexes keep.
func (s *store) Counts(ctx context.Context) (storage.Counts, error) {
	if err := s.enter(ctx); err != nil {
		return storage.Counts{}, err
	}
	defer s.mu.Unlock()
	c := storage.Counts{
		Messages:   make(map[string]map[crustertype.MessageState]int64),
		Executions: make(map[string]map[crustertype.Status]int64),
	}
	for name, k := range s.messageBy {
		put(c.Messages, name, crustertype.MessagePending, k.pending)
		put(c.Messages, name, crustertype.MessageDead, k.dead)
	}
	for name, k := range s.execBy {
		for _, st := range unfinished {
			put(c.Executions, name, st, k.count[st])
		}
	}
	return c, nil
}

func put[K comparable](m map[string]map[K]int64, name string, key K, n int64) {
	if n == 0 {
		return
	}
	if m[name] == nil {
		m[name] = make(map[K]int64)
	}
	m[name][key] = n
}
