package runner

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cruster-go/cruster/crustertype"
)

// tenure is the time for which the runner owns one shard, under one lease.
type tenure struct {
	lease crustertype.Lease
	// open: requests may begin. It is cleared when the shard is to go; the lease
	// is good for the outcomes of what still runs.
	open atomic.Bool
	// recovering: requests of earlier owners are still being admitted, so that
	// new ones may have some before them in storage.
	recovering atomic.Bool

	duty    context.Context // duties' lifetime: ends when the shard is to go
	endDuty context.CancelCauseFunc
	life    context.Context // handlers' lifetime: ends when they have had time to end by themselves
	endLife context.CancelCauseFunc
	hard    context.Context // lifetime of the uninterruptible: ends when the drain is over
	endHard context.CancelCauseFunc

	mu     sync.Mutex // of begun, and of adding to duties
	begun  bool
	duties sync.WaitGroup
}

// shut lets nothing begin any more.
func (t *tenure) shut() {
	t.mu.Lock()
	t.open.Store(false)
	t.mu.Unlock()
}

// Duty is work that runs on the owner of a shard as long as it owns it.
type Duty struct {
	Shard crustertype.Shard
	// Run does the work. life ends when the shard is to go, kill when the time
	// for that is over. It returns when its work is done, or life has ended.
	Run func(life, kill context.Context)
	// Wake tells the work that somebody has changed what it reads. Optional.
	Wake func()
}

// WakeDuties wakes the duties of a shard.
func (r *Runner) WakeDuties(s crustertype.Shard) {
	for _, d := range r.duties {
		if d.Shard == s && d.Wake != nil {
			d.Wake()
		}
	}
}

// AddDuty adds a duty. It must not be called after Start.
func (r *Runner) AddDuty(d Duty) { r.duties = append(r.duties, d) }

type tenures = map[crustertype.Shard]*tenure

func (r *Runner) tenure(s crustertype.Shard) *tenure { return (*r.owned.Load())[s] }

// Lease returns the runner's current lease of a shard.
func (r *Runner) Lease(s crustertype.Shard) (crustertype.Lease, bool) {
	if t := r.tenure(s); t != nil {
		return t.lease, true
	}
	return crustertype.Lease{}, false
}

// Held returns the current lease of a shard as long as the runner may work.
func (r *Runner) Held(s crustertype.Shard) (crustertype.Lease, bool) {
	if !r.Working() {
		return crustertype.Lease{}, false
	}
	return r.Lease(s)
}

// Open reports whether requests of a shard may begin here.
func (r *Runner) Open(s crustertype.Shard) bool {
	t := r.tenure(s)
	return t != nil && t.open.Load() && r.Working()
}

// shards returns those that are open.
func (r *Runner) shards() []crustertype.Shard {
	var open []crustertype.Shard
	for s, t := range *r.owned.Load() {
		if t.open.Load() {
			open = append(open, s)
		}
	}
	slices.SortFunc(open, crustertype.Shard.Compare)
	return open
}

// change replaces the table of owned shards.
func (r *Runner) change(f func(tenures)) {
	r.ownMu.Lock()
	defer r.ownMu.Unlock()
	next := maps.Clone(*r.owned.Load())
	f(next)
	r.owned.Store(&next)
}

// Begin begins to serve shards under leases, which must be current: requests are
// taken from now on. Gain has to follow.
func (r *Runner) Begin(leases []crustertype.Lease) {
	r.change(func(m tenures) {
		for _, l := range leases {
			if have := m[l.Shard]; have != nil && have.lease == l {
				continue
			}
			t := &tenure{lease: l}
			t.hard, t.endHard = context.WithCancelCause(r.hard)
			t.life, t.endLife = context.WithCancelCause(r.life)
			t.duty, t.endDuty = context.WithCancelCause(t.life)
			t.recovering.Store(true)
			t.open.Store(true)
			m[l.Shard] = t
		}
	})
}

// Gain reads the unfinished work of earlier owners of shards that were begun,
// and begins their duties. Shards that were closed since are left out. When it
// fails, it can be called again.
func (r *Runner) Gain(ctx context.Context, leases []crustertype.Lease) error {
	var shards []crustertype.Shard
	var began []*tenure
	found := make(tenures, len(leases))
	for _, l := range leases {
		if t := r.tenure(l.Shard); t != nil && t.lease == l && t.open.Load() {
			shards, began, found[l.Shard] = append(shards, l.Shard), append(began, t), t
		}
	}
	if len(shards) == 0 {
		return nil
	}
	if err := r.recover(ctx, shards, found); err != nil {
		return err
	}
	for _, t := range began {
		t.recovering.Store(false)
	}
	if r.cfg.Recover != nil {
		if err := r.cfg.Recover(ctx, shards); err != nil {
			return err
		}
	}
	for _, t := range began {
		r.beginDuties(t)
	}
	r.NudgeAdopt()
	r.alarms.reload()
	return nil
}

