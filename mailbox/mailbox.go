// Package mailbox orders the requests of one entity and bounds how many run and
// wait.
//
// A [Mailbox] has turns, as many as the entity's concurrency allows. A caller
// whose entity is idle takes a turn and runs its request on its own goroutine;
// other requests queue as entries and run on workers, which keep a turn until
// nothing is left. An idle mailbox holds no goroutine and no queue.
package mailbox

import (
	"sync"
	"sync/atomic"

	"github.com/cruster-go/cruster/crustertype"
)

// Options are the limits of the mailboxes of one entity type.
type Options struct {
	Capacity    int // best-effort requests that may wait; durable ones have half of it
	Concurrency int // requests of one entity that run at a time; 0: any number
}

// DurableRoom returns how many durable requests one mailbox holds in memory,
// running ones included: half of the capacity, at least one.
func (o *Options) DurableRoom() int { return max(1, o.Capacity/2) }

// A Job is one queued request. Run executes it on a worker; it may panic or
// call runtime.Goexit, the turn is passed on all the same.
type Job interface{ Run() }

// Entry is a place in the queue. The owner of the entry embeds it, sets Job and
// Durable, and does not touch it until the job has run or Remove returned true.
type Entry struct {
	Job     Job
	Durable bool

	next, prev *Entry
	seq        uint64
	queued     bool
}

// Spawn runs f on another goroutine; the owner of the mailboxes supplies it.
type Spawn func(f func())

// Mailbox is the queue of one entity. The zero value is ready. All methods may
// be called concurrently; every call for one mailbox passes the same Options.
//
// A caller that finds the mailbox idle takes the turn, and gives it back, with
// one atomic operation each. Whoever needs more takes the lock, which first
// turns such a turn into a counted one.
type Mailbox struct {
	mu      sync.Mutex
	q       *queues // nil until something has to wait
	onIdle  chan struct{}
	running int32 // turns taken, the one of stateQuick not included
	state   atomic.Uint32
	closed  bool
	paused  bool // durable entries stay where they are
}

const (
	stateIdle  = iota // nothing runs or waits, and the mailbox is open
	stateQuick        // one request runs, its turn is not counted
	stateFull         // all else: the fields under the lock tell
)

// lock takes the lock. All turns are counted then, until unlock.
func (m *Mailbox) lock() {
	m.mu.Lock()
	if m.state.Swap(stateFull) == stateQuick {
		m.running++
	}
}

// unlock releases the lock, and lets the next caller be quick if it can be.
func (m *Mailbox) unlock() {
	if m.running == 0 && !m.closed && m.waiting() == 0 {
		m.state.Store(stateIdle)
	}
	m.mu.Unlock()
}

type queues struct {
	volatile, durable list
	nextSeq           uint64
	frontSeq          uint64 // counts down: entries pushed to the front
}

type list struct {
	head, tail *Entry
	n          int
}

const seqMiddle = 1 << 62

var (
	errFull   = crustertype.ErrMailboxFull
	errClosed = crustertype.ErrNotOwner
)

// Enter takes a turn at once, if one is free and nobody waits. The caller runs
// its request and then calls Leave in a defer.
func (m *Mailbox) Enter(o *Options) (bool, error) {
	if m.state.CompareAndSwap(stateIdle, stateQuick) {
		return true, nil
	}
	return m.enter(o)
}

func (m *Mailbox) enter(o *Options) (bool, error) {
	m.lock()
	defer m.unlock()
	if m.closed {
		return false, errClosed
	}
	if (o.Concurrency > 0 && int(m.running) >= o.Concurrency) || m.waiting() > 0 {
		return false, nil
	}
	m.running++
	return true, nil
}

// Leave gives back a turn that Enter gave. Waiting requests go on, on a worker.
func (m *Mailbox) Leave(spawn Spawn) {
	if m.state.CompareAndSwap(stateQuick, stateIdle) {
		return
	}
	m.leave(spawn)
}

func (m *Mailbox) leave(spawn Spawn) {
	if e := m.done(); e != nil {
		spawn(func() { m.work(e, spawn) })
	}
}

// Push queues an entry. It returns ErrMailboxFull when a best-effort entry
// finds no room, and ErrNotOwner when the mailbox is closed. Durable entries are
// not refused: their owner counts them against DurableRoom.
func (m *Mailbox) Push(e *Entry, o *Options, spawn Spawn) error {
	return m.push(e, o, spawn, false)
}

// PushFront queues a durable entry before all others: one that is run again.
func (m *Mailbox) PushFront(e *Entry, o *Options, spawn Spawn) error {
	return m.push(e, o, spawn, true)
}

