package replay

import (
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// tolerated is how many runs of an execution may end without progress before it
// is a suspect: up to that number nobody can tell whose process died.
const tolerated = 3

// patience is how long a suspect runs alone while others wait, at first. It
// doubles with every run that is counted against it, so that one which kills its
// process late is caught as well.
const patience = 10 * time.Second

// suspects lets executions that may have killed their process run one at a time:
// when it dies again, only one of them has a mark.
type suspects struct {
	mu      sync.Mutex
	holder  *trial
	waiting []*trial
}

// trial is a suspect's time alone, or its wait for it.
type trial struct {
	of      *suspects
	runs    int  // that ended without progress
	running bool // has had its time, and goes on meanwhile
	given   chan struct{}
	timer   *time.Timer
	overdue bool
	yield   func() // asks the holder to take its mark back and to leave; nil once asked
}

// enter waits for a suspect's time. It returns nil when one of the channels is
// closed before.
func (g *suspects) enter(runs int, running bool, halt, done <-chan struct{}) *trial {
	t := &trial{of: g, runs: runs, running: running, given: make(chan struct{})}
	g.mu.Lock()
	var yield func()
	if g.holder == nil {
		g.give(t)
	} else {
		g.waiting = append(g.waiting, t)
		yield = g.ask()
	}
	g.mu.Unlock()
	if yield != nil {
		yield()
	}
	select {
	case <-t.given:
		return t
	case <-halt:
	case <-done:
	}
	t.leave()
	return nil
}

// give makes t the holder, under g.mu.
func (g *suspects) give(t *trial) {
	g.holder = t
	t.timer = time.AfterFunc(patience<<min(max(t.runs-tolerated, 0), 6), t.expire)
	close(t.given)
}

// expire ends the holder's time, if somebody waits for his.
func (t *trial) expire() {
	t.of.mu.Lock()
	t.overdue = true
	yield := t.of.ask()
	t.of.mu.Unlock()
	if yield != nil {
		yield()
	}
}

// ask returns how to ask the holder to leave; nil: it need not, or was asked.
// Under g.mu.
func (g *suspects) ask() func() {
	t := g.holder
	if t == nil || !t.overdue || len(g.waiting) == 0 {
		return nil
	}
	f := t.yield
	t.yield = nil
	return f
}

// onYield sets what is called when the time is over and somebody waits.
func (t *trial) onYield(f func()) {
	t.of.mu.Lock()
	t.yield = f
	var yield func()
	if t.of.holder == t {
		yield = t.of.ask()
	}
	t.of.mu.Unlock()
	if yield != nil {
		yield()
	}
}

// leave passes the time on: to those who have not begun before those who run all
// the same, and to the one with the most runs, who is the likeliest. It may be
// called on nil, and twice.
func (t *trial) leave() {
	if t == nil {
		return
	}
	g := t.of
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.holder != t {
		for i, w := range g.waiting {
			if w == t {
				g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
				break
			}
		}
		return
	}
	t.timer.Stop()
	g.holder = nil
	next := -1
	for i, w := range g.waiting {
		if next < 0 || w.before(g.waiting[next]) {
			next = i
		}
	}
	if next >= 0 {
		w := g.waiting[next]
		g.waiting = append(g.waiting[:next], g.waiting[next+1:]...)
		g.give(w)
	}
}

func (t *trial) before(o *trial) bool {
	if t.running != o.running {
		return o.running
	}
	return !t.running && t.runs > o.runs
}

// suspected reports whether an execution is to run alone.
func (e *Engine) suspected(attempts int) bool {
	return attempts >= min(tolerated, e.cfg.MaxDeliveries-1)
}

// rested takes note that one of the goroutines which run the execution's code
// waits, under r.mu. It returns what to do after that without the lock.
func (r *Run) rested() func() {
	r.active--
	if r.active > 0 || !r.suspect || !r.marked {
		return func() {}
	}
	return func() { r.unmark(true) }
}

// unmark takes the crash mark of a suspect back: it is at rest, or has had its
// time. When that is durable, the next one's begins.
func (r *Run) unmark(rest bool) {
	r.marks.Lock() // not while the end of the run is written
	defer r.marks.Unlock()
	r.mu.Lock()
	if !r.marked || r.exit != nil || rest && r.active > 0 {
		r.mu.Unlock()
		return
	}
	r.marked = false
	r.stored--
	n := r.stored
	r.mu.Unlock()
	r.submit(storage.Unit{Updates: []storage.Update{r.update(crustertype.StatusRunning, n, time.Time{}, r.x.WaitingFor, r.x.Outcome)}}, func() {
		r.mu.Lock()
		r.stored = max(r.stored, n) // a step that was done meanwhile may have been written before
		r.mu.Unlock()
	})
}

// yield lets another suspect have its time. This one runs on, and has its mark
// again when nobody else needs the time.
func (r *Run) yield() {
	r.unmark(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.exit != nil || r.moved {
		return
	}
	r.steps.Add(1)
	go func() {
		defer r.steps.Done()
		if r.flushed() { // another one's time has begun, if somebody waited
			r.retake(true)
		}
	}()
}

// retake gives a suspect that goes on without progress its mark again, as soon
// as it is its time. running: the code does not wait for that.
func (r *Run) retake(running bool) {
	if !r.suspect {
		return
	}
	if !running {
		r.takes.Lock() // steps that go on together take it once
		defer r.takes.Unlock()
	}
	r.mu.Lock()
	t, runs, needed := r.trial, r.stored, !r.moved && !r.marked
	r.mu.Unlock()
	if !needed {
		return
	}
	if t == nil {
		if t = r.e.suspects.enter(runs, running, r.life.Done(), r.e.ctx.Done()); t == nil {
			return
		}
		t.onYield(r.yield)
	}
	r.marks.Lock()
	defer r.marks.Unlock()
	r.mu.Lock()
	if r.moved || r.marked || r.exit != nil || running && r.active == 0 || r.trial != nil && r.trial != t {
		keep := r.trial == t
		r.mu.Unlock()
		if !keep {
			t.leave()
		}
		return
	}
	r.trial, r.marked = t, true
	r.stored++
	n := r.stored
	r.mu.Unlock()
	r.submit(storage.Unit{Updates: []storage.Update{r.update(crustertype.StatusRunning, n, time.Time{}, r.x.WaitingFor, r.x.Outcome)}})
}

// absolve lets the next suspect run once this one's mark is gone from storage.
func (r *Run) absolve() {
	if !r.suspect {
		return
	}
	r.mu.Lock()
	t := r.trial
	if r.marked {
		t = nil
	} else {
		r.trial = nil
	}
	r.mu.Unlock()
	t.leave()
}

// acquit ends the run's time, whatever became of it.
func (r *Run) acquit() {
	r.mu.Lock()
	t := r.trial
	r.trial = nil
	r.mu.Unlock()
	t.leave()
}

// restsIn returns how a step tells that it waits for others: other entities, other
// executions. What that returns is called when it goes on.
func (r *Run) restsIn() func() func() {
	depth := 0 // under r.mu
	return func() func() {
		r.mu.Lock()
		then := func() {}
		if depth++; depth == 1 {
			then = r.rested()
		}
		r.mu.Unlock()
		then()
		return func() {
			r.mu.Lock()
			depth--
			on := depth == 0
			if on {
				r.active++
			}
			r.mu.Unlock()
			if on && r.suspect {
				r.retake(false)
				r.flushed()
			}
		}
	}
}