func (r *Runner) beginDuties(t *tenure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun || !t.open.Load() {
		return
	}
	t.begun = true
	for _, d := range r.duties {
		if d.Shard != t.lease.Shard {
			continue
		}
		t.duties.Add(1)
		go func() {
			defer t.duties.Done()
			d.Run(t.duty, t.hard)
		}()
	}
}

// ended returns a channel that is closed when the duties have ended.
func (t *tenure) ended() <-chan struct{} {
	ch := make(chan struct{})
	go func() { // outlives the runner when a task never ends, which Shutdown reports
		t.duties.Wait()
		close(ch)
	}()
	return ch
}

// Close begins the end of shards: no request begins any more, those that wait
// are left to the next owner, and duties are told to stop. The channel of a shard
// is closed when nothing of it runs. Until Drop, the lease is used for what still
// has to be written.
func (r *Runner) Close(shards []crustertype.Shard, cause error) map[crustertype.Shard]<-chan struct{} {
	gone := make(map[*tenure][]<-chan struct{}, len(shards))
	for _, s := range shards {
		if t := r.tenure(s); t != nil {
			t.shut()
			gone[t] = nil
		}
	}
	for t := range gone {
		t.endDuty(cause)
	}
	for _, typ := range r.types {
		typ.closeShards(gone, cause)
	}
	idle := make(map[crustertype.Shard]<-chan struct{}, len(gone))
	for t, busy := range gone {
		ch := make(chan struct{})
		idle[t.lease.Shard] = ch
		go func() {
			defer close(ch)
			for _, done := range busy {
				<-done
			}
			t.duties.Wait()
		}()
	}
	return idle
}

// Canceller returns what tells the handlers of shards that were closed to stop,
// except the uninterruptible. It concerns the present time of the shards alone.
func (r *Runner) Canceller(shards []crustertype.Shard, cause error) func() {
	var list []*tenure
	for _, s := range shards {
		if t := r.tenure(s); t != nil {
			list = append(list, t)
		}
	}
	return func() {
		for _, t := range list {
			t.endLife(cause)
		}
	}
}

// CancelAll ends the time of shards that were closed: the uninterruptible are
// told to stop too.
func (r *Runner) CancelAll(shards []crustertype.Shard, cause error) {
	for _, s := range shards {
		if t := r.tenure(s); t != nil {
			t.endLife(cause)
			t.endHard(cause)
		}
	}
}

// Drop ends the use of the leases of shards that were closed, and tells those
// who wait for their requests to ask the next owner.
func (r *Runner) Drop(shards []crustertype.Shard, cause error) {
	gone := make(map[crustertype.Shard]bool, len(shards))
	r.acceptMu.Lock() // who has read a lease has handed in what relies on it
	r.change(func(m tenures) {
		for _, s := range shards {
			if t := m[s]; t != nil {
				t.shut()
				t.endLife(cause)
				t.endHard(cause)
				delete(m, s)
				gone[s] = true
			}
		}
	})
	r.acceptMu.Unlock()
	r.waiters.drop(gone, reply{err: stored(cause)})
}

// Flush waits until everything that was handed to the lane before is durable, or
// refused.
func (r *Runner) Flush(ctx context.Context) error { return r.Commit.Sync(ctx) }

// Shards returns every shard that the runner has a lease of.
func (r *Runner) Shards() []crustertype.Shard {
	return slices.SortedFunc(maps.Keys(*r.owned.Load()), crustertype.Shard.Compare)
}

// EnterShard counts something as running on a shard until leave is called. life
// ends when it is to stop. It reports false when the shard is not open.
func (r *Runner) EnterShard(s crustertype.Shard) (life context.Context, leave func(), ok bool) {
	t := r.tenure(s)
	if t == nil {
		return nil, nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open.Load() {
		return nil, nil, false
	}
	t.duties.Add(1)
	return t.life, t.duties.Done, true
}

// Owned returns how many shards are open.
func (r *Runner) Owned() int {
	n := 0
	for _, t := range *r.owned.Load() {
		if t.open.Load() {
			n++
		}
	}
	return n
}

// Entities returns how many entities are in memory.
func (r *Runner) Entities() int {
	n := 0
	for _, t := range r.types {
		n += t.Live()
	}
	return n
}