func (m *Mailbox) push(e *Entry, o *Options, spawn Spawn, front bool) error {
	m.lock()
	if m.closed {
		m.unlock()
		return errClosed
	}
	if m.q == nil {
		m.q = &queues{nextSeq: seqMiddle, frontSeq: seqMiddle}
	}
	if !e.Durable && m.q.volatile.n >= o.Capacity {
		m.unlock()
		return errFull
	}
	l := &m.q.volatile
	if e.Durable {
		l = &m.q.durable
	}
	if front {
		m.q.frontSeq--
		e.seq = m.q.frontSeq
		l.pushFront(e)
	} else {
		e.seq = m.q.nextSeq
		m.q.nextSeq++
		l.pushBack(e)
	}
	var run *Entry
	if o.Concurrency <= 0 || int(m.running) < o.Concurrency {
		if run = m.pop(); run != nil {
			m.running++
		}
	}
	m.unlock()
	if run != nil {
		spawn(func() { m.work(run, spawn) })
	}
	return nil
}

// Remove takes a waiting entry out, and reports false when it runs, has run or
// was never queued.
func (m *Mailbox) Remove(e *Entry) bool {
	m.lock()
	defer m.unlock()
	if !e.queued {
		return false
	}
	if e.Durable {
		m.q.durable.remove(e)
	} else {
		m.q.volatile.remove(e)
	}
	return true
}

// Pause keeps durable entries from running until Resume; those that run go on.
func (m *Mailbox) Pause() {
	m.lock()
	m.paused = true
	m.unlock()
}

// Resume ends a Pause.
func (m *Mailbox) Resume(o *Options, spawn Spawn) {
	m.lock()
	m.paused = false
	var run []*Entry
	for o.Concurrency <= 0 || int(m.running) < o.Concurrency {
		e := m.pop()
		if e == nil {
			break
		}
		m.running++
		run = append(run, e)
	}
	m.unlock()
	for _, e := range run {
		spawn(func() { m.work(e, spawn) })
	}
}

// CloseIdle closes the mailbox if nothing runs or waits, and reports whether it
// is closed now.
func (m *Mailbox) CloseIdle() bool {
	m.lock()
	defer m.unlock()
	if !m.closed && (m.running > 0 || m.waiting() > 0) {
		return false
	}
	m.closed = true
	return true
}

// Close refuses new requests and returns those that wait, in order. Running
// ones go on; idle is closed when the last has ended.
func (m *Mailbox) Close() (waiting []*Entry, idle <-chan struct{}) {
	m.lock()
	defer m.unlock()
	m.closed, m.paused = true, false
	for e := m.pop(); e != nil; e = m.pop() {
		waiting = append(waiting, e)
	}
	if m.onIdle == nil {
		m.onIdle = make(chan struct{})
		if m.running == 0 {
			close(m.onIdle)
		}
	}
	return waiting, m.onIdle
}

// Load returns how many requests run and wait.
func (m *Mailbox) Load() (running, waiting int) {
	m.lock()
	defer m.unlock()
	return int(m.running), m.waiting()
}

func (m *Mailbox) waiting() int {
	if m.q == nil {
		return 0
	}
	return m.q.volatile.n + m.q.durable.n
}

// work runs entries until none is left, then gives the turn back.
func (m *Mailbox) work(e *Entry, spawn Spawn) {
	for e != nil {
		e = m.run(e, spawn)
	}
}

// run executes one job and returns the next. When the job leaves by panic or
// Goexit, the turn goes to another worker.
func (m *Mailbox) run(e *Entry, spawn Spawn) (next *Entry) {
	returned := false
	defer func() {
		next = m.done()
		if !returned && next != nil {
			e := next
			spawn(func() { m.work(e, spawn) })
		}
	}()
	e.Job.Run()
	returned = true
	return nil
}

// done gives a turn back, or keeps it and returns the entry to run with it.
func (m *Mailbox) done() *Entry {
	m.lock()
	defer m.unlock()
	if e := m.pop(); e != nil {
		return e
	}
	m.running--
	if m.running == 0 {
		if m.q != nil && m.waiting() == 0 {
			m.q = nil
		}
		if m.closed && m.onIdle != nil {
			select {
			case <-m.onIdle:
			default:
				close(m.onIdle)
			}
		}
	}
	return nil
}

// pop takes the entry that was admitted first and may run.
func (m *Mailbox) pop() *Entry {
	if m.q == nil {
		return nil
	}
	v, d := m.q.volatile.head, m.q.durable.head
	if m.paused {
		d = nil
	}
	switch {
	case v == nil && d == nil:
		return nil
	case d == nil || (v != nil && v.seq < d.seq):
		m.q.volatile.remove(v)
		return v
	}
	m.q.durable.remove(d)
	return d
}

func (l *list) pushBack(e *Entry) {
	e.prev, e.next, e.queued = l.tail, nil, true
	if l.tail != nil {
		l.tail.next = e
	} else {
		l.head = e
	}
	l.tail = e
	l.n++
}

func (l *list) pushFront(e *Entry) {
	e.prev, e.next, e.queued = nil, l.head, true
	if l.head != nil {
		l.head.prev = e
	} else {
		l.tail = e
	}
	l.head = e
	l.n++
}

func (l *list) remove(e *Entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.tail = e.prev
	}
	e.prev, e.next, e.queued = nil, nil, false
	l.n--
}
