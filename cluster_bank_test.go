package cruster_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// bank is a store with one table beside it, whose rows commit with a handler's
// transaction, and the rules that the rows have to follow.
type bank struct {
	storage.Store
	plant plant

	mu      sync.Mutex
	rows    map[string]int       // entry -> how often it was committed
	last    map[string]execution // of each account, the newest that was committed
	balance map[string]int
	late    []func() // of plantEarlyAck: what is not durable yet
	faults  []string
}

// execution is one run of a handler that was committed.
type execution struct {
	entry      string
	start, end time.Time
	epoch      int64
}

// plant is a bug that a simulation has to find.
type plant int

const (
	plantNothing      plant = iota
	plantNoFence            // commits do not check who owns the shard
	plantEarlyAck           // commits are acknowledged before they are durable
	plantWriteOutside       // a handler's rows are written outside of its transaction
	plantKeyIgnored         // a key does not make two requests one
	plantEarlyRelease       // a shard is given away while something of it runs
	plantCron               // a cron's tick is neither versioned nor one message
)

func (p plant) String() string {
	return []string{"nothing", "no fence", "early acknowledgement", "write outside the transaction", "key ignored", "early release", "unchecked cron"}[p]
}

func newBank(inner storage.Store, p plant) *bank {
	return &bank{Store: inner, plant: p, rows: make(map[string]int), last: make(map[string]execution), balance: make(map[string]int)}
}

func (b *bank) fault(format string, args ...any) {
	if len(b.faults) < 20 {
		b.faults = append(b.faults, fmt.Sprintf(format, args...))
	}
}

// note reports a fault from outside.
func (b *bank) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault(format, args...)
}

// row is what a handler writes.
type row struct {
	account, entry string
	amount         int
	start          time.Time
	epoch          int64
}

// apply commits a row and holds it against the rules. b.mu is held.
func (b *bank) apply(r row) {
	b.balance[r.account] += r.amount
	if b.rows[r.entry]++; b.rows[r.entry] > 1 {
		b.fault("%s was committed %d times", r.entry, b.rows[r.entry])
	}
	now, prev := execution{r.entry, r.start, time.Now(), r.epoch}, b.last[r.account]
	switch {
	case now.start.Before(prev.end):
		b.fault("%s on %s began at %v, before %s had committed at %v", now.entry, r.account, now.start, prev.entry, prev.end)
	case now.epoch < prev.epoch:
		b.fault("%s on %s committed under epoch %d, after %s under %d", now.entry, r.account, now.epoch, prev.entry, prev.epoch)
	}
	b.last[r.account] = now
}

// spoil plants what is wrong with a unit.
func (b *bank) spoil(u storage.Unit) storage.Unit {
	switch b.plant {
	case plantNoFence:
		u.Leases = nil
	case plantKeyIgnored:
		u.Accepts = slices.Clone(u.Accepts)
		for i := range u.Accepts {
			if u.Accepts[i].Key != "" {
				u.Accepts[i].ID = crustertype.NewRequestID()
			}
		}
	case plantCron:
		u.Accepts, u.Schedules = slices.Clone(u.Accepts), slices.Clone(u.Schedules)
		for i, s := range u.Schedules {
			u.Leases = nil
			u.Schedules[i].Version = 1
			if now, err := b.Store.Schedule(context.Background(), s.Kind, s.Name); err == nil {
				u.Schedules[i].Version = now.Version + 1
			}
			for j := range u.Accepts {
				u.Accepts[j].ID = crustertype.NewRequestID()
			}
		}
	}
	return u
}

// Commit implements [storage.Writer].
func (b *bank) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	units = slices.Clone(units)
	for i := range units {
		units[i] = b.spoil(units[i])
	}
	if b.plant == plantEarlyAck { // it is told, and lost when a process dies soon
		done := false
		f := func() {
			if !done {
				done = true
				_, _ = b.Store.Commit(context.WithoutCancel(ctx), units)
			}
		}
		b.late = append(b.late, func() { done = true })
		time.AfterFunc(200*time.Millisecond, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			f()
		})
		return make([]storage.Result, len(units)), nil
	}
	return b.Store.Commit(ctx, units)
}

