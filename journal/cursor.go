package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// DefaultLimit is how many steps an execution may have.
const DefaultLimit = 10_000

// Request is a step as workflow code asks for it.
type Request struct {
	Kind   crustertype.StepKind
	Name   string
	Digest [16]byte // of the arguments
	Args   []byte   // encoded arguments for reports, may be nil
	Codec  string   // codec of Args
}

// Cursor walks the journal of one run while its code replays. It is used by one
// goroutine at a time. The zero Cursor is the journal of a run that has not
// recorded anything, without a limit.
type Cursor struct {
	rows     map[int]crustertype.Step
	last     int // highest recorded position plus one
	pos      int // next position
	consumed int // recorded rows that were asked for
	limit    int
	maxSeq   int64
	now      time.Time
	known    map[string]bool // answers of Changed
}

// New returns a cursor over the recorded rows of one run, in any order. The
// code's clock begins at start, and at most limit steps are allowed (0:
// [DefaultLimit]). It refuses rows that no engine can have written.
func New(rows []crustertype.Step, start time.Time, limit int) (*Cursor, error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	c := &Cursor{limit: limit, now: start}
	if len(rows) == 0 {
		return c, nil
	}
	c.rows = make(map[int]crustertype.Step, len(rows))
	seqs := make(map[int64]int, len(rows))
	for _, row := range rows {
		if err := check(row); err != nil {
			return nil, err
		}
		if row.Run != rows[0].Run {
			return nil, corrupt("step %d belongs to run %d, others to run %d", row.Pos, row.Run, rows[0].Run)
		}
		if _, dup := c.rows[row.Pos]; dup {
			return nil, corrupt("step %d is there twice", row.Pos)
		}
		if row.Done() {
			if other, dup := seqs[row.Seq]; dup {
				return nil, corrupt("steps %d and %d both ended as number %d", other, row.Pos, row.Seq)
			}
			seqs[row.Seq] = row.Pos
		}
		c.rows[row.Pos] = row
		c.last = max(c.last, row.Pos+1)
		c.maxSeq = max(c.maxSeq, row.Seq)
	}
	return c, nil
}

func check(row crustertype.Step) error {
	switch {
	case row.Pos < 0:
		return corrupt("a step has position %d", row.Pos)
	case row.Seq < 0:
		return corrupt("step %d has sequence number %d", row.Pos, row.Seq)
	case row.Attempts < 0:
		return corrupt("step %d has %d attempts", row.Pos, row.Attempts)
	case row.Kind < crustertype.StepActivity || row.Kind > crustertype.StepCancel:
		return corrupt("step %d is of unknown kind %d: written by a newer cruster?", row.Pos, row.Kind)
	case (row.Kind == crustertype.StepMarker || row.Kind == crustertype.StepCancel) && !row.Done():
		return corrupt("step %d, a %s, is not done", row.Pos, row.Kind)
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("journal is corrupt: "+format, args...)
}

// Next takes the next position for req. recorded is the row that an earlier run
// of the code wrote there, done or not; nil when there is none, and the step is
// to be executed. The error is a [*Mismatch], or [ErrTooLong] wrapped; then no
// position is taken.
func (c *Cursor) Next(req Request) (pos int, recorded *crustertype.Step, err error) {
	if c.limit > 0 && c.pos >= c.limit {
		return 0, nil, crustertype.Errorf(crustertype.CodeHistoryTooLong,
			"%s %q would be step %d: an execution may have %d; continue in a new one", req.Kind, req.Name, c.pos+1, c.limit)
	}
	row, ok := c.rows[c.pos]
	if !ok {
		c.pos++
		return c.pos - 1, nil, nil
	}
	if row.Kind != req.Kind || row.Name != req.Name || row.Digest != req.Digest {
		return 0, nil, &Mismatch{Pos: c.pos, Recorded: &row, Requested: &req}
	}
	c.pos++
	c.consumed++
	return c.pos - 1, &row, nil
}

// Changed answers whether the running code may take the branch of a change. A
// recorded marker, or an answer given before, decides; else it is false while
// rows recorded by older code lie ahead. A new marker is to be written, and has
// taken a position, when write is true.
func (c *Cursor) Changed(id string) (changed, write bool, pos int) {
	if answer, ok := c.known[id]; ok {
		return answer, false, 0
	}
	if c.known == nil {
		c.known = make(map[string]bool)
	}
	row, ok := c.rows[c.pos]
	switch {
	case ok && row.Kind == crustertype.StepMarker && row.Name == id:
		c.pos++
		c.consumed++
		c.known[id] = true
		return true, false, c.pos - 1
	case !c.Frontier(), c.limit > 0 && c.pos >= c.limit:
		c.known[id] = false
		return false, false, 0
	}
	c.known[id] = true
	c.pos++
	return true, true, c.pos - 1
}

// CancelDigest is the digest of the row that says: the op-th blocking operation
// noticed the cancel. It takes several operations that read no row of their own
// apart, such as two that wait for futures.
func CancelDigest(op int) [16]byte {
	var d [16]byte
	binary.BigEndian.PutUint64(d[8:], uint64(op))
	return d
}

// Cancelled returns the recorded row if the op-th blocking operation, which is
// about to start, noticed a cancel in an earlier run of the code. It takes the
// row's position.
func (c *Cursor) Cancelled(op int) *crustertype.Step {
	row, ok := c.rows[c.pos]
	if !ok || row.Kind != crustertype.StepCancel || row.Digest != CancelDigest(op) {
		return nil
	}
	c.pos++
	c.consumed++
	return &row
}

// Take takes the next position for a row that the engine adds by itself.
func (c *Cursor) Take() int {
	c.pos++
	return c.pos - 1
}

// Frontier reports whether nothing is recorded at the next position or behind
// it: what the code asks for now, it asks for the first time, as far as anybody
// can know.
func (c *Cursor) Frontier() bool { return c.pos >= c.last }

// Extend allows a tenth more steps. The engine calls it, once, before the
// compensation of an execution that has failed, perhaps for its length.
func (c *Cursor) Extend() { c.limit += (c.limit + 9) / 10 }

// Pos returns the next position.
func (c *Cursor) Pos() int { return c.pos }

// MaxSeq returns the highest recorded sequence number, 0 when nothing is done.
func (c *Cursor) MaxSeq() int64 { return c.maxSeq }

// Observe tells that the code has seen row's outcome, which moves its clock.
func (c *Cursor) Observe(row *crustertype.Step) {
	if row.At.After(c.now) {
		c.now = row.At
	}
}

// Now returns the code's clock: the latest time of a row that it has seen.
func (c *Cursor) Now() time.Time { return c.now }

// Finish is called when the code has ended. A recorded row that it did not ask
// for is a [*Mismatch].
func (c *Cursor) Finish() error {
	if c.consumed == len(c.rows) {
		return nil
	}
	for pos := c.pos; pos < c.last; pos++ {
		if row, ok := c.rows[pos]; ok {
			return &Mismatch{Pos: pos, Recorded: &row}
		}
	}
	return nil
}
