package runner

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/storage"
)

// seqBits is how many bits of a sequence number count within an epoch. The bits
// above are the shard's epoch, so numbers grow over take-overs without a look at
// what is stored.
const seqBits = 40

// prepare completes a message for its way into storage: its shard, and, when
// the runner owns that and the message is due, its place in the order. It then
// returns the lease that the message relies on. acceptMu is held until the
// message is handed to storage.
func (r *Runner) prepare(m *crustertype.Message) (crustertype.Lease, bool) {
	if t := r.types[m.Address.Type]; t != nil {
		m.Shard = r.ShardOf(t.Group, m.Address.ID)
	}
	m.State = crustertype.MessagePending
	if !m.DeliverAt.IsZero() && !m.DeliverAt.After(m.CreatedAt) {
		m.DeliverAt = time.Time{}
	}
	lease, ok := r.Lease(m.Shard)
	if !ok || !m.DeliverAt.IsZero() {
		return lease, false // ordered when it is due, or by the owner
	}
	r.counters[m.Shard]++
	m.Seq = lease.Epoch<<seqBits | r.counters[m.Shard]
	return lease, true
}

// Order completes messages that are committed by submit, which must hand them to
// storage in the order of the calls. It adds the leases relied on to unit.
func (r *Runner) Order(unit *storage.Unit, submit func()) {
	r.acceptMu.Lock()
	defer r.acceptMu.Unlock()
	for i := range unit.Accepts {
		if lease, ok := r.prepare(&unit.Accepts[i]); ok {
			unit.Leases = addLease(unit.Leases, lease)
		}
	}
	submit()
}

func addLease(leases []crustertype.Lease, l crustertype.Lease) []crustertype.Lease {
	for _, have := range leases {
		if have.Shard == l.Shard {
			return leases
		}
	}
	return append(leases, l)
}

// Send stores the messages of unit and admits them to their entities. done is
// called when they are durable, or refused; it must not block.
func (r *Runner) Send(unit storage.Unit, done func(storage.Result, error)) {
	r.Order(&unit, func() {
		r.Commit.Submit(unit, func(res storage.Result, err error) {
			if err == nil {
				r.Admit(unit.Accepts, res.Accepts)
			}
			done(res, err)
		})
	})
}

// Admit brings messages that have become durable to their entities. existing
// tells those that were stored before, which are not admitted again.
func (r *Runner) Admit(msgs []crustertype.Message, existing []storage.AcceptResult) {
	for i := range msgs {
		if existing != nil && existing[i].Existing != nil {
			continue
		}
		m := &msgs[i]
		switch {
		case m.Seq != 0:
			r.admit(m, nil)
		case r.cfg.Stored != nil && r.tenure(m.Shard) == nil:
			r.cfg.Stored(m)
		case m.DeliverAt.IsZero():
			r.NudgeAdopt()
		default:
			r.alarms.at(m.DeliverAt)
		}
	}
}

// Sent is Admit for what a handler or a workflow's step has sent: nobody else
// hears that a key was used with another body while the handler ran.
func (r *Runner) Sent(msgs []crustertype.Message, existing []storage.AcceptResult) {
	r.report(msgs, existing)
	r.Admit(msgs, existing)
}

func (r *Runner) report(msgs []crustertype.Message, existing []storage.AcceptResult) {
	for i := range existing {
		m := &msgs[i]
		if have := existing[i].Existing; have != nil && have.Digest != m.Digest {
			r.cfg.Logger.Error("notification is dropped: its key was used with another body", "type", m.Address.Type, "id", m.Address.ID, "method", m.Method, "key", m.Key)
			r.cfg.Probe.Tell(observe.NotificationDropped{Type: m.Address.Type, Method: m.Method})
		}
	}
}

// Call stores a message and waits for its outcome. When ctx ends first, the
// message runs on.
func (r *Runner) Call(ctx context.Context, m crustertype.Message) (crustertype.Outcome, error) {
	digest := m.Digest
	ch := r.waiters.add(m.ID, m.Shard, &digest)
	defer r.waiters.remove(m.ID, ch)
	if r.cfg.Cluster && !r.Open(m.Shard) {
		return crustertype.Outcome{}, crustertype.ErrNotOwner
	}
	r.Send(storage.Unit{Accepts: []crustertype.Message{m}}, func(res storage.Result, err error) {
		switch {
		case err != nil:
			select {
			case ch <- reply{err: notAccepted(err)}: // this caller alone
			default:
			}
		case res.Accepts != nil && res.Accepts[0].Existing != nil:
			if answer, ok := known(res.Accepts[0].Existing, digest); ok {
				select {
				case ch <- answer: // this caller alone: others have bodies of their own
				default:
				}
			}
		}
	})
	return r.wait(ctx, ch)
}

