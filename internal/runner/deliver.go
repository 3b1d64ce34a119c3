package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/mailbox"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/storage"
)

// durableState is what an entity holds while persisted requests of it are in
// memory or waiting in storage.
type durableState struct {
	count     int           // admitted and not finished
	unsettled int           // outcomes on their way into storage
	settled   chan struct{} // closed when unsettled falls to 0; nil when nobody waits
	backlog   bool          // storage holds more than memory does
	gen       int           // counts messages that were left in storage
	feeding   bool
}

// delivery is one persisted request in its entity's mailbox.
type delivery struct {
	mailbox.Entry
	act *Activation
	msg crustertype.Message

	// recovered: an earlier owner may have run the request, so the next
	// delivery is counted durably first.
	recovered bool
}

// admit brings a durable message to its entity, or leaves it in storage when
// the entity holds enough. own is the tenure in which it was found pending; nil:
// the one in which it got its place. In a later one it is left to what that reads
// from storage: another owner may have run it in between.
func (r *Runner) admit(m *crustertype.Message, own *tenure) {
	t := r.types[m.Address.Type]
	if t == nil || t.Methods[m.Method] == nil {
		r.cfg.Logger.Warn("message stays pending: its method is not registered here", "type", m.Address.Type, "method", m.Method)
		return
	}
	act, err := t.Activate(m.Address.ID)
	if err != nil {
		return // shutting down: the next owner finds it in storage
	}
	if own == nil && act.earlier(m) || own != nil && act.own != own {
		return
	}
	act.mu.Lock()
	if m.Seq <= act.admitted { // a feed has found it first
		act.mu.Unlock()
		return
	}
	d := act.durable
	if d == nil {
		d = new(durableState)
		act.durable = d
	}
	behind := act.own.recovering.Load() && !act.earlier(m) // requests before it may not have been read yet
	if behind || d.backlog || d.count >= t.Options.DurableRoom() {
		d.backlog = true
		d.gen++
		if behind && !d.feeding {
			d.feeding = true
			r.pool.spawn(func() { r.feed(act) })
		}
		act.mu.Unlock()
		return
	}
	r.enqueueLocked(act, d, m)
	act.mu.Unlock()
}

// earlier reports whether a message got its place from an earlier owner.
func (a *Activation) earlier(m *crustertype.Message) bool {
	return m.Seq>>seqBits != a.own.lease.Epoch
}

// enqueueLocked puts a message into the mailbox. act.mu is held.
func (r *Runner) enqueueLocked(act *Activation, d *durableState, m *crustertype.Message) {
	d.count++
	act.admitted = m.Seq
	dl := &delivery{act: act, msg: *m, recovered: act.earlier(m)}
	dl.Entry.Job, dl.Durable = dl, true
	if err := act.Push(&dl.Entry, &act.typ.Options, r.pool.spawn); err != nil {
		d.count--
		if d.count == 0 && !d.backlog {
			act.durable = nil
		}
	}
}

// Abandon is called for a delivery that waits when its entity is closed. Storage
// still has the message.
func (d *delivery) Abandon(err error) {
	d.act.typ.r.waiters.resolve(&d.msg, reply{err: stored(err)})
}

// Run delivers the request. It runs with the entity's turn.
func (d *delivery) Run() {
	act, r := d.act, d.act.typ.r
	lease := act.own.lease
	if !r.Working() || act.own.life.Err() != nil && !d.msg.Uninterrupted || act.own.hard.Err() != nil {
		d.release(r)
		return
	}
	m := act.typ.Methods[d.msg.Method]
	if d.recovered && !d.mark(r, lease) {
		return
	}
	attempt := d.msg.Attempts + 1
	ictx, cancel := d.context(r, m, lease, attempt)
	defer cancel()
	end := r.cfg.Probe.Begin(ictx, observe.Persisted, ictx.Info().Meta, attempt)
	out, err, panicked := d.invoke(r, m, ictx)
	end(err)
	fault := ictx.Fault()
	if fault == nil && storage.IsTransient(err) {
		fault = err
	}
	switch {
	case err != nil && ictx.Interrupted():
		d.rollback(r, ictx)
		d.release(r) // the next owner runs it again; this delivery is not counted
	case fault != nil || panicked:
		d.rollback(r, ictx)
		if fault == nil {
			fault = err
		}
		d.redeliver(r, lease, fault, r.cfg.Redelivery.Delay(attempt, rand.Float64))
	case err != nil && attempt <= m.Retries && !isPermanent(err):
		d.rollback(r, ictx)
		d.redeliver(r, lease, err, m.Backoff.Delay(attempt, rand.Float64))
	case err != nil:
		d.rollback(r, ictx)
		d.settle(r, ictx, lease, storage.Unit{}, crustertype.Outcome{Failure: r.cfg.Encode(err)}, attempt)
	default:
		d.succeed(r, ictx, lease, out, attempt)
	}
}

