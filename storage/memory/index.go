package memory

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// message is a stored message with the places that index it.
type message struct {
	crustertype.Message
	home *shard
	kind *messageType
}

// execution is a stored execution with its journal and the places that index
// it.
type execution struct {
	crustertype.Execution
	home *shard
	kind *execType
	runs []journal // by run
	// cancelSeen says that the current run's journal shows the cancel.
	cancelSeen bool
}

// journal is the steps of one run by position. A stored step is never
// modified, only replaced.
type journal struct {
	run   int
	steps []*crustertype.Step
}

type scheduleKey struct {
	kind crustertype.ScheduleKind
	name string
}

// shard holds a shard's owner and the indexes of its unfinished work.
type shard struct {
	lease   crustertype.Lease
	lockRev int64

	// adopted and unadopted hold the pending messages that are due at
	// readyUntil. Later ones are in timers alone; a query with a later time
	// moves readyUntil on.
	adopted    ordered[*message] // by (Seq, ID)
	unadopted  ordered[*message] // by ID
	readyUntil time.Time
	// byAddress splits adopted and unadopted by address. It exists from the
	// first query that asks for an address until no message is ready: only
	// entities with a backlog are asked about.
	byAddress map[crustertype.Address]*backlog

	runnable ordered[*execution] // by creation
	timers   ordered[timer]
}

type backlog struct {
	adopted, unadopted ordered[*message]
}

// timer is one entry of a shard's timers: exactly one of m and e is set.
type timer struct {
	at time.Time
	m  *message
	e  *execution
}

type messageType struct {
	pending, dead   int64
	finished, tombs ordered[*message] // done ones by (FinishedAt, ID)
}

type execType struct {
	count           [crustertype.StatusDead + 1]int64
	finished, tombs ordered[*execution] // final ones by (FinishedAt, Type, ID)
}

func compareID(a, b crustertype.RequestID) int { return bytes.Compare(a[:], b[:]) }

func compareRef(a, b crustertype.ExecutionRef) int {
	return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
}

func bySeq(a, b *message) int {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), compareID(a.ID, b.ID))
}

func byMessageCreation(a, b *message) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), compareID(a.ID, b.ID))
}

func byMessageEnd(a, b *message) int {
	return cmp.Or(a.FinishedAt.Compare(b.FinishedAt), compareID(a.ID, b.ID))
}

func byExecutionCreation(a, b *execution) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), compareRef(a.ExecutionRef, b.ExecutionRef))
}

func byExecutionEnd(a, b *execution) int {
	return cmp.Or(a.FinishedAt.Compare(b.FinishedAt), compareRef(a.ExecutionRef, b.ExecutionRef))
}

// byDue orders timers by time; at one time executions come first.
func byDue(a, b timer) int {
	if c := a.at.Compare(b.at); c != 0 {
		return c
	}
	switch {
	case a.m != nil && b.m != nil:
		return compareID(a.m.ID, b.m.ID)
	case a.m != nil:
		return 1
	case b.m != nil:
		return -1
	}
	return compareRef(a.e.ExecutionRef, b.e.ExecutionRef)
}

func (s *store) shard(id crustertype.Shard) *shard {
	sh := s.shards[id]
	if sh == nil {
		sh = &shard{
			lease:   crustertype.Lease{Shard: id},
			adopted: newOrdered(bySeq), unadopted: newOrdered(bySeq),
			runnable: newOrdered(byExecutionCreation), timers: newOrdered(byDue),
		}
		s.shards[id] = sh
	}
	return sh
}

func (s *store) messageType(name string) *messageType {
	k := s.messageBy[name]
	if k == nil {
		k = &messageType{finished: newOrdered(byMessageEnd), tombs: newOrdered(byMessageEnd)}
		s.messageBy[name] = k
	}
	return k
}

func (s *store) execType(name string) *execType {
	k := s.execBy[name]
	if k == nil {
		k = &execType{finished: newOrdered(byExecutionEnd), tombs: newOrdered(byExecutionEnd)}
		s.execBy[name] = k
	}
	return k
}

// index enters m where its state belongs. State, Seq, DeliverAt and FinishedAt
// change only between unindex and index.
func (m *message) index() {
	switch m.State {
	case crustertype.MessagePending:
		m.kind.pending++
		if !m.DeliverAt.IsZero() {
			m.home.timers.insert(timer{at: m.DeliverAt, m: m})
		}
		if !m.DeliverAt.After(m.home.readyUntil) {
			m.home.ready(m)
		}
	case crustertype.MessageDead:
		m.kind.dead++
	case crustertype.MessageDone:
		m.kind.finished.insert(m)
	}
}

