package memory

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

const defaultLimit = 1000

func limited(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return n
}

// Message returns one message.
func (s *store) Message(ctx context.Context, id crustertype.RequestID) (crustertype.Message, error) {
	if err := s.enter(ctx); err != nil {
		return crustertype.Message{}, err
	}
	defer s.mu.Unlock()
	m := s.messages[id]
	if m == nil {
		return crustertype.Message{}, storage.ErrNotFound
	}
	return cloneMessage(m.Message, true), nil
}

// Execution returns one execution.
func (s *store) Execution(ctx context.Context, ref crustertype.ExecutionRef) (crustertype.Execution, error) {
	if err := s.enter(ctx); err != nil {
		return crustertype.Execution{}, err
	}
	defer s.mu.Unlock()
	e := s.execs[ref]
	if e == nil {
		return crustertype.Execution{}, storage.ErrNotFound
	}
	return cloneExecution(e.Execution, true), nil
}

// Steps returns one journal.
func (s *store) Steps(ctx context.Context, ref crustertype.ExecutionRef, run int) ([]crustertype.Step, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	e := s.execs[ref]
	if e == nil {
		return nil, nil
	}
	r, ok := e.journal(run)
	if !ok {
		return nil, nil
	}
	steps := make([]crustertype.Step, len(e.runs[r].steps))
	for i, st := range e.runs[r].steps {
		steps[i] = cloneStep(*st)
	}
	return steps, nil
}

// each calls f for the shards asked for, once each; nil means all.
func (s *store) each(ids []crustertype.Shard, f func(*shard)) {
	if ids == nil {
		for _, sh := range s.shards {
			f(sh)
		}
		return
	}
	seen := make(map[crustertype.Shard]bool, len(ids))
	for _, id := range ids {
		if sh := s.shards[id]; sh != nil && (len(ids) == 1 || !seen[id]) {
			seen[id] = true
			f(sh)
		}
	}
}

// Pending returns messages to be delivered.
func (s *store) Pending(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	now := stamp(q.Now)
	after := &message{Message: crustertype.Message{ID: q.AfterID, Seq: q.AfterSeq}}
	var from []cursor[*message]
	s.each(q.Shards, func(sh *shard) {
		sh.advance(now)
		adopted, unadopted := &sh.adopted, &sh.unadopted
		if !q.Address.IsZero() {
			b := sh.backlogOf(q.Address)
			if b == nil {
				return
			}
			adopted, unadopted = &b.adopted, &b.unadopted
		}
		if q.Unadopted {
			from = append(from, unadopted.first())
		} else {
			from = append(from, adopted.above(after))
		}
	})
	var out []crustertype.Message
	limit := limited(q.Limit)
	for m := range merge(bySeq, from) {
		if m.DeliverAt.After(now) { // an earlier query had a later time
			continue
		}
		out = append(out, cloneMessage(m.Message, true))
		if len(out) == limit {
			break
		}
	}
	return out, nil
}

// Runnable returns executions to be run.
func (s *store) Runnable(ctx context.Context, shards []crustertype.Shard, after storage.Cursor, limit int) ([]crustertype.Execution, storage.Cursor, error) {
	pos, err := parsePlace(after)
	if err != nil {
		return nil, "", err
	}
	if err := s.enter(ctx); err != nil {
		return nil, "", err
	}
	defer s.mu.Unlock()
	limit = limited(limit)
	from := make([]cursor[*execution], 0, max(len(shards), 8))
	s.each(shards, func(sh *shard) {
		if after == "" {
			from = append(from, sh.runnable.first())
		} else {
			from = append(from, sh.runnable.above(pos.execution()))
		}
	})
	var out []crustertype.Execution
	for e := range merge(byExecutionCreation, from) {
		if len(out) == limit {
			return out, placeOfExecution(out[limit-1].CreatedAt, out[limit-1].ExecutionRef), nil
		}
		out = append(out, cloneExecution(e.Execution, false))
	}
	return out, "", nil
}