func isPermanent(err error) bool {
	var e *crustertype.Error
	return errors.As(err, &e) && e.Permanent
}

// mark counts the delivery before it begins. It reports false when the request
// is not to be run now.
func (d *delivery) mark(r *Runner, lease crustertype.Lease) bool {
	if d.msg.Attempts >= max(r.cfg.MaxDeliveries, d.act.typ.Methods[d.msg.Method].Retries+1) {
		d.kill(r, lease, fmt.Errorf("%d deliveries ended without an outcome: the process died each time", d.msg.Attempts))
		return false
	}
	// Where nothing is counted, the owner who accepted it may have run it once.
	n := max(d.msg.Attempts, 1) + 1
	_, err := r.Commit.Do(d.act.own.hard, storage.Unit{Leases: []crustertype.Lease{lease}, Attempts: []storage.Attempt{{ID: d.msg.ID, N: n}}})
	if err != nil {
		d.release(r)
		return false
	}
	d.recovered = false
	d.msg.Attempts = n - 1 // the attempt that begins now counts itself
	return true
}

func (d *delivery) context(r *Runner, m *Method, lease crustertype.Lease, attempt int) (*invoke.Context, func()) {
	parent, cancel := d.act.own.hard, context.CancelFunc(func() {})
	if m.Timeout > 0 {
		parent, cancel = context.WithTimeoutCause(parent, m.Timeout, crustertype.ErrTimeout)
	}
	life := d.act.own.life
	if d.msg.Uninterrupted {
		life = d.act.own.hard
	}
	meta, err := crustertype.DecodeMeta(d.msg.Meta)
	if err != nil {
		r.cfg.Logger.Warn("message has unreadable metadata, it is run without", "request", d.msg.ID.String(), "error", err)
	}
	ictx := invoke.New(parent, life, &invoke.Info{
		Address: d.msg.Address, Method: m.Name, RequestID: d.msg.ID, Attempt: attempt, Lease: lease,
		Chain: meta.Chain, Meta: meta, Collect: true,
		Begin: func(ctx context.Context) (storage.Tx, error) {
			if err := d.act.waitSettled(ctx); err != nil {
				return nil, err
			}
			return r.cfg.Store.Begin(ctx)
		},
	})
	return ictx, func() { ictx.End(); cancel() }
}

// waitSettled waits until the entity's earlier outcomes are durable.
func (a *Activation) waitSettled(ctx context.Context) error {
	for {
		a.mu.Lock()
		d := a.durable
		if d == nil || d.unsettled == 0 {
			a.mu.Unlock()
			return nil
		}
		if d.settled == nil {
			d.settled = make(chan struct{})
		}
		ch := d.settled
		a.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d *delivery) invoke(r *Runner, m *Method, ictx *invoke.Context) (out any, err error, panicked bool) {
	panicked = true
	defer func() {
		if !panicked {
			return
		}
		if p := recover(); p != nil {
			err = invoke.PanicError(p)
		} else { // runtime.Goexit: the worker ends, the turn goes on
			err = crustertype.Errorf(crustertype.CodePanic, "the handler called runtime.Goexit")
			d.rollback(r, ictx)
			d.redeliver(r, d.act.own.lease, err, r.cfg.Redelivery.Delay(d.msg.Attempts+1, rand.Float64))
		}
	}()
	out, err = d.call(r, m, ictx)
	panicked = false
	return out, err, false
}

func (d *delivery) call(r *Runner, m *Method, ictx *invoke.Context) (any, error) {
	cd, err := r.cfg.Lookup(d.msg.Codec)
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeEncoding, "%w", err)
	}
	in, err := m.Decode(cd, d.msg.Payload)
	if err != nil {
		return nil, crustertype.Errorf(crustertype.CodeEncoding, "decode the request of %s: %w", m.Name, err)
	}
	return m.Invoke(ictx, in)
}

func (d *delivery) rollback(r *Runner, ictx *invoke.Context) {
	if err := ictx.Rollback(r.hard); err != nil {
		r.cfg.Logger.Debug("rollback", "request", d.msg.ID.String(), "error", err)
	}
}