// unindex takes m out again. It is found in tombs only when it is one.
func (m *message) unindex() {
	switch m.State {
	case crustertype.MessagePending:
		m.kind.pending--
		if !m.DeliverAt.IsZero() {
			m.home.timers.remove(timer{at: m.DeliverAt, m: m})
		}
		if !m.DeliverAt.After(m.home.readyUntil) {
			m.home.unready(m)
		}
	case crustertype.MessageDead:
		m.kind.dead--
	case crustertype.MessageDone:
		if !m.kind.finished.remove(m) {
			m.kind.tombs.remove(m)
		}
	}
}

func (h *shard) ready(m *message) {
	all, own := &h.adopted, (*ordered[*message])(nil)
	if m.Seq == 0 {
		all = &h.unadopted
	}
	if h.byAddress != nil {
		b := h.byAddress[m.Address]
		if b == nil {
			b = &backlog{adopted: newOrdered(bySeq), unadopted: newOrdered(bySeq)}
			h.byAddress[m.Address] = b
		}
		if own = &b.adopted; m.Seq == 0 {
			own = &b.unadopted
		}
		own.insert(m)
	}
	all.insert(m)
}

func (h *shard) unready(m *message) {
	if m.Seq == 0 {
		h.unadopted.remove(m)
	} else {
		h.adopted.remove(m)
	}
	if h.byAddress == nil {
		return
	}
	if h.adopted.n+h.unadopted.n == 0 {
		h.byAddress = nil
		return
	}
	if b := h.byAddress[m.Address]; b != nil {
		if m.Seq == 0 {
			b.unadopted.remove(m)
		} else {
			b.adopted.remove(m)
		}
		if b.adopted.n+b.unadopted.n == 0 {
			delete(h.byAddress, m.Address)
		}
	}
}

// advance makes the messages that are due at now ready.
func (h *shard) advance(now time.Time) {
	if !now.After(h.readyUntil) {
		return
	}
	from := h.readyUntil
	h.readyUntil = now
	for c := h.timers.above(timer{at: from, m: lastMessage}); ; c.next() {
		t, ok := c.get()
		if !ok || t.at.After(now) {
			return
		}
		if t.m != nil {
			h.ready(t.m)
		}
	}
}

// lastMessage sorts behind every message of the same time.
var lastMessage = &message{Message: crustertype.Message{ID: crustertype.RequestID(bytes.Repeat([]byte{0xff}, 16))}}

// backlogOf returns the ready messages of one address, or nil.
func (h *shard) backlogOf(a crustertype.Address) *backlog {
	if h.byAddress == nil {
		if h.adopted.n+h.unadopted.n == 0 {
			return nil
		}
		h.byAddress = make(map[crustertype.Address]*backlog)
		for _, set := range []*ordered[*message]{&h.adopted, &h.unadopted} {
			for c := set.first(); ; c.next() {
				m, ok := c.get()
				if !ok {
					break
				}
				h.ready(m)
			}
		}
	}
	return h.byAddress[a]
}

// dues returns the times at which a suspended execution is due.
func (e *execution) dues() (at [2]time.Time, n int) {
	if !e.WakeAt.IsZero() {
		at[0], n = e.WakeAt, 1
	}
	if !e.CancelAt.IsZero() && !e.cancelSeen && (n == 0 || !e.CancelAt.Equal(e.WakeAt)) {
		at[n] = e.CancelAt
		n++
	}
	return at, n
}

// index enters e where its status belongs. Status, the times and cancelSeen
// change only between unindex and index.
func (e *execution) index() {
	e.count(1)
	switch {
	case e.Status == crustertype.StatusRunning:
		e.home.runnable.insert(e)
	case e.Status == crustertype.StatusSuspended:
		at, n := e.dues()
		for _, t := range at[:n] {
			e.home.timers.insert(timer{at: t, e: e})
		}
	case e.Status.Final():
		e.kind.finished.insert(e)
	}
}

func (e *execution) unindex() {
	e.count(-1)
	switch {
	case e.Status == crustertype.StatusRunning:
		e.home.runnable.remove(e)
	case e.Status == crustertype.StatusSuspended:
		at, n := e.dues()
		for _, t := range at[:n] {
			e.home.timers.remove(timer{at: t, e: e})
		}
	case e.Status.Final():
		if !e.kind.finished.remove(e) {
			e.kind.tombs.remove(e)
		}
	}
}

func (e *execution) count(d int64) {
	if int(e.Status) < len(e.kind.count) {
		e.kind.count[e.Status] += d
	}
}

// journal returns the place of run in e.runs, and whether it is there.
func (e *execution) journal(run int) (int, bool) {
	return slices.BinarySearchFunc(e.runs, run, func(j journal, run int) int { return cmp.Compare(j.run, run) })
}

// find returns the place of pos among the steps, and whether it is there.
func (j *journal) find(pos int) (int, bool) {
	if n := len(j.steps); n == 0 || j.steps[n-1].Pos < pos {
		return n, false
	}
	return slices.BinarySearchFunc(j.steps, pos, func(st *crustertype.Step, pos int) int { return cmp.Compare(st.Pos, pos) })
}
