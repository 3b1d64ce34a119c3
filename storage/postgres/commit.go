package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// txOptions spell the level out: under another default the fence would compare
// with an old snapshot.
var txOptions = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

const (
	begin     = "begin isolation level read committed read write"
	commitTx  = "commit"
	immediate = "set constraints all immediate"
)

// inserted is what the inserts of a transaction found.
type inserted struct {
	plain    bool                           // every row was new
	messages map[crustertype.RequestID]bool // that were new
	starts   map[crustertype.ExecutionRef]bool
}

// Commit applies units in one round trip: BEGIN, one statement for each sort of
// write, the fence, COMMIT.
func (s *Store) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	w, err := s.gather(ctx, units)
	if err != nil {
		return nil, err
	}
	return s.commit(ctx, w, units)
}

// gather is [gather] with the fences.
func (s *Store) gather(ctx context.Context, units []storage.Unit) (*writes, error) {
	w, err := gather(units)
	if err != nil {
		return nil, err
	}
	w.fences, err = s.fencesOf(units, s.numbers(ctx))
	return w, err
}

func (s *Store) numbers(ctx context.Context) numbers {
	return func(shard crustertype.Shard) (int32, error) { return s.numberOf(ctx, shard) }
}

func (s *Store) commit(ctx context.Context, w *writes, units []storage.Unit) ([]storage.Result, error) {
	if w.empty() {
		return s.results(ctx, w, units, &inserted{plain: true})
	}
	conn, err := s.engine.Acquire(ctx)
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("postgres: connect for a commit: %w", err), false)
	}
	in, err := s.send(ctx, conn, w, w.fresh())
	if isDuplicate(err) {
		in, err = s.send(ctx, conn, w, false)
	}
	conn.Release()
	if err != nil {
		return nil, s.refusal(ctx, err, w)
	}
	s.commits.Add(1)
	return s.results(ctx, w, units, in)
}

// send sends the transaction. After an error nothing is left open on conn.
func (s *Store) send(ctx context.Context, conn *pgxpool.Conn, w *writes, plain bool) (*inserted, error) {
	b := new(pgx.Batch)
	b.Queue(begin)
	in, err := s.queue(ctx, b, w, plain)
	if err != nil {
		return nil, err
	}
	s.queueEnd(b, w)
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		rollback(ctx, conn)
		return nil, err
	}
	return in, nil
}

// rollback ends a failed transaction, so that the connection can be kept. When
// that fails, or there is nothing to save, the pool throws it away.
func rollback(ctx context.Context, conn *pgxpool.Conn) {
	if c := conn.Conn(); !c.IsClosed() && c.PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, "rollback")
	}
}

// queue adds the statements that write, in the order of the fields of a unit.
func (s *Store) queue(ctx context.Context, b *pgx.Batch, w *writes, plain bool) (*inserted, error) {
	in := &inserted{plain: plain}
	var err error
	add := func(rows int, sql string, args func() ([]any, error)) *pgx.QueuedQuery {
		if rows == 0 || err != nil {
			return nil
		}
		var a []any
		if a, err = args(); err != nil {
			return nil
		}
		s.statements.Add(1)
		if one := s.q.one[sql]; rows == 1 && one != sql {
			sql, a = one, scalars(a)
		}
		return b.Queue(sql, a...)
	}
	if w.looksUp() {
		b.Queue(s.q.ByIndex)
	}
	accept, start := s.q.Accept, s.q.Start
	if plain {
		accept, start = s.q.AcceptPlain, s.q.StartPlain
	}
	if qq := add(len(w.accepts), accept, func() ([]any, error) { return acceptArgs(w.accepts, s.numbers(ctx)) }); qq != nil && !plain {
		qq.Query(in.readMessages)
	}
	if qq := add(len(w.starts), start, func() ([]any, error) { return startArgs(w.starts, s.numbers(ctx)) }); qq != nil && !plain {
		qq.Query(in.readStarts)
	}
	add(len(w.adopts), s.q.Adopt, func() ([]any, error) {
		return []any{
			column(w.adopts, func(a *storage.Adopt) pgtype.UUID { return uuid(a.ID) }),
			column(w.adopts, func(a *storage.Adopt) int64 { return a.Seq }),
		}, nil
	})
	add(len(w.attempts), s.q.Attempt, func() ([]any, error) {
		n, err := checked(w.attempts, func(a *storage.Attempt) (int32, error) { return narrow("attempts", a.N) })
		return []any{column(w.attempts, func(a *storage.Attempt) pgtype.UUID { return uuid(a.ID) }), n}, err
	})
	add(len(w.finishes), s.q.Finish, func() ([]any, error) { return finishArgs(w.finishes) })
	add(len(w.steps), s.q.Step, func() ([]any, error) { return stepArgs(w.steps) })
	add(len(w.seen), s.q.CancelSeen, func() ([]any, error) {
		runs, err := checked(w.seen, func(w *storage.StepWrite) (int32, error) { return narrow("run", w.Step.Run) })
		return []any{
			column(w.seen, func(w *storage.StepWrite) string { return w.Type }),
			column(w.seen, func(w *storage.StepWrite) string { return w.ID }), runs,
		}, err
	})
	add(len(w.updates), s.q.Update, func() ([]any, error) { return updateArgs(w.updates) })
	add(len(w.cancels), s.q.Cancel, func() ([]any, error) { return cancelArgs(w.cancels), nil })
	add(len(w.schedules), s.q.Schedule, func() ([]any, error) { return scheduleArgs(w.schedules, s.numbers(ctx)) })
	return in, err
}

