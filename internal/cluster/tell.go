package cluster

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
)

// maxNotes bounds what waits to be told. More is dropped: the owners search
// storage too.
const maxNotes = 10_000

// tellTries is how often a note is sent before it is left to the owner's search.
const tellTries = 6

// teller is what owners of other shards are still to be told.
type teller struct {
	wake chan struct{}

	mu    sync.Mutex
	notes map[dispatch.Note]int // to how many tries it has come
}

// Tell lets the owner of a shard know of work in storage. See [dispatch.Router]. A
// nil Node does nothing.
func (n *Node) Tell(note dispatch.Note) {
	if n == nil {
		return
	}
	if note.Execution.Type == "" && !note.At.IsZero() {
		note.At = note.At.Round(0) // comparable
	}
	n.teller.add(note, 0)
}

func (t *teller) add(note dispatch.Note, tries int) {
	t.mu.Lock()
	if t.notes == nil {
		t.notes = make(map[dispatch.Note]int)
	}
	if _, ok := t.notes[note]; ok || len(t.notes) < maxNotes {
		t.notes[note] = tries
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *teller) take() map[dispatch.Note]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	notes := t.notes
	t.notes = nil
	return notes
}

// tell sends what Tell was given: one request per owner, in parallel.
func (n *Node) tell() {
	for {
		select {
		case <-n.teller.wake:
		case <-n.ctx.Done():
			return
		}
		byOwner := make(map[string][]dispatch.Note)
		notes := n.teller.take()
		t := n.table.Load()
		for note, tries := range notes {
			if n.cfg.Run.Open(note.Shard) {
				n.noted(note)
				continue
			}
			a := t.address(note.Shard, tries)
			if a == n.cfg.Transport.Address() {
				a = "" // it is to be ours: what is in storage is found when it is
			}
			byOwner[a] = append(byOwner[a], note)
		}
		delete(byOwner, "")
		for to, list := range byOwner {
			n.go1(func() {
				ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
				defer cancel()
				if _, err := n.cfg.Transport.Call(ctx, to, dispatch.OpNudge, encodeNotes(list)); err == nil {
					return
				}
				most := 0
				for _, note := range list {
					most = max(most, notes[note])
				}
				if !pause(n.ctx, 10*time.Millisecond<<min(most, tellTries)) {
					return
				}
				for _, note := range list {
					if notes[note] < tellTries {
						n.teller.add(note, notes[note]+1)
					}
				}
			})
		}
	}
}

// noted acts on a note about a shard of this runner.
func (n *Node) noted(note dispatch.Note) {
	switch {
	case note.Execution.Type != "":
		n.cfg.Run.Spawn(func() { n.cfg.Workflows.Notice(n.ctx, note.Execution) })
	case note.At.IsZero():
		n.cfg.Run.NudgeAdopt()
		n.cfg.Run.WakeDuties(note.Shard)
	default:
		n.cfg.Run.WakeAt(note.At)
	}
}

func encodeNotes(notes []dispatch.Note) []byte {
	b := binary.AppendUvarint([]byte{1}, uint64(len(notes)))
	for _, note := range notes {
		b = appendText(b, note.Shard.Group)
		b = binary.AppendUvarint(b, uint64(note.Shard.Index))
		at := int64(0)
		if !note.At.IsZero() {
			at = note.At.UnixMicro()
		}
		b = binary.AppendVarint(b, at)
		b = appendText(appendText(b, note.Execution.Type), note.Execution.ID)
	}
	return b
}

func decodeNotes(b []byte) ([]dispatch.Note, error) {
	r := dispatch.ReadFields(b)
	var notes []dispatch.Note
	for range r.Count(maxNotes) {
		var note dispatch.Note
		note.Shard.Group = r.Text(crustertype.MaxNameLen)
		note.Shard.Index = r.Count(1 << 16)
		note.At = r.Time()
		note.Execution.Type, note.Execution.ID = r.Text(crustertype.MaxNameLen), r.Text(crustertype.MaxIDLen)
		if r.Err() != nil {
			break
		}
		notes = append(notes, note)
	}
	return notes, r.End()
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