// Await waits for the outcome of a message that was stored before.
func (r *Runner) Await(ctx context.Context, id crustertype.RequestID) (crustertype.Outcome, error) {
	up := invoke.From(ctx)
	if up != nil && up.TxOpen() {
		return crustertype.Outcome{}, crustertype.Errorf(crustertype.CodeTxOpen, "await request %s: the outcome may wait for the open transaction: await before the first statement", id)
	}
	ch := r.waiters.add(id, crustertype.Shard{}, nil)
	defer r.waiters.remove(id, ch)
	m, err := r.cfg.Store.Message(ctx, id)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return crustertype.Outcome{}, crustertype.Errorf(crustertype.CodeNotFound, "request %s is not stored: it was never accepted, or retention has removed it", id)
	case ctx.Err() != nil:
		return r.wait(ctx, nil)
	case err != nil:
		return crustertype.Outcome{}, crustertype.Errorf(crustertype.CodeUnavailable, "look up request %s: %w", id, err)
	}
	if answer, ok := known(&m, m.Digest); ok {
		return answer.outcome, answer.err
	}
	if t := r.types[m.Address.Type]; up != nil && t != nil && t.Options.Concurrency == 1 && up.Awaits(m.Address) {
		return crustertype.Outcome{}, crustertype.Errorf(crustertype.CodeReentrant, "request %s waits for the turn that the caller has: await it outside of the entity's handlers", id).At("", m.Address)
	}
	r.waiters.place(id, m.Shard)
	if r.cfg.Cluster && !r.Open(m.Shard) {
		return crustertype.Outcome{}, crustertype.ErrNotOwner
	}
	return r.wait(ctx, ch)
}

func (r *Runner) wait(ctx context.Context, ch chan reply) (crustertype.Outcome, error) {
	select {
	case a := <-ch:
		return a.outcome, a.err
	case <-ctx.Done():
		e := crustertype.Errorf(crustertype.CodeOf(contextError(ctx)), "stopped waiting, the request runs on: %w", context.Cause(ctx))
		e.Executed = true
		return crustertype.Outcome{}, e
	case <-r.lost:
		return crustertype.Outcome{}, stored(r.lostErr)
	}
}

// stored is the error of who waits for a request that runs later, elsewhere.
func stored(cause error) error {
	e := crustertype.Errorf(crustertype.CodeOf(cause), "%w: a request that was stored runs when a runner is up again: wait for it, do not send it anew", cause)
	e.Executed = true
	return e
}

// known returns the answer that a stored message gives at once, if it does.
func known(m *crustertype.Message, digest [16]byte) (reply, bool) {
	switch {
	case m.Digest != digest:
		return reply{err: KeyConflict(m.Address, m.Method, m.Key)}, true
	case m.State == crustertype.MessageDone:
		return reply{outcome: m.Outcome}, true
	case m.State == crustertype.MessageDead:
		return reply{err: deadLetter(m.Outcome)}, true
	}
	return reply{}, false
}

// KeyConflict is the error of a key that is taken by another body.
func KeyConflict(a crustertype.Address, method, key string) error {
	return crustertype.Errorf(crustertype.CodeKeyConflict,
		"key %q of %s was used with another body: use a new key, or send the same body", key, method).At("", a)
}

func deadLetter(o crustertype.Outcome) error {
	msg := "delivery was given up"
	if o.Failure != nil {
		msg += ": " + o.Failure.Message
	}
	return crustertype.Errorf(crustertype.CodeDeadLettered, "%s", msg)
}

func notAccepted(err error) error {
	switch {
	case errors.Is(err, storage.ErrFenced):
		return crustertype.Errorf(crustertype.CodeNotOwner, "shard was lost while the request was stored: %w", err)
	case crustertype.CodeOf(err) != crustertype.CodeUnknown:
		return err
	}
	return crustertype.Errorf(crustertype.CodeUnavailable, "request was not stored: %w", err)
}

// contextError returns ErrTimeout or ErrCancelled for a context that has ended.
func contextError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return crustertype.ErrTimeout
	}
	return crustertype.ErrCancelled
}