// succeed commits a result.
func (d *delivery) succeed(r *Runner, ictx *invoke.Context, lease crustertype.Lease, out any, attempt int) {
	payload, err := r.encode(out)
	switch {
	case err != nil:
		err = crustertype.Errorf(crustertype.CodeEncoding, "encode the reply of %s: %w", d.msg.Method, err)
	case len(payload) > r.cfg.MaxPayload:
		err = crustertype.Errorf(crustertype.CodeTooLarge, "the reply of %s has %d bytes: at most %d are allowed", d.msg.Method, len(payload), r.cfg.MaxPayload)
	}
	if err != nil {
		d.rollback(r, ictx)
		d.settle(r, ictx, lease, storage.Unit{}, crustertype.Outcome{Failure: r.cfg.Encode(err)}, attempt)
		return
	}
	sends := ictx.Sends()
	unit := storage.Unit{Accepts: sends.Accepts, Starts: sends.Starts}
	d.settle(r, ictx, lease, unit, crustertype.Outcome{Codec: r.cfg.Codec.Name(), Payload: payload}, attempt)
}

// encode turns a panic of a value's own methods into an error: the handler has
// ended, so that nobody else catches it.
func (r *Runner) encode(v any) (payload []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = invoke.PanicError(p)
		}
	}()
	return r.cfg.Codec.Marshal(v)
}

// settle writes an outcome, in the handler's transaction if it has one.
func (d *delivery) settle(r *Runner, ictx *invoke.Context, lease crustertype.Lease, unit storage.Unit, out crustertype.Outcome, attempt int) {
	unit.Leases = addLease(unit.Leases, lease)
	unit.Finishes = []storage.Finish{{ID: d.msg.ID, State: crustertype.MessageDone, Attempts: attempt, Outcome: out, At: time.Now()}}
	var after []func()
	if out.Failure == nil {
		after = ictx.Sends().After
	}
	admit := r.Sent
	done := func(res storage.Result, err error) {
		if err != nil {
			d.unsettled(r, lease, err, attempt)
			return
		}
		admit(unit.Accepts, res.Accepts)
		r.waiters.resolve(&d.msg, reply{outcome: out})
		for _, f := range after {
			f()
		}
		r.finished(d.act, true)
	}
	if out.Failure == nil && ictx.TxOpen() {
		// This commit does not go through the lane, so its sends are given their
		// place in the order after it, before the turn is passed on.
		sent := r.Sending(unit.Accepts)
		res, begun, err := ictx.Commit(d.act.own.hard, unit)
		if unknown(err) && d.committed(r, lease, attempt) {
			sent(nil, err)
			res, err = storage.Result{}, nil
		} else if begun || err != nil {
			sent(res.Accepts, err)
		} else {
			sent(nil, errNotBegun)
		}
		switch {
		case err != nil: // run again before the turn is passed on
			d.again(r, lease, err, attempt)
			return
		case begun:
			d.act.addUnsettled(1)
			admit = func([]crustertype.Message, []storage.AcceptResult) {}
			done(res, nil)
			return
		}
	}
	d.act.addUnsettled(1)
	r.Order(&unit, func() { r.Commit.Submit(unit, done) })
}

var errNotBegun = errors.New("the transaction could not begin")

// unknown reports whether a commit that failed may have happened.
func unknown(err error) bool {
	var t *storage.TransientError
	return errors.As(err, &t) && t.Unknown
}

// committed finds out whether a transaction of which the answer was lost has
// finished the request. Counting the attempt first waits for a commit that the
// database is still busy with: both write the same row.
func (d *delivery) committed(r *Runner, lease crustertype.Lease, attempt int) bool {
	for pause := time.Duration(0); sleep(d.act.own.hard, pause) == nil; pause = r.cfg.Redelivery.Delay(1, rand.Float64) {
		_, err := r.Commit.Do(d.act.own.hard, storage.Unit{Leases: []crustertype.Lease{lease}, Attempts: []storage.Attempt{{ID: d.msg.ID, N: attempt}}})
		if err != nil {
			return false // lost the shard, or stops: the next owner finds out
		}
		m, err := r.cfg.Store.Message(d.act.own.hard, d.msg.ID)
		if err == nil {
			return m.State != crustertype.MessagePending
		}
		if errors.Is(err, storage.ErrNotFound) {
			return true // finished, and removed since
		}
		r.cfg.Logger.Warn("outcome of a commit cannot be looked up, trying again", "request", d.msg.ID.String(), "error", err)
	}
	return false
}

// unsettled handles an outcome that the lane has not written. It runs on the
// lane.
func (d *delivery) unsettled(r *Runner, lease crustertype.Lease, err error, attempt int) {
	d.act.addUnsettled(-1)
	r.pool.spawn(func() { d.again(r, lease, err, attempt) })
}