// queueEnd adds the fence and COMMIT.
func (s *Store) queueEnd(b *pgx.Batch, w *writes) {
	for _, f := range w.fences {
		s.queueFence(b, f)
	}
	b.Queue(commitTx).Exec(committed)
}

// committed compares the command tag: COMMIT of a failed transaction rolls
// back, and is no error.
func committed(tag pgconn.CommandTag) error {
	if tag.String() != "COMMIT" {
		return fmt.Errorf("postgres: commit ended in %s: %w", tag, errRolledBack)
	}
	return nil
}

var errRolledBack = errors.New("transaction was rolled back")

func (in *inserted) readMessages(rows pgx.Rows) error {
	var id pgtype.UUID
	in.messages = make(map[crustertype.RequestID]bool)
	_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
		in.messages[id.Bytes] = true
		return nil
	})
	return err
}

func (in *inserted) readStarts(rows pgx.Rows) error {
	var ref crustertype.ExecutionRef
	in.starts = make(map[crustertype.ExecutionRef]bool)
	_, err := pgx.ForEachRow(rows, []any{&ref.Type, &ref.ID}, func() error {
		in.starts[ref] = true
		return nil
	})
	return err
}

// results reads the rows that inserts met, with a statement of their own after
// the commit and only when there are any.
func (s *Store) results(ctx context.Context, w *writes, units []storage.Unit, in *inserted) ([]storage.Result, error) {
	out, err := s.existing(ctx, s.engine, w, units, in)
	if err == nil {
		s.units.Add(int64(len(units)))
	}
	return out, err
}

func (s *Store) existing(ctx context.Context, db querier, w *writes, units []storage.Unit, in *inserted) ([]storage.Result, error) {
	out := make([]storage.Result, len(units))
	if err := s.existingMessages(ctx, db, w, units, in, out); err != nil {
		return nil, err
	}
	return out, s.existingExecutions(ctx, db, w, units, in, out)
}

func (s *Store) existingMessages(ctx context.Context, db querier, w *writes, units []storage.Unit, in *inserted, out []storage.Result) error {
	note := func(f from, m crustertype.Message) {
		r := &out[f.unit]
		if r.Accepts == nil {
			r.Accepts = make([]storage.AcceptResult, len(units[f.unit].Accepts))
		}
		r.Accepts[f.entry].Existing = &m
	}
	stored := make(map[crustertype.RequestID]crustertype.Message)
	if !in.plain && len(in.messages) < len(w.accepts) {
		var missing []pgtype.UUID
		for _, r := range w.accepts {
			if !in.messages[r.v.ID] {
				missing = append(missing, uuid(r.v.ID))
			}
		}
		found, err := query(ctx, s, db, s.scanMessage, s.q.ExistingMessages, missing)
		if err != nil {
			return afterCommit(err)
		}
		for _, m := range found {
			stored[m.ID] = m
		}
		for _, r := range w.accepts {
			if m, ok := stored[r.v.ID]; ok {
				note(r.from, m)
			} else if !in.messages[r.v.ID] {
				return errVanished
			}
		}
	}
	for _, r := range w.again {
		m, ok := stored[w.accepts[r.first].v.ID]
		if !ok {
			m = asStored(*w.accepts[r.first].v)
		}
		note(r.from, m)
	}
	return nil
}

func (s *Store) existingExecutions(ctx context.Context, db querier, w *writes, units []storage.Unit, in *inserted, out []storage.Result) error {
	note := func(f from, e crustertype.Execution) {
		r := &out[f.unit]
		if r.Starts == nil {
			r.Starts = make([]storage.StartResult, len(units[f.unit].Starts))
		}
		r.Starts[f.entry].Existing = &e
	}
	stored := make(map[crustertype.ExecutionRef]crustertype.Execution)
	missing := len(w.restarts) > 0 // what an earlier start of this commit has become, its updates say
	if !in.plain && len(in.starts) < len(w.starts) || missing {
		var types, ids []string
		for _, r := range w.starts {
			if !in.plain && !in.starts[r.v.ExecutionRef] || missing {
				types, ids = append(types, r.v.Type), append(ids, r.v.ID)
			}
		}
		found, err := query(ctx, s, db, s.scanExecution, s.q.ExistingExecutions, types, ids)
		if err != nil {
			return afterCommit(err)
		}
		for _, e := range found {
			stored[e.ExecutionRef] = e
		}
	}
	for _, r := range w.starts {
		if in.plain || in.starts[r.v.ExecutionRef] {
			continue
		}
		e, ok := stored[r.v.ExecutionRef]
		if !ok {
			return errVanished
		}
		note(r.from, e)
	}
	for _, r := range w.restarts {
		e, ok := stored[w.starts[r.first].v.ExecutionRef]
		if !ok {
			return errVanished
		}
		note(r.from, e)
	}
	return nil
}

// errVanished reports a row that an insert met and that was deleted before it
// could be read. Sent again, the insert will find its place free.
var errVanished = &storage.TransientError{Err: errors.New("postgres: a stored row was deleted while it was read"), Unknown: true}

// afterCommit marks an error of a read that follows the commit it belongs to.
func afterCommit(err error) error {
	var t *storage.TransientError
	if errors.As(err, &t) {
		return &storage.TransientError{Err: t.Err, Unknown: true}
	}
	return err
}

// asStored returns a message as it reads back, without Payload.
func asStored(m crustertype.Message) crustertype.Message {
	m.Payload = nil
	m.Meta = slices.Clone(nullBytes(m.Meta))
	m.DeliverAt, m.CreatedAt, m.FinishedAt = stamp(m.DeliverAt), stamp(m.CreatedAt), stamp(m.FinishedAt)
	m.Outcome.Payload = slices.Clone(nullBytes(m.Outcome.Payload))
	return m
}
