package runner

import (
	"sync"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// unplaced are the messages that are committed in somebody's own transaction,
// and get their place in the order right after it. The loop that adopts what
// others stored must leave them alone.
type unplaced struct {
	mu      sync.Mutex
	ids     map[crustertype.RequestID]bool // true: placed, but the loop may have read it before
	reading bool                           // the loop has a page that it has not numbered yet
}

func (u *unplaced) add(id crustertype.RequestID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ids == nil {
		u.ids = make(map[crustertype.RequestID]bool)
	}
	u.ids[id] = false
}

func (u *unplaced) has(id crustertype.RequestID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.ids[id]
	return ok
}

// remove forgets messages: they are stored with their place now, or never will
// be by the one who said so.
func (u *unplaced) remove(ids []crustertype.RequestID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, id := range ids {
		if u.reading {
			u.ids[id] = true
		} else {
			delete(u.ids, id)
		}
	}
}

// read tells that the loop begins to read, or has numbered what it read.
func (u *unplaced) read(begins bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reading = begins
	if begins {
		return
	}
	for id, placed := range u.ids {
		if placed {
			delete(u.ids, id)
		}
	}
}

// Sending announces messages that are about to be committed in a transaction
// that does not go through the lane. What it returns is to be called with the
// answer to the commit, before anything else is sent that has to come behind
// them: it gives them their place in the order, with a commit of the lane that
// nobody waits for.
func (r *Runner) Sending(msgs []crustertype.Message) (sent func([]storage.AcceptResult, error)) {
	var ids []crustertype.RequestID
	for i := range msgs {
		if _, ok := r.Lease(msgs[i].Shard); ok && msgs[i].Seq == 0 && msgs[i].DeliverAt.IsZero() {
			r.unplaced.add(msgs[i].ID)
			ids = append(ids, msgs[i].ID)
		}
	}
	return func(existing []storage.AcceptResult, err error) {
		if err == nil {
			r.place(msgs, existing, ids)
			return
		}
		r.unplaced.remove(ids)
		if len(msgs) > 0 {
			r.NudgeAdopt() // they may have been stored all the same
		}
	}
}

// place numbers messages that are stored, on the lane, and admits them.
func (r *Runner) place(msgs []crustertype.Message, existing []storage.AcceptResult, ids []crustertype.RequestID) {
	r.report(msgs, existing)
	var unit storage.Unit
	var mine, others []crustertype.Message
	r.acceptMu.Lock()
	for i, m := range msgs {
		lease, ok := r.Lease(m.Shard)
		switch {
		case existing != nil && existing[i].Existing != nil: // it has its place
		case !ok || !r.unplaced.has(m.ID):
			others = append(others, m)
		default:
			r.counters[m.Shard]++
			m.Seq = lease.Epoch<<seqBits | r.counters[m.Shard]
			unit.Leases = addLease(unit.Leases, lease)
			unit.Adopts = append(unit.Adopts, storage.Adopt{ID: m.ID, Seq: m.Seq})
			mine = append(mine, m)
		}
	}
	if len(mine) > 0 {
		r.Commit.Submit(unit, func(_ storage.Result, err error) {
			for i := range mine {
				if err == nil {
					r.admit(&mine[i], nil)
				}
			}
			r.unplaced.remove(ids)
			if err != nil {
				r.NudgeAdopt()
			}
		})
	}
	r.acceptMu.Unlock()
	if len(mine) == 0 {
		r.unplaced.remove(ids)
	}
	r.Admit(others, nil)
}
