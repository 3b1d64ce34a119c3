package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/storage"
)

// InTx runs fn in a transaction on pool and commits it when fn returns nil.
// Persisted sends and workflow starts made with the context that fn gets are
// part of the transaction: they happen if and only if it commits. The owners
// are told right after.
//
// The pool may be any one of the same database. A panic in fn rolls back.
func InTx(ctx context.Context, pool *pgxpool.Pool, s *Store, fn func(ctx context.Context, tx pgx.Tx) error) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	box := &outbox{s: s}
	began := false
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		began = true
		box.tx = tx
		err := fn(storage.WithOutbox(ctx, box), tx)
		box.tx = nil
		if err != nil {
			return ofUser{err}
		}
		return nil
	})
	var user ofUser
	switch {
	case errors.As(err, &user):
		return user.error
	case err != nil:
		return classify(ctx, fmt.Errorf("postgres: transaction: %w", err), began)
	}
	s.commits.Add(1)
	box.tell()
	return nil
}

// ofUser marks what fn returned, which is not ours to classify.
type ofUser struct{ error }

func (e ofUser) Unwrap() error { return e.error }

// Join returns a context with which persisted sends and workflow starts become
// part of tx, a transaction that the caller commits or rolls back. The store
// must be in the same database.
//
// The store cannot see the commit; it asks the server after 1, 2, 4 ... 256
// milliseconds whether the transaction has ended, and tells the owners then.
func Join(ctx context.Context, tx pgx.Tx, s *Store) context.Context {
	return storage.WithOutbox(ctx, &outbox{s: s, tx: tx, watch: true})
}

// outbox writes sends into a transaction of the user's.
type outbox struct {
	s     *Store
	tx    pgx.Tx // nil: over
	watch bool   // nobody tells when tx has committed
	xid   string // of tx, once something was sent

	mu      sync.Mutex
	after   []func()
	watched bool
}

// Send adds the unit's accepts and starts.
func (o *outbox) Send(ctx context.Context, unit storage.Unit) (storage.Result, error) {
	if o.tx == nil {
		return storage.Result{}, fmt.Errorf("postgres: the transaction of this context has ended: %w", storage.ErrTxDone)
	}
	rest := unit
	rest.Accepts, rest.Starts = nil, nil
	s, units := o.s, []storage.Unit{unit}
	w, err := gather([]storage.Unit{rest})
	if err != nil || !w.empty() || len(unit.Leases) > 0 {
		return storage.Result{}, invalid("postgres: an outbox takes accepts and starts only")
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return storage.Result{}, err
	}
	defer leave()
	if w, err = s.gather(ctx, units); err != nil {
		return storage.Result{}, err
	}
	b := new(pgx.Batch)
	in, err := s.queue(ctx, b, w, false)
	if err != nil {
		return storage.Result{}, err
	}
	if o.watch && o.xid == "" {
		b.Queue(s.q.OutboxXid).QueryRow(func(row pgx.Row) error { return row.Scan(&o.xid) })
	}
	if err := o.tx.SendBatch(ctx, b).Close(); err != nil {
		return storage.Result{}, s.refusal(ctx, err, w)
	}
	out, err := s.existing(ctx, o.tx, w, units, in)
	if err != nil {
		return storage.Result{}, err
	}
	s.units.Add(1)
	return out[0], nil
}

// OnCommit registers a call for after the commit.
func (o *outbox) OnCommit(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.after = append(o.after, f)
	if !o.watch || o.watched || o.xid == "" || o.s.hold() != nil {
		return // told by InTx; or already watched; or nothing was sent; or closed, and the owners find it by themselves
	}
	o.watched = true
	go func() {
		defer o.s.calls.Done()
		if o.s.committedXid(o.s.life, o.xid) {
			o.tell()
		}
	}()
}

// tell makes the registered calls.
func (o *outbox) tell() {
	o.mu.Lock()
	after := o.after
	o.after = nil
	o.mu.Unlock()
	for _, f := range after {
		f()
	}
}

const (
	firstLook  = time.Millisecond
	slowLook   = 256 * time.Millisecond
	patientFor = time.Minute // then look once in slowerLook
	slowerLook = 5 * time.Second
)

// committedXid waits until a transaction has ended, and reports whether it has
// committed.
func (s *Store) committedXid(ctx context.Context, xid string) bool {
	begin, pause := time.Now(), firstLook
	for {
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
		var status string
		s.statements.Add(1)
		if err := s.engine.QueryRow(ctx, s.q.OutboxStatus, xid).Scan(&status); err == nil && status != "in progress" {
			return status == "committed"
		}
		if pause = min(2*pause, slowLook); time.Since(begin) > patientFor {
			pause = slowerLook
		}
	}
}
