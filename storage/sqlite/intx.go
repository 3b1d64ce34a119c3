package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// Transaction is a transaction with the methods of [sql.Tx] that run
// statements. It is valid until the handler, activity or function it was given
// to returns, and is used by one goroutine at a time. How it ends is decided by
// what that returns; ending it by hand is refused.
type Transaction struct{ t *txn }

type transactionKey struct{}

// Tx returns the transaction of the persisted handler, the activity or the
// [InTx] that ctx belongs to. It is the one that cruster.Tx(ctx) executes
// statements in.
func Tx(ctx context.Context) (*Transaction, error) {
	if tx, ok := ctx.Value(transactionKey{}).(*Transaction); ok {
		return tx, nil
	}
	st, err := storage.TxFrom(ctx)
	if err != nil {
		return nil, err
	}
	for {
		switch v := st.(type) {
		case *txn:
			return &Transaction{v}, nil
		case interface{ Unwrap() storage.Tx }:
			st = v.Unwrap()
		default:
			return nil, crustertype.Errorf(crustertype.CodeInvalid,
				"the transaction is a %T, not one of SQLite: the service was not given the store of sqlite.Open", st)
		}
	}
}

// ExecContext runs a statement.
func (x *Transaction) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	if err := x.t.ready(ctx); err != nil {
		return nil, err
	}
	return x.t.exec(ctx, query, args)
}

// QueryContext runs a query. The caller closes the rows.
func (x *Transaction) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	if err := x.t.ready(ctx); err != nil {
		return nil, err
	}
	rows, err := x.t.s.w.sc.QueryContext(x.track(ctx), query, args...)
	if err != nil {
		return nil, x.t.failed(ctx, err)
	}
	return rows, nil
}

// QueryRowContext runs a query of which the first row is wanted. Its Scan
// returns [sql.ErrNoRows] when there is none.
func (x *Transaction) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	if err := x.t.ready(ctx); err != nil {
		return x.t.s.w.sc.QueryRowContext(brokenContext{ctx, err}, query)
	}
	row := x.t.s.w.sc.QueryRowContext(x.track(ctx), query, args...)
	if err := row.Err(); err != nil {
		if why := x.t.failed(ctx, err); why != err { //nolint:errorlint // whether it is another value
			return x.t.s.w.sc.QueryRowContext(brokenContext{ctx, why}, query)
		}
	}
	return row
}

// PrepareContext compiles a statement. The caller closes it.
func (x *Transaction) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	if err := x.t.ready(ctx); err != nil {
		return nil, err
	}
	st, err := x.t.s.w.sc.PrepareContext(ctx, query)
	if err != nil {
		return nil, x.t.failed(ctx, err)
	}
	return st, nil
}

// track returns a context for rows that end with the transaction.
func (x *Transaction) track(ctx context.Context) context.Context {
	x.t.s.statements.Add(1)
	ctx, cancel := x.t.while(ctx)
	x.t.cancels = append(x.t.cancels, cancel)
	return ctx
}

// Commit is refused.
func (x *Transaction) Commit() error {
	return fmt.Errorf("return nil to commit the transaction: %w", storage.ErrTxDone)
}

// Rollback is refused.
func (x *Transaction) Rollback() error {
	return fmt.Errorf("return an error to roll the transaction back: %w", storage.ErrTxDone)
}

// brokenContext is how an error gets into a [sql.Row].
type brokenContext struct {
	context.Context
	err error
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done returns a closed channel.
func (b brokenContext) Done() <-chan struct{} { return closedChan }

// Err returns the error.
func (b brokenContext) Err() error { return b.err }

// InTx runs fn in a transaction of the program's own and commits it when fn
// returns nil. An error or a panic of fn rolls it back. What fn sends through
// cruster with the context it is given is stored in the transaction, and so is
// delivered if and only if it commits.
//
// All other writers wait meanwhile, so fn does not wait for any of them. In a
// persisted handler or an activity use its own transaction instead.
func InTx(ctx context.Context, s *Store, fn func(ctx context.Context, tx *Transaction) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.acquireForUser(ctx); err != nil {
		return err
	}
	t := &txn{s: s}
	if err := t.begin(ctx); err != nil {
		return err
	}
	box := &outbox{tx: t}
	if err := box.run(ctx, fn); err != nil {
		return err
	}
	for _, f := range box.hooks {
		f()
	}
	return nil
}

// acquireForUser waits for the turn. Within a handler that has the turn itself
// it would wait for ever.
func (s *Store) acquireForUser(ctx context.Context) error {
	if ctx.Value(storage.TxKey{}) == nil && ctx.Value(transactionKey{}) == nil {
		return s.w.acquire(ctx)
	}
	wctx, cancel := context.WithTimeout(ctx, defaultBusyTimeout)
	defer cancel()
	err := s.w.acquire(wctx)
	if err != nil && ctx.Err() == nil {
		err = crustertype.Errorf(crustertype.CodeTxOpen,
			"sqlite.InTx waited %v for another transaction, which may be the caller's own: use that one", defaultBusyTimeout)
	}
	return err
}

// outbox writes sends into a user's transaction.
type outbox struct {
	tx    *txn
	hooks []func() // under tx.mu
}

var _ storage.Outbox = (*outbox)(nil)

func (o *outbox) run(ctx context.Context, fn func(ctx context.Context, tx *Transaction) error) error {
	t, x := o.tx, &Transaction{o.tx}
	defer func() { _ = t.Rollback(ctx) }() // after a panic or an error; does nothing after the commit
	if err := fn(context.WithValue(storage.WithOutbox(ctx, o), transactionKey{}, x), x); err != nil {
		return err
	}
	_, err := t.Commit(ctx, storage.Unit{})
	return err
}

const (
	savepoint    = "SAVEPOINT cruster_outbox"
	releasePoint = "RELEASE cruster_outbox"
	backToPoint  = "ROLLBACK TO cruster_outbox"
)

// Send adds the unit to the transaction. A unit that is refused leaves nothing
// behind, and the transaction goes on.
func (o *outbox) Send(ctx context.Context, unit storage.Unit) (storage.Result, error) {
	t := o.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return storage.Result{}, err
	}
	var results []storage.Result
	err := t.s.w.do(func(c *conn) (err error) {
		plain := context.WithoutCancel(ctx)
		if err := c.control(plain, savepoint); err != nil {
			return err
		}
		if results, err = apply(plain, c, []storage.Unit{unit}); err != nil {
			_ = c.control(plain, backToPoint) // fails when SQLite has rolled everything back
			_ = c.control(plain, releasePoint)
			return err
		}
		t.s.w.dirty = true
		return c.control(plain, releasePoint)
	})
	if err != nil {
		if code(err) != 0 {
			err = t.failed(ctx, err)
		}
		return storage.Result{}, err
	}
	return results[0], nil
}

// OnCommit registers f.
func (o *outbox) OnCommit(f func()) {
	o.tx.mu.Lock()
	defer o.tx.mu.Unlock()
	o.hooks = append(o.hooks, f)
}
