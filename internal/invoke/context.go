// Package invoke is what one run of a user's handler or activity is given: its
// context, its lazily begun transaction, and the sends that commit with its
// outcome.
package invoke

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// Context is the context.Context of one run. It shows the engine's values, the
// caller's deadline and its cancellation, and nothing else of the caller's
// context, so that nothing works only because the owner happens to be local.
//
// Making one costs one allocation: the cancellation machinery comes into being
// when Done is first called.
type Context struct {
	parent   context.Context // the caller's deadline and cancellation
	lifetime context.Context // the runner's: ends at drain and at loss of ownership
	id       string          // of the entity or execution
	what     *What
	up       *Context
	info     *Info // nil for a light context

	state atomic.Uint32 // stateUsed, stateEnded
	mu    sync.Mutex
	more  *more // nil until something of it is needed
}

// What says which method of which type runs.
type What struct{ Type, Method string }

// more is what most runs do not need. It is guarded by the context's mu.
type more struct {
	inner context.Context
	stop  func()
	tx    *txState
	sends Sends
	sent  bool // sends were collected

	values context.Context // of the span; nil: none
}

const (
	stateUsed  = 1 << iota // more may exist
	stateEnded             // the run is over
)

// use locks the context and returns what is needed under the lock. Having been
// used, a context is ended under the lock too.
func (c *Context) use() (m *more, ended bool) {
	c.mu.Lock()
	old := c.state.Or(stateUsed)
	if c.more == nil {
		c.more = new(more)
	}
	return c.more, old&stateEnded != 0
}