// died tells that a process was killed.
func (b *bank) died() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.late {
		f()
	}
	b.late = nil
}

// Begin implements [storage.Writer].
func (b *bank) Begin(ctx context.Context) (storage.Tx, error) {
	tx, err := b.Store.Begin(ctx)
	return &bankTx{Tx: tx, b: b}, err
}

// bankTx keeps rows until it commits.
type bankTx struct {
	storage.Tx
	b    *bank
	rows []row
}

// Exec writes one row, whatever the statement.
func (t *bankTx) Exec(_ context.Context, _ string, args ...any) (int64, error) {
	t.rows = append(t.rows, args[0].(row))
	return 1, nil
}

// Commit implements [storage.Tx].
func (t *bankTx) Commit(ctx context.Context, u storage.Unit) (storage.Result, error) {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	res, err := t.Tx.Commit(ctx, t.b.spoil(u))
	if err == nil || t.b.plant == plantWriteOutside {
		for _, r := range t.rows {
			t.b.apply(r)
		}
	}
	return res, err
}

// write puts a row into the transaction of a handler.
func write(ctx context.Context, account, entry string, amount int, start time.Time) error {
	_, err := cruster.Tx(ctx).Exec(ctx, "insert", row{account, entry, amount, start, cruster.FenceToken(ctx)})
	return err
}

// transfer is a request to an account.
type transfer struct {
	ID     string
	To     string
	Amount int
	Hold   time.Duration
	Deaf   bool // it does not listen to its context
}

// account is an entity with money.
type account struct {
	_ cruster.Entity `cruster:"account"`
	_ cruster.RPC    `cruster:"Send,persisted"`
	_ cruster.RPC    `cruster:"Receive,persisted"`

	accounts *cruster.Client[*account]
}

// Send takes money and sends it on.
func (a *account) Send(ctx context.Context, t transfer) (int, error) {
	start := time.Now()
	if err := hold(ctx, t); err != nil {
		return 0, err
	}
	if err := write(ctx, cruster.EntityID(ctx), t.ID+" sent", -t.Amount, start); err != nil {
		return 0, err
	}
	return t.Amount, cruster.Notify(ctx, a.accounts.Entity(t.To), (*account).Receive, t)
}

// Receive gets what was sent.
func (a *account) Receive(ctx context.Context, t transfer) (int, error) {
	start := time.Now()
	if err := hold(ctx, t); err != nil {
		return 0, err
	}
	return t.Amount, write(ctx, cruster.EntityID(ctx), t.ID+" received", t.Amount, start)
}

func hold(ctx context.Context, t transfer) error {
	if t.Deaf {
		<-time.After(t.Hold)
		return nil
	}
	select {
	case <-time.After(t.Hold):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// standing is a workflow that makes several transfers, with pauses.
type standing struct {
	_ cruster.Workflow `cruster:"standing"`
	_ cruster.Activity `cruster:"Book"`

	accounts cruster.Client[*account]
}

// Book writes a row of its own.
func (w *standing) Book(ctx context.Context, t transfer) (int, error) {
	return t.Amount, write(ctx, "book of "+t.ID, t.ID+" booked", 0, time.Now())
}

// Execute books, and sends twice.
func (w *standing) Execute(wf *cruster.WorkflowContext, t transfer) (int, error) {
	if _, err := cruster.Do(wf, (*standing).Book, t); err != nil {
		return 0, err
	}
	for i := range 2 {
		part := t
		part.ID = fmt.Sprintf("%s.%d", t.ID, i)
		if _, err := cruster.Call(wf, w.accounts.Entity(t.ID[len(t.ID)-1:]), (*account).Send, part); err != nil {
			return 0, err
		}
		if err := cruster.Sleep(wf, 2*time.Second); err != nil {
			return 0, err
		}
	}
	return 2 * t.Amount, nil
}

// settled holds the whole of it against the rules at the end. entries are those
// that have to be there, once each.
func (b *bank) settled(entries []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		if b.rows[e] == 0 {
			b.fault("%s was acknowledged and is not there", e)
		}
	}
	sum := 0
	for _, v := range b.balance {
		sum += v
	}
	if sum != 0 {
		b.fault("the balances add up to %d", sum)
	}
}
