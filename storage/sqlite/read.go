package sqlite

import (
	"bytes"
	"cmp"
	"context"
	_ "embed" // the statements
	"encoding/json"
	"slices"
	"strings"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

var (
	//go:embed query/pending_adopted.sql
	pendingAdopted string
	//go:embed query/pending_unadopted.sql
	pendingUnadopted string
	//go:embed query/pending_due.sql
	pendingDue string
	//go:embed query/pending_entity.sql
	pendingEntity string
	//go:embed query/pending_entity_unadopted.sql
	pendingEntityUnadopted string
	//go:embed query/runnable.sql
	runnable string
	//go:embed query/timers_message.sql
	timersMessage string
	//go:embed query/timers_wake.sql
	timersWake string
	//go:embed query/timers_cancel.sql
	timersCancel string
)

const (
	selectMessage   = `SELECT ` + messageColumns + ` FROM cruster_message WHERE id = ?`
	selectExecution = `SELECT ` + executionColumns + ` FROM cruster_execution WHERE type = ? AND id = ?`
	selectSteps     = `SELECT ` + stepColumns + ` FROM cruster_step
	WHERE execution = (SELECT num FROM cruster_execution WHERE type = ? AND id = ?) AND run = ? ORDER BY pos`
	selectSchedules = `SELECT ` + scheduleColumns + ` FROM cruster_schedule WHERE kind = ? ORDER BY name`
)

const defaultLimit = 1000

func limited(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return n
}

// selection is a query of a .sql file, with the columns filled in, as it reads
// for all shards and for some.
type selection struct{ all, some string }

func newSelection(text, columns string) selection {
	text = strings.Replace(text, "/*columns*/", columns, 1)
	return selection{
		all:  strings.Replace(text, "/*shards*/", "", 1),
		some: strings.Replace(text, "/*shards*/", "AND shard IN (SELECT value FROM json_each(?))", 1),
	}
}

var (
	adoptedQuery         = newSelection(pendingAdopted, messageColumns)
	unadoptedQuery       = newSelection(pendingUnadopted, messageColumns)
	dueQuery             = newSelection(pendingDue, messageColumns)
	entityQuery          = newSelection(pendingEntity, messageColumns)
	entityUnadoptedQuery = newSelection(pendingEntityUnadopted, messageColumns)
	runnableQuery        = newSelection(runnable, executionNoBody)
	timersMessageQuery   = newSelection(timersMessage, "")
	timersWakeQuery      = newSelection(timersWake, "")
	timersCancelQuery    = newSelection(timersCancel, "")
)

// query runs the form for shards. The arguments but shards and limit come first.
func (q selection) query(ctx context.Context, c *conn, shards []crustertype.Shard, limit int, each func(r *row) error, args ...any) error {
	if shards == nil {
		return c.query(ctx, q.all, each, append(args, limit)...)
	}
	names := make([]string, len(shards))
	for i, sh := range shards {
		names[i] = sh.String()
	}
	list, err := json.Marshal(names)
	if err != nil {
		return err
	}
	return c.query(ctx, q.some, each, append(args, string(list), limit)...)
}

// Message returns one message.
func (s *Store) Message(ctx context.Context, id crustertype.RequestID) (crustertype.Message, error) {
	return one(ctx, s, readMessage, selectMessage, id[:])
}

// Execution returns one execution.
func (s *Store) Execution(ctx context.Context, ref crustertype.ExecutionRef) (crustertype.Execution, error) {
	return one(ctx, s, readExecution, selectExecution, ref.Type, ref.ID)
}

// Steps returns one journal.
func (s *Store) Steps(ctx context.Context, ref crustertype.ExecutionRef, run int) ([]crustertype.Step, error) {
	return all(ctx, s, readStep, selectSteps, ref.Type, ref.ID, run)
}

// Schedule returns one schedule.
func (s *Store) Schedule(ctx context.Context, kind crustertype.ScheduleKind, name string) (crustertype.Schedule, error) {
	return one(ctx, s, readSchedule, selectSchedule, int(kind), name)
}

// Schedules returns all schedules of a kind.
func (s *Store) Schedules(ctx context.Context, kind crustertype.ScheduleKind) ([]crustertype.Schedule, error) {
	return all(ctx, s, readSchedule, selectSchedules, int(kind))
}

// all returns the records of a query.
func all[T any](ctx context.Context, s *Store, scan func(*row) T, query string, args ...any) ([]T, error) {
	return read(ctx, s, func(ctx context.Context, c *conn) (out []T, err error) {
		err = c.query(ctx, query, appendTo(&out, scan), args...)
		return out, err
	})
}

// one returns the record of a query, or ErrNotFound.
func one[T any](ctx context.Context, s *Store, scan func(*row) T, query string, args ...any) (T, error) {
	var none T
	out, err := all(ctx, s, scan, query, args...)
	switch {
	case err != nil:
		return none, err
	case len(out) == 0:
		return none, storage.ErrNotFound
	}
	return out[0], nil
}

func appendTo[T any](out *[]T, scan func(*row) T) func(*row) error {
	return func(r *row) error {
		*out = append(*out, scan(r))
		return nil
	}
}

// Pending returns messages to be delivered.
func (s *Store) Pending(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
	return read(ctx, s, func(ctx context.Context, c *conn) (out []crustertype.Message, err error) {
		limit, now, each := limited(q.Limit), micros(q.Now), appendTo(&out, readMessage)
		if q.AfterSeq == 0 {
			q.AfterID = lastID // do not walk over the unadopted ones
		}
		switch entity := !q.Address.IsZero(); {
		case entity && q.Unadopted:
			err = entityUnadoptedQuery.query(ctx, c, q.Shards, limit, each, q.Address.Type, q.Address.ID, now)
		case entity:
			err = entityQuery.query(ctx, c, q.Shards, limit, each, q.Address.Type, q.Address.ID, q.AfterSeq, q.AfterID[:], now)
		case q.Unadopted:
			if err = unadoptedQuery.query(ctx, c, q.Shards, limit, each); err != nil {
				return nil, err
			}
			at := len(out)
			if err = dueQuery.query(ctx, c, q.Shards, limit, each, now); err == nil && at > 0 && at < len(out) {
				slices.SortFunc(out, func(a, b crustertype.Message) int { return bytes.Compare(a.ID[:], b.ID[:]) })
			}
			out = out[:min(len(out), limit)]
		default:
			err = adoptedQuery.query(ctx, c, q.Shards, limit, each, q.AfterSeq, q.AfterID[:], now)
		}
		return out, err
	})
}

// Runnable returns executions to be run.
func (s *Store) Runnable(ctx context.Context, shards []crustertype.Shard, after storage.Cursor, limit int) ([]crustertype.Execution, storage.Cursor, error) {
	pos, err := parsePlace(after)
	if err != nil {
		return nil, "", err
	}
	limit = limited(limit)
	out, err := read(ctx, s, func(ctx context.Context, c *conn) (out []crustertype.Execution, err error) {
		err = runnableQuery.query(ctx, c, shards, limit+1, appendTo(&out, readExecution), pos.at, pos.ref.Type, pos.ref.ID)
		return out, err
	})
	if len(out) <= limit {
		return out, "", err
	}
	out = out[:limit]
	return out, placeOfExecution(&out[limit-1]).cursor(), nil
}

// due is a timer with what its order needs.
type due struct {
	place
	shard crustertype.Shard
}

// compareDue orders timers by time; at one time executions come first.
func compareDue(a, b due) int {
	if c := cmp.Compare(a.at, b.at); c != 0 {
		return c
	}
	if a.isExecution() != b.isExecution() {
		if a.isExecution() {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.ref.Type, b.ref.Type), cmp.Compare(a.ref.ID, b.ref.ID), bytes.Compare(a.id[:], b.id[:]))
}

// Timers returns what becomes due.
func (s *Store) Timers(ctx context.Context, q storage.TimerQuery) ([]storage.Timer, storage.Cursor, error) {
	pos, err := parsePlace(q.Cursor)
	if err != nil {
		return nil, "", err
	}
	if q.Cursor == "" {
		pos = place{at: micros(q.After), id: lastID}
	}
	limit, until := limited(q.Limit), micros(q.Until)
	found, err := read(ctx, s, func(ctx context.Context, c *conn) (out []due, err error) {
		message := func(r *row) error {
			d := due{place: place{at: r.int64()}, shard: r.shard()}
			d.id = crustertype.RequestID(r.blob16())
			out = append(out, d)
			return nil
		}
		execution := func(r *row) error {
			d := due{place: place{at: r.int64()}, shard: r.shard()}
			d.ref = crustertype.ExecutionRef{Type: r.text(), ID: r.text()}
			out = append(out, d)
			return nil
		}
		ref, id := pos.ref, pos.id // where each sort of timers goes on
		if !pos.isExecution() {
			ref = lastRef
		}
		if err := timersWakeQuery.query(ctx, c, q.Shards, limit+1, execution, pos.at, ref.Type, ref.ID, until); err != nil {
			return nil, err
		}
		if err := timersCancelQuery.query(ctx, c, q.Shards, limit+1, execution, pos.at, ref.Type, ref.ID, until); err != nil {
			return nil, err
		}
		return out, timersMessageQuery.query(ctx, c, q.Shards, limit+1, message, pos.at, id[:], until)
	})
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(found, compareDue)
	found = slices.CompactFunc(found, func(a, b due) bool { return a.place == b.place })
	next := storage.Cursor("")
	if len(found) > limit {
		found = found[:limit]
		next = found[limit-1].cursor()
	}
	out := make([]storage.Timer, len(found))
	for i, d := range found {
		out[i] = storage.Timer{At: fromMicros(d.at), Shard: d.shard, Message: d.id, Execution: d.ref}
	}
	return out, next, nil
}
