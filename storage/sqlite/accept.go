package sqlite

import (
	_ "embed" // the statement
	"strings"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

//go:embed query/insert_message.sql
var insertMessage string

// chunk is how many messages one statement inserts when there are so many: it
// takes three fifths of the time of as many statements of one row.
const chunk = 16

// insertChunk is insertMessage for a chunk.
var insertChunk = func() string {
	at, end := strings.Index(insertMessage, "(?"), strings.LastIndex(insertMessage, "?)")+2
	row := insertMessage[at:end]
	return insertMessage[:at] + strings.Repeat(row+",\n\t", chunk-1) + row + insertMessage[end:]
}()

const existMessage = `SELECT num, ` + messageNoBody + ` FROM cruster_message WHERE id = ?`

// accepted is the place of one accept in a commit.
type accepted struct{ unit, at int }

func (a *applier) message(p accepted) *crustertype.Message { return &a.units[p.unit].Accepts[p.at] }

// accepts inserts the messages of all units.
func (a *applier) accepts() error {
	var waiting [chunk]accepted
	n := 0
	for i := range a.units {
		for j := range a.units[i].Accepts {
			waiting[n] = accepted{i, j}
			if n++; n == chunk {
				if err := a.acceptChunk(waiting[:], insertChunk); err != nil {
					return err
				}
				n = 0
			}
		}
	}
	for i := range n {
		if err := a.acceptChunk(waiting[i:i+1], insertMessage); err != nil {
			return err
		}
	}
	return nil
}

// acceptChunk inserts some messages with one statement.
func (a *applier) acceptChunk(places []accepted, query string) error {
	a.args = a.args[:0]
	for _, p := range places {
		a.args = appendMessage(a.args, a.message(p))
	}
	inserted, last, err := a.c.insert(a.ctx, query, a.args...)
	if err != nil || inserted == int64(len(places)) {
		return err
	}
	// The new rows have the highest numbers. A message that comes twice in the
	// chunk is new the first time.
	seen := make(map[crustertype.RequestID]bool, len(places))
	for _, p := range places {
		id := a.message(p).ID
		var num int64
		var old crustertype.Message
		if err := a.c.query(a.ctx, existMessage, func(r *row) error {
			num, old = r.int64(), readMessage(r)
			return nil
		}, id[:]); err != nil {
			return err
		}
		if fresh := inserted > 0 && num > last-inserted; fresh && !seen[id] {
			seen[id] = true
			continue
		}
		res := &a.results[p.unit]
		if res.Accepts == nil {
			res.Accepts = make([]storage.AcceptResult, len(a.units[p.unit].Accepts))
		}
		res.Accepts[p.at].Existing = &old
	}
	return nil
}
