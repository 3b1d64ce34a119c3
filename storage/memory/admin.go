package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// smallOutcome is how large an outcome a tombstone keeps.
const smallOutcome = 1024

// dead returns a dead letter.
func (s *store) dead(id crustertype.RequestID) (*message, error) {
	m := s.messages[id]
	if m == nil || m.State != crustertype.MessageDead {
		return nil, fmt.Errorf("no dead letter has ID %s: %w", id, storage.ErrNotFound)
	}
	return m, nil
}

// RetryMessage makes a dead letter pending.
func (s *store) RetryMessage(ctx context.Context, id crustertype.RequestID) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	m, err := s.dead(id)
	if err != nil {
		return err
	}
	m.unindex()
	m.State, m.Seq, m.Attempts = crustertype.MessagePending, 0, 0
	m.Outcome, m.FinishedAt = crustertype.Outcome{}, time.Time{}
	m.index()
	return nil
}

// DiscardMessage deletes a dead letter.
func (s *store) DiscardMessage(ctx context.Context, id crustertype.RequestID) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	m, err := s.dead(id)
	if err != nil {
		return err
	}
	s.dropMessage(m)
	return nil
}

// RetryExecution makes an execution running again.
func (s *store) RetryExecution(ctx context.Context, ref crustertype.ExecutionRef, at time.Time) (crustertype.Execution, error) {
	if err := s.enter(ctx); err != nil {
		return crustertype.Execution{}, err
	}
	defer s.mu.Unlock()
	e := s.execs[ref]
	if e == nil || e.Status.Final() && !has(&e.kind.finished, e) {
		return crustertype.Execution{}, fmt.Errorf("execution %s does not exist any more or never did: %w", ref, storage.ErrNotFound)
	}
	next := e.Status == crustertype.StatusFailed || e.Status == crustertype.StatusCancelled || e.Status == crustertype.StatusTerminated
	if !next && e.Status != crustertype.StatusParked && e.Status != crustertype.StatusDead {
		return crustertype.Execution{}, fmt.Errorf("execution %s is %s: only failed, cancelled, terminated, parked and dead ones are retried: %w",
			ref, e.Status, storage.ErrConflict)
	}
	e.unindex()
	if next {
		e.Run++
		e.CancelReason, e.CancelAt, e.cancelSeen = "", time.Time{}, false
	}
	e.Status, e.Attempts, e.WakeAt, e.WaitingFor = crustertype.StatusRunning, 0, time.Time{}, ""
	e.Outcome, e.UpdatedAt, e.FinishedAt = crustertype.Outcome{}, stamp(at), time.Time{}
	e.index()
	return cloneExecution(e.Execution, true), nil
}

func has[T any](o *ordered[T], x T) bool {
	_, _, found := o.search(x)
	return found
}

// Purge removes finished items.
func (s *store) Purge(ctx context.Context, p storage.Purge) (int, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	limit, n := limited(p.Limit), 0
	for inc, r := range s.runners {
		if n < limit && !s.alive(r) {
			delete(s.runners, inc)
			n++
		}
	}
	before, keysBefore := stamp(p.Before), stamp(p.KeysBefore)
	for name, k := range s.messageBy {
		if !selected(p.Messages, name) {
			continue
		}
		finished := func(m *message) time.Time { return m.FinishedAt }
		n += purge(&k.finished, limit-n, finished, before, func(m *message) {
			if m.Key == "" {
				s.dropMessage(m)
				return
			}
			k.finished.remove(m)
			m.Payload, m.Meta, m.Outcome = nil, nil, remains(m.Outcome)
			k.tombs.insert(m)
		})
		n += purge(&k.tombs, limit-n, finished, keysBefore, s.dropMessage)
	}
	for name, k := range s.execBy {
		if !selected(p.Executions, name) {
			continue
		}
		finished := func(e *execution) time.Time { return e.FinishedAt }
		n += purge(&k.finished, limit-n, finished, before, func(e *execution) {
			if e.Key == "" {
				s.dropExecution(e)
				return
			}
			k.finished.remove(e)
			e.Input, e.Meta, e.runs, e.Outcome = nil, nil, nil, remains(e.Outcome)
			k.tombs.insert(e)
		})
		n += purge(&k.tombs, limit-n, finished, keysBefore, s.dropExecution)
	}
	return n, nil
}

// purge calls remove, which takes it out of o, for what finished before a time,
// the oldest first, at most limit times. It returns how often.
func purge[T any](o *ordered[T], limit int, finished func(T) time.Time, before time.Time, remove func(T)) (n int) {
	for ; n < limit; n++ {
		c := o.first()
		x, ok := c.get()
		if !ok || !finished(x).Before(before) {
			break
		}
		remove(x)
	}
	return n
}

// selected reports whether name is among types, or types is AllTypes.
func selected(types []string, name string) bool {
	return slices.Contains(types, name) || len(types) == 1 && types[0] == storage.AllTypes[0]
}

// remains returns what a tombstone keeps of o.
func remains(o crustertype.Outcome) crustertype.Outcome {
	if len(crustertype.EncodeOutcome(o)) > smallOutcome {
		return crustertype.Outcome{}
	}
	return o
}
