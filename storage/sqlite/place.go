package sqlite

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// place is the position of an item in an order: a time in microseconds, and
// what tells items of the same time apart. It is the content of a cursor.
type place struct {
	at  int64
	id  crustertype.RequestID    // of a message
	ref crustertype.ExecutionRef // of an execution; the zero value when it is a message
}

var (
	// lastID sorts behind every message of the same time.
	lastID = crustertype.RequestID(bytes.Repeat([]byte{0xff}, 16))
	// lastRef sorts behind every execution of the same time: names are ASCII.
	lastRef = crustertype.ExecutionRef{Type: "\xff", ID: ""}
)

func fromMicros(n int64) time.Time { return time.UnixMicro(n).UTC() }

func placeOfMessage(m *crustertype.Message) place { return place{at: micros(m.CreatedAt), id: m.ID} }

func placeOfExecution(e *crustertype.Execution) place {
	return place{at: micros(e.CreatedAt), ref: e.ExecutionRef}
}

func (p place) isExecution() bool { return p.ref != (crustertype.ExecutionRef{}) }

func (p place) cursor() storage.Cursor {
	at := strconv.FormatInt(p.at, 10)
	if !p.isExecution() {
		return storage.Cursor(at + "/m/" + hex.EncodeToString(p.id[:]))
	}
	return storage.Cursor(at + "/e/" + strconv.Itoa(len(p.ref.Type)) + "/" + p.ref.Type + p.ref.ID)
}

// firstAt is before every time.
const firstAt = -1 << 63

// parsePlace reads a cursor. The empty one is before everything.
func parsePlace(c storage.Cursor) (place, error) {
	if c == "" {
		return place{at: firstAt}, nil
	}
	bad := crustertype.Errorf(crustertype.CodeInvalid, "cursor %q was not made by this store: begin with the empty one", string(c))
	when, rest, _ := strings.Cut(string(c), "/")
	kind, rest, _ := strings.Cut(rest, "/")
	at, err := strconv.ParseInt(when, 10, 64)
	if err != nil {
		return place{}, bad
	}
	p := place{at: at}
	switch kind {
	case "m":
		b, err := hex.DecodeString(rest)
		if err != nil || len(b) != len(p.id) {
			return place{}, bad
		}
		p.id = crustertype.RequestID(b)
	case "e":
		length, rest, _ := strings.Cut(rest, "/")
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 || n > len(rest) {
			return place{}, bad
		}
		p.ref = crustertype.ExecutionRef{Type: rest[:n], ID: rest[n:]}
	default:
		return place{}, bad
	}
	return p, nil
}
