package storagetest_test

import (
	"context"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// planted is a store with one fault. A field that is set takes a method's
// place.
type planted struct {
	storage.Store
	commit   func(context.Context, []storage.Unit) ([]storage.Result, error)
	begin    func(context.Context) (storage.Tx, error)
	message  func(context.Context, crustertype.RequestID) (crustertype.Message, error)
	steps    func(context.Context, crustertype.ExecutionRef, int) ([]crustertype.Step, error)
	pending  func(context.Context, storage.PendingQuery) ([]crustertype.Message, error)
	timers   func(context.Context, storage.TimerQuery) ([]storage.Timer, storage.Cursor, error)
	messages func(context.Context, storage.MessageFilter) ([]crustertype.Message, storage.Cursor, error)
	renew    func(context.Context, crustertype.Incarnation, bool, time.Duration) error
	takeOver func(context.Context, storage.TakeOver) ([]crustertype.Lease, error)
	handOver func(context.Context, []crustertype.Lease, crustertype.Incarnation) ([]crustertype.Lease, error)
	purge    func(context.Context, storage.Purge) (int, error)
	close    func() error
}

func (p *planted) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	if p.commit != nil {
		return p.commit(ctx, units)
	}
	return p.Store.Commit(ctx, units)
}

// Begin returns a transaction that commits through commit, unless begin is set.
func (p *planted) Begin(ctx context.Context) (storage.Tx, error) {
	if p.begin != nil {
		return p.begin(ctx)
	}
	tx, err := p.Store.Begin(ctx)
	return &plantedTx{Tx: tx, commit: p.Commit}, err
}

func (p *planted) Message(ctx context.Context, id crustertype.RequestID) (crustertype.Message, error) {
	if p.message != nil {
		return p.message(ctx, id)
	}
	return p.Store.Message(ctx, id)
}

func (p *planted) Steps(ctx context.Context, ref crustertype.ExecutionRef, run int) ([]crustertype.Step, error) {
	if p.steps != nil {
		return p.steps(ctx, ref, run)
	}
	return p.Store.Steps(ctx, ref, run)
}

func (p *planted) Pending(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
	if p.pending != nil {
		return p.pending(ctx, q)
	}
	return p.Store.Pending(ctx, q)
}

func (p *planted) Timers(ctx context.Context, q storage.TimerQuery) ([]storage.Timer, storage.Cursor, error) {
	if p.timers != nil {
		return p.timers(ctx, q)
	}
	return p.Store.Timers(ctx, q)
}

func (p *planted) Messages(ctx context.Context, f storage.MessageFilter) ([]crustertype.Message, storage.Cursor, error) {
	if p.messages != nil {
		return p.messages(ctx, f)
	}
	return p.Store.Messages(ctx, f)
}

func (p *planted) Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
	if p.renew != nil {
		return p.renew(ctx, inc, draining, ttl)
	}
	return p.Store.Renew(ctx, inc, draining, ttl)
}

func (p *planted) TakeOver(ctx context.Context, t storage.TakeOver) ([]crustertype.Lease, error) {
	if p.takeOver != nil {
		return p.takeOver(ctx, t)
	}
	return p.Store.TakeOver(ctx, t)
}

func (p *planted) HandOver(ctx context.Context, leases []crustertype.Lease, to crustertype.Incarnation) ([]crustertype.Lease, error) {
	if p.handOver != nil {
		return p.handOver(ctx, leases, to)
	}
	return p.Store.HandOver(ctx, leases, to)
}

func (p *planted) Purge(ctx context.Context, pu storage.Purge) (int, error) {
	if p.purge != nil {
		return p.purge(ctx, pu)
	}
	return p.Store.Purge(ctx, pu)
}

func (p *planted) Close() error {
	if p.close != nil {
		return p.close()
	}
	return p.Store.Close()
}

type plantedTx struct {
	storage.Tx
	commit func(context.Context, []storage.Unit) ([]storage.Result, error)
	done   bool
}

func (t *plantedTx) Commit(ctx context.Context, u storage.Unit) (storage.Result, error) {
	if t.done {
		return storage.Result{}, storage.ErrTxDone
	}
	t.done = true
	res, err := t.commit(ctx, []storage.Unit{u})
	if err != nil {
		return storage.Result{}, err
	}
	return res[0], nil
}

func (t *plantedTx) Rollback(ctx context.Context) error {
	t.done = true
	return t.Tx.Rollback(ctx)
}

// rewrite returns a commit that changes copies of the units.
func rewrite(p *planted, change func(ctx context.Context, u *storage.Unit)) {
	p.commit = func(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
		units = slices.Clone(units)
		for i := range units {
			change(ctx, &units[i])
		}
		return p.Store.Commit(ctx, units)
	}
}