// look returns a copy, without the lock when the context was not used.
func (c *Context) look() (m more, ended bool) {
	st := c.state.Load()
	if st&stateUsed == 0 {
		return more{}, st&stateEnded != 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.more != nil {
		m = *c.more
	}
	return m, c.state.Load()&stateEnded != 0
}

// Info says what runs. It is shared by reference and not modified.
type Info struct {
	Address   crustertype.Address // entity; of an activity: workflow type and execution ID
	Method    string
	RequestID crustertype.RequestID
	Attempt   int               // from 1
	Lease     crustertype.Lease // of the shard; FenceToken
	Execution crustertype.ExecutionRef
	Up        *Context              // the run that awaits this one on this runner, or nil
	Chain     []crustertype.Address // awaited callers that are not reachable through Up
	Meta      crustertype.Meta      // trace

	// Begin begins a transaction. nil: this run has none, and NoTx says why.
	Begin func(context.Context) (storage.Tx, error)
	NoTx  error
	// Collect reports that sends are collected and commit with the outcome.
	Collect bool
	// Rest tells that the run waits for others; what it returns, that it goes on.
	// nil: nobody wants to know.
	Rest func() (resume func())
}

// Sends are requests and starts that commit with a run's outcome.
type Sends struct {
	Accepts []crustertype.Message
	Starts  []crustertype.Execution
	After   []func() // run after the commit: best-effort sends, wake-ups
}

type txState struct {
	once  sync.Once
	tx    storage.Tx
	err   error
	fault error // a transient error that a statement met
}

type key struct{}

// New returns the context of one run. parent and lifetime must not be nil.
func New(parent, lifetime context.Context, info *Info) *Context {
	return &Context{
		parent: parent, lifetime: lifetime, id: info.Address.ID, what: &What{info.Address.Type, info.Method}, up: info.Up, info: info,
	}
}

// NewLight returns the context of a best-effort run: it has no transaction and
// no request ID, and collects sends.
func NewLight(parent, lifetime context.Context, what *What, id string, up *Context) *Context {
	return &Context{parent: parent, lifetime: lifetime, id: id, what: what, up: up}
}

// From returns the run that s belongs to, or nil when s is outside of any.
func From(s interface{ Value(any) any }) *Context {
	if c, ok := s.(*Context); ok {
		return c
	}
	c, _ := s.Value(key{}).(*Context)
	return c
}

// Info returns what runs.
func (c *Context) Info() *Info {
	if c.info != nil {
		return c.info
	}
	return &Info{Address: c.Address(), Method: c.what.Method, Attempt: 1, Up: c.up, Collect: true}
}

// Address returns the entity or execution that runs.
func (c *Context) Address() crustertype.Address {
	return crustertype.Address{Type: c.what.Type, ID: c.id}
}

// Deadline returns the caller's deadline.
func (c *Context) Deadline() (time.Time, bool) { return c.parent.Deadline() }

// Done is closed when the caller gives up or the runner must stop the run.
func (c *Context) Done() <-chan struct{} {
	m, ended := c.use()
	defer c.mu.Unlock()
	if m.inner == nil {
		inner, cancel := context.WithCancelCause(valueless{c.parent})
		stop := context.AfterFunc(c.lifetime, func() { cancel(context.Cause(c.lifetime)) })
		m.inner = inner
		m.stop = func() { stop(); cancel(context.Canceled) }
		switch {
		case ended:
			m.stop()
		case c.lifetime.Err() != nil: // AfterFunc cancels later, and Err must not go back
			cancel(context.Cause(c.lifetime))
		}
	}
	return m.inner.Done()
}

// Err returns why the run should stop, or nil.
func (c *Context) Err() error {
	m, ended := c.look()
	switch {
	case m.inner != nil:
		return m.inner.Err()
	case ended:
		return context.Canceled
	case c.parent.Err() != nil:
		return c.parent.Err()
	}
	return c.lifetime.Err()
}

// Value returns the engine's values only.
func (c *Context) Value(k any) any {
	switch k.(type) {
	case key:
		return c
	case storage.TxKey:
		return func() (storage.Tx, error) { return c.Tx() }
	}
	m, _ := c.look()
	if m.inner != nil {
		if v := m.inner.Value(k); v != nil { // package context's own key: lets derived contexts attach without a goroutine
			return v
		}
	}
	if m.values != nil {
		return m.values.Value(k)
	}
	return nil
}

// Interrupted reports whether the runner, not the caller, stops the run.
func (c *Context) Interrupted() bool { return c.lifetime.Err() != nil }

// End releases the context's resources. Derived contexts are cancelled.
func (c *Context) End() {
	if c.state.CompareAndSwap(0, stateEnded) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Or(stateEnded)&stateEnded == 0 && c.more != nil && c.more.stop != nil {
		c.more.stop()
	}
}

// Tx returns the run's transaction, beginning it at the first call.
func (c *Context) Tx() (storage.Tx, error) {
	if c.info == nil || c.info.Begin == nil {
		if c.info != nil && c.info.NoTx != nil {
			return nil, c.info.NoTx
		}
		return nil, crustertype.Errorf(crustertype.CodeInvalid,
			"%s has no transaction: only persisted methods and activities have one; mark the method persisted", c.what.Method)
	}
	m, ended := c.use()
	if ended {
		c.mu.Unlock()
		return nil, crustertype.Errorf(crustertype.CodeTxDone, "%s has ended, and its transaction with it", c.what.Method)
	}
	if m.tx == nil {
		m.tx = new(txState)
	}
	t := m.tx
	c.mu.Unlock()
	t.once.Do(func() {
		if t.tx, t.err = c.info.Begin(c); t.err != nil {
			c.fault(t.err)
		}
	})
	return t.tx, t.err
}

// TxOpen reports whether the transaction has begun.
func (c *Context) TxOpen() bool {
	m, ended := c.look()
	return m.tx != nil && !ended
}

// SQL returns the transaction for user code. Its errors come from the methods,
// an error to begin included.
func (c *Context) SQL() storage.SQL { return sql{c} }

// Fault returns the infrastructure error that the transaction met, or nil. The
// run's own result then says nothing about the user's code.
func (c *Context) Fault() error {
	if c.state.Load()&stateUsed == 0 {
		return nil
	}
	m, _ := c.use()
	defer c.mu.Unlock()
	if m.tx == nil {
		return nil
	}
	return m.tx.fault
}

func (c *Context) fault(err error) error {
	if storage.IsTransient(err) {
		m, _ := c.use()
		if m.tx != nil && m.tx.fault == nil {
			m.tx.fault = err
		}
		c.mu.Unlock()
	}
	return err
}

// Collect adds sends to the run's commit. It reports false when the run does
// not collect, or has ended: then the caller sends by itself.
func (c *Context) Collect(s Sends) bool {
	if c.info != nil && !c.info.Collect {
		return false
	}
	m, ended := c.use()
	defer c.mu.Unlock()
	if ended {
		return false
	}
	m.sent = true
	m.sends.Accepts = append(m.sends.Accepts, s.Accepts...)
	m.sends.Starts = append(m.sends.Starts, s.Starts...)
	m.sends.After = append(m.sends.After, s.After...)
	return true
}

// Collected reports whether the run has collected sends.
func (c *Context) Collected() bool {
	if c.state.Load()&stateUsed == 0 {
		return false
	}
	m, _ := c.look()
	return m.sent
}

// Sends returns what was collected.
func (c *Context) Sends() Sends {
	m, _ := c.look()
	return m.sends
}

// Commit commits unit in the run's transaction. It reports false when none has
// begun: then the caller commits the unit by itself.
func (c *Context) Commit(ctx context.Context, unit storage.Unit) (storage.Result, bool, error) {
	m, _ := c.look()
	if m.tx == nil || m.tx.tx == nil {
		return storage.Result{}, false, nil
	}
	res, err := m.tx.tx.Commit(ctx, unit)
	return res, true, err
}

// Rollback undoes the run's transaction, if it has begun.
func (c *Context) Rollback(ctx context.Context) error {
	m, _ := c.look()
	if m.tx == nil || m.tx.tx == nil {
		return nil
	}
	return m.tx.tx.Rollback(ctx)
}

// Rest tells the runs that s belongs to, directly or not, that they wait for
// others until the function it returns is called.
func Rest(s interface{ Value(any) any }) (resume func()) {
	for c := From(s); c != nil; c = c.up {
		if c.info != nil && c.info.Rest != nil {
			return c.info.Rest()
		}
	}
	return func() {}
}

// Awaits reports whether a is the run itself or one that, directly or not,
// awaits it.
func (c *Context) Awaits(a crustertype.Address) bool {
	for up := c; up != nil; up = up.up {
		if up.id == a.ID && up.what.Type == a.Type {
			return true
		}
		for _, b := range up.chain() {
			if b == a {
				return true
			}
		}
	}
	return false
}

// Callers returns the addresses that await this run, and the run's own as the
// last, at most MaxChain: the newest ones.
func (c *Context) Callers() []crustertype.Address {
	var back []crustertype.Address // innermost first
	for up := c; up != nil && len(back) < crustertype.MaxChain; up = up.up {
		back = append(back, up.Address())
		chain := up.chain()
		for i := len(chain) - 1; i >= 0 && len(back) < crustertype.MaxChain; i-- {
			back = append(back, chain[i])
		}
	}
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	return back
}

func (c *Context) chain() []crustertype.Address {
	if c.info == nil {
		return nil
	}
	return c.info.Chain
}

type sql struct{ c *Context }

func (s sql) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	tx, err := s.c.Tx()
	if err != nil {
		return 0, err
	}
	n, err := tx.Exec(ctx, query, args...)
	return n, s.c.fault(err)
}

func (s sql) Query(ctx context.Context, query string, args ...any) (storage.Rows, error) {
	tx, err := s.c.Tx()
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, query, args...)
	return rows, s.c.fault(err)
}

func (s sql) QueryRow(ctx context.Context, query string, args ...any) storage.Row {
	tx, err := s.c.Tx()
	if err != nil {
		return row{err: err}
	}
	return row{c: s.c, Row: tx.QueryRow(ctx, query, args...)}
}

type row struct {
	storage.Row
	c   *Context
	err error
}

func (r row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	err := r.Row.Scan(dest...)
	if errors.Is(err, storage.ErrNoRows) {
		return err
	}
	return r.c.fault(err)
}

// valueless keeps deadline and cancellation of a context and hides its values.
type valueless struct{ context.Context }

// Value answers package context's own key alone, a pointer to an int: by it a
// derived context finds the cause of its parent's end.
func (v valueless) Value(k any) any {
	if _, own := k.(*int); own {
		return v.Context.Value(k)
	}
	return nil
}

// AfterFunc lets package context attach a child without a goroutine.
func (v valueless) AfterFunc(f func()) func() bool { return context.AfterFunc(v.Context, f) }
