package runner

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// pageSize is how many rows recovery and adoption read at a time.
const pageSize = 1000

// lastID is not below any ID: sequence numbers are unique within a shard.
var lastID = func() (id crustertype.RequestID) {
	for i := range id {
		id[i] = 0xff
	}
	return id
}()

// recover admits the pending messages of shards that the runner has come to own.
// What it reads may be old when it comes: it counts for these tenures alone.
func (r *Runner) recover(ctx context.Context, shards []crustertype.Shard, began tenures) error {
	q := storage.PendingQuery{Shards: shards, Limit: pageSize}
	for {
		q.Now = time.Now()
		page, err := r.cfg.Store.Pending(ctx, q)
		if err != nil {
			return err
		}
		for i := range page {
			r.admit(&page[i], began[page[i].Shard])
			q.AfterSeq, q.AfterID = page[i].Seq, page[i].ID
		}
		if len(page) < pageSize {
			return nil
		}
	}
}

// feed moves messages of an entity from storage into its mailbox, as far as it
// has room.
func (r *Runner) feed(a *Activation) {
	defer func() {
		a.mu.Lock()
		if d := a.durable; d != nil {
			d.feeding = false
			if d.count == 0 && !d.backlog && d.unsettled == 0 {
				a.durable = nil
			}
		}
		a.mu.Unlock()
	}()
	addr := a.Address()
	for a.own.life.Err() == nil {
		a.mu.Lock()
		d := a.durable
		room := a.typ.Options.DurableRoom() - d.count
		if !d.backlog || room <= 0 {
			a.mu.Unlock()
			return
		}
		gen := d.gen
		q := storage.PendingQuery{
			Shards: []crustertype.Shard{r.ShardOf(a.typ.Group, a.id)}, Address: addr,
			AfterSeq: a.admitted, AfterID: lastID, Now: time.Now(), Limit: room,
		}
		a.mu.Unlock()
		page, err := r.cfg.Store.Pending(a.own.life, q)
		if err != nil {
			if a.own.life.Err() != nil {
				return
			}
			r.cfg.Logger.Warn("pending messages cannot be read, trying again", "type", addr.Type, "error", err)
			if sleep(a.own.life, time.Second) != nil {
				return
			}
			continue
		}
		a.mu.Lock()
		for i := range page {
			if a.typ.Methods[page[i].Method] == nil {
				a.admitted = page[i].Seq // stays pending for who knows it
				continue
			}
			r.enqueueLocked(a, d, &page[i])
		}
		if len(page) < q.Limit && d.gen == gen {
			d.backlog = false
		}
		a.mu.Unlock()
	}
}

// NudgeAdopt makes the runner look soon for messages that others have stored.
func (r *Runner) NudgeAdopt() {
	select {
	case r.adopt <- struct{}{}:
	default:
	}
}

// adoptLoop gives messages that came without a place in the order their place,
// and admits them. Those of types that are not hosted get one too: left without,
// they would fill the pages that adoption reads. They stay pending for who knows
// them.
func (r *Runner) adoptLoop(ctx context.Context) {
	var poll <-chan time.Time
	if r.cfg.PollInterval > 0 {
		t := time.NewTicker(r.cfg.PollInterval)
		defer t.Stop()
		poll = t.C
	}
	r.NudgeAdopt()
	for {
		select {
		case <-r.adopt:
		case <-poll:
		case <-ctx.Done():
			return
		}
		err := r.adoptDue(ctx)
		if errors.Is(err, storage.ErrFenced) { // a shard has just moved: the others' messages wait
			r.NudgeAdopt()
			if sleep(ctx, 10*time.Millisecond) != nil {
				return
			}
			continue
		}
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.WarnContext(ctx, "new messages cannot be adopted, trying again", "error", err)
			if sleep(ctx, time.Second) != nil {
				return
			}
			r.NudgeAdopt()
		}
	}
}

func (r *Runner) adoptDue(ctx context.Context) error {
	q := storage.PendingQuery{Shards: r.shards(), Unadopted: true, Limit: pageSize}
	for {
		// A shard may be lost and regained while storage is read. What was read
		// before says nothing about the time after: the message may be finished.
		owned := *r.owned.Load()
		q.Now = time.Now()
		r.unplaced.read(true)
		page, err := r.cfg.Store.Pending(ctx, q)
		if err != nil {
			r.unplaced.read(false)
			return err
		}
		var unit storage.Unit
		var msgs []crustertype.Message
		done := make(chan error, 1)
		r.acceptMu.Lock()
		for _, m := range page {
			own := r.tenure(m.Shard)
			if own == nil || own != owned[m.Shard] || r.unplaced.has(m.ID) {
				continue // its owner finds it, or its sender gives it its place
			}
			lease := own.lease
			r.counters[m.Shard]++
			m.Seq = lease.Epoch<<seqBits | r.counters[m.Shard]
			unit.Leases = addLease(unit.Leases, lease)
			unit.Adopts = append(unit.Adopts, storage.Adopt{ID: m.ID, Seq: m.Seq})
			msgs = append(msgs, m)
		}
		if len(msgs) > 0 {
			r.Commit.Submit(unit, func(_ storage.Result, err error) {
				if err == nil {
					for i := range msgs {
						r.admit(&msgs[i], owned[msgs[i].Shard])
					}
				}
				done <- err
			})
		}
		r.acceptMu.Unlock()
		r.unplaced.read(false)
		if len(msgs) == 0 {
			return nil
		}
		select {
		case err := <-done:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if len(page) < pageSize {
			return nil
		}
	}
}