// again runs a request again whose outcome was not committed.
func (d *delivery) again(r *Runner, lease crustertype.Lease, err error, attempt int) {
	now, _ := r.Lease(lease.Shard)
	var f *storage.FencedError
	if errors.As(err, &f) && r.cfg.Fenced != nil {
		r.cfg.Fenced(f.Shards)
	}
	switch {
	case d.act.own.hard.Err() != nil || now != lease:
		d.release(r)
	case errors.Is(err, storage.ErrFenced) && !fences(err, lease.Shard):
		// Another shard that the unit relied on was lost. Its sends go without
		// that lease, as soon as the loss is known here; nothing is counted.
		d.msg.Attempts--
		d.redeliver(r, lease, err, elsewherePause)
	default:
		d.redeliver(r, lease, err, r.cfg.Redelivery.Delay(attempt, rand.Float64))
	}
}

// redeliver runs the request again after a pause, or gives it up. Where requests
// of an entity run in order, all later ones wait.
func (d *delivery) redeliver(r *Runner, lease crustertype.Lease, cause error, pause time.Duration) {
	d.msg.Attempts++
	if d.msg.Attempts >= r.cfg.MaxDeliveries && !d.userRetry(cause) {
		d.kill(r, lease, cause)
		return
	}
	attrs := []any{"type", d.msg.Address.Type, "method", d.msg.Method, "request", d.msg.ID.String(), "attempt", d.msg.Attempts, "pause", pause, "error", cause}
	var p *invoke.Panicked
	if errors.As(cause, &p) {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	r.cfg.Logger.Warn("handler is run again", attrs...)
	ordered := d.act.typ.Options.Concurrency == 1
	if ordered {
		d.act.Pause()
	}
	r.Commit.Submit(storage.Unit{Leases: []crustertype.Lease{lease}, Attempts: []storage.Attempt{{ID: d.msg.ID, N: d.msg.Attempts}}}, func(storage.Result, error) {})
	push := func() bool {
		if d.act.PushFront(&d.Entry, &d.act.typ.Options, r.pool.spawn) == nil {
			return true
		}
		d.release(r)
		return false
	}
	switch {
	case !ordered: // others need not wait for it
		r.after(pause, func() { push() })
	case push():
		r.after(pause, func() { d.act.Resume(&d.act.typ.Options, r.pool.spawn) })
	}
}

func (d *delivery) userRetry(cause error) bool {
	m := d.act.typ.Methods[d.msg.Method]
	return crustertype.CodeOf(cause) != crustertype.CodePanic && !storage.IsTransient(cause) && m.Retries >= d.msg.Attempts
}

// kill makes the request a dead letter.
func (d *delivery) kill(r *Runner, lease crustertype.Lease, cause error) {
	out := crustertype.Outcome{Failure: r.cfg.Encode(cause)}
	r.cfg.Logger.Error("request is dead-lettered", "type", d.msg.Address.Type, "method", d.msg.Method, "request", d.msg.ID.String(),
		"attempts", d.msg.Attempts, "error", cause)
	r.cfg.Probe.Tell(observe.DeadLettered{Type: d.msg.Address.Type, Method: d.msg.Method})
	d.act.addUnsettled(1)
	r.Commit.Submit(storage.Unit{Leases: []crustertype.Lease{lease}, Finishes: []storage.Finish{{
		ID: d.msg.ID, State: crustertype.MessageDead, Attempts: d.msg.Attempts, Outcome: out, At: time.Now(),
	}}}, func(_ storage.Result, err error) {
		if err == nil {
			r.waiters.resolve(&d.msg, reply{err: deadLetter(out)})
		}
		r.finished(d.act, true)
	})
}

func (a *Activation) addUnsettled(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.durable
	if d == nil {
		return
	}
	d.unsettled += n
	if d.unsettled == 0 && d.settled != nil {
		close(d.settled)
		d.settled = nil
	}
}

// release forgets a request that stays pending in storage.
func (d *delivery) release(r *Runner) {
	cause := crustertype.ErrShuttingDown
	if r.life.Err() == nil {
		cause = crustertype.ErrNotOwner
	}
	r.waiters.resolve(&d.msg, reply{err: stored(cause)})
	r.finished(d.act, false)
}

// finished takes a request out of the entity's account and feeds in more when
// storage holds more.
func (r *Runner) finished(a *Activation, settled bool) {
	if settled {
		a.addUnsettled(-1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.durable
	if d == nil {
		return
	}
	d.count--
	switch {
	case d.backlog && !d.feeding && d.count <= a.typ.Options.DurableRoom()/2:
		d.feeding = true
		r.pool.spawn(func() { r.feed(a) })
	case d.count == 0 && !d.backlog && !d.feeding && d.unsettled == 0:
		a.durable = nil
	}
}