// Timers returns what becomes due.
func (s *store) Timers(ctx context.Context, q storage.TimerQuery) ([]storage.Timer, storage.Cursor, error) {
	pos, err := parsePlace(q.Cursor)
	if err != nil {
		return nil, "", err
	}
	if err := s.enter(ctx); err != nil {
		return nil, "", err
	}
	defer s.mu.Unlock()
	start, until, limit := timer{at: stamp(q.After), m: lastMessage}, stamp(q.Until), limited(q.Limit)
	if q.Cursor != "" {
		start = pos.timer()
	}
	var from []cursor[timer]
	s.each(q.Shards, func(sh *shard) { from = append(from, sh.timers.above(start)) })
	var out []storage.Timer
	var last timer
	for t := range merge(byDue, from) {
		if t.at.After(until) {
			break
		}
		if len(out) == limit {
			return out, placeOfTimer(last), nil
		}
		last = t
		if t.m != nil {
			out = append(out, storage.Timer{At: t.at, Shard: t.m.Shard, Message: t.m.ID})
		} else {
			out = append(out, storage.Timer{At: t.at, Shard: t.e.Shard, Execution: t.e.ExecutionRef})
		}
	}
	return out, "", nil
}

// Schedule returns one schedule.
func (s *store) Schedule(ctx context.Context, kind crustertype.ScheduleKind, name string) (crustertype.Schedule, error) {
	if err := s.enter(ctx); err != nil {
		return crustertype.Schedule{}, err
	}
	defer s.mu.Unlock()
	sc := s.schedules[scheduleKey{kind, name}]
	if sc == nil {
		return crustertype.Schedule{}, storage.ErrNotFound
	}
	return cloneSchedule(*sc), nil
}

// Schedules returns all schedules of a kind.
func (s *store) Schedules(ctx context.Context, kind crustertype.ScheduleKind) ([]crustertype.Schedule, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []crustertype.Schedule
	for key, sc := range s.schedules {
		if key.kind == kind {
			out = append(out, cloneSchedule(*sc))
		}
	}
	slices.SortFunc(out, func(a, b crustertype.Schedule) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// place is the position of one item in an order: a time, and what tells items
// of the same time apart.
type place struct {
	at  time.Time
	id  crustertype.RequestID
	ref crustertype.ExecutionRef // set when id is not
}

func (p place) message() *message {
	return &message{Message: crustertype.Message{ID: p.id, CreatedAt: p.at}}
}

func (p place) execution() *execution {
	return &execution{Execution: crustertype.Execution{ExecutionRef: p.ref, CreatedAt: p.at}}
}

func (p place) timer() timer {
	if p.ref == (crustertype.ExecutionRef{}) {
		return timer{at: p.at, m: p.message()}
	}
	return timer{at: p.at, e: p.execution()}
}

func placeOfTimer(t timer) storage.Cursor {
	if t.m != nil {
		return placeOfMessage(t.at, t.m.ID)
	}
	return placeOfExecution(t.at, t.e.ExecutionRef)
}

func placeOfMessage(at time.Time, id crustertype.RequestID) storage.Cursor {
	return storage.Cursor(formatTime(at) + "/m/" + hex.EncodeToString(id[:]))
}

func placeOfExecution(at time.Time, ref crustertype.ExecutionRef) storage.Cursor {
	return storage.Cursor(formatTime(at) + "/e/" + strconv.Itoa(len(ref.Type)) + "/" + ref.Type + ref.ID)
}

// formatTime writes seconds and microseconds: the zero time has them as well.
func formatTime(t time.Time) string {
	return strconv.FormatInt(t.Unix(), 10) + "." + strconv.Itoa(t.Nanosecond()/1000)
}

func parsePlace(c storage.Cursor) (place, error) {
	if c == "" {
		return place{}, nil
	}
	bad := crustertype.Errorf(crustertype.CodeInvalid, "cursor %q was not made by this store: begin with the empty one", string(c))
	when, rest, _ := strings.Cut(string(c), "/")
	kind, rest, _ := strings.Cut(rest, "/")
	secs, micros, _ := strings.Cut(when, ".")
	sec, err1 := strconv.ParseInt(secs, 10, 64)
	usec, err2 := strconv.ParseInt(micros, 10, 32)
	if err1 != nil || err2 != nil {
		return place{}, bad
	}
	p := place{at: time.Unix(sec, usec*1000).UTC()}
	switch kind {
	case "m":
		b, err := hex.DecodeString(rest)
		if err != nil || len(b) != len(p.id) {
			return place{}, bad
		}
		p.id = crustertype.RequestID(b)
	case "e":
		length, rest, _ := strings.Cut(rest, "/")
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 || n > len(rest) {
			return place{}, bad
		}
		p.ref = crustertype.ExecutionRef{Type: rest[:n], ID: rest[n:]}
	default:
		return place{}, bad
	}
	return p, nil
}
