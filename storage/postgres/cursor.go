package postgres

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// position is the place of one item in an order: a time, and what tells items
// of the same time apart.
type position struct {
	at  time.Time
	id  crustertype.RequestID
	ref crustertype.ExecutionRef // set when id is not
}

// beginning is before every time that a store is given.
var beginning = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)

// cursorText is the form of a position outside. Callers only hand it back.
type cursorText struct {
	Seconds int64  `json:"s"`
	Micros  int    `json:"u"`
	Message string `json:"m,omitempty"`
	Type    []byte `json:"t,omitempty"` // as bytes: JSON would change what is not UTF-8
	ID      []byte `json:"i,omitempty"`
}

func (p position) cursor() storage.Cursor {
	c := cursorText{Seconds: p.at.Unix(), Micros: p.at.Nanosecond() / 1000, Type: []byte(p.ref.Type), ID: []byte(p.ref.ID)}
	if !p.id.IsZero() {
		c.Message = p.id.String()
	}
	b, err := json.Marshal(c)
	if err != nil { // numbers and strings always encode
		return ""
	}
	return storage.Cursor(base64.RawURLEncoding.EncodeToString(b))
}

func parseCursor(c storage.Cursor) (position, error) {
	var t cursorText
	var p position
	b, err := base64.RawURLEncoding.DecodeString(string(c))
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err == nil && t.Message != "" {
		p.id, err = crustertype.ParseRequestID(t.Message)
	}
	const year = 366 * 24 * 3600
	if err != nil || t.Seconds < -4000*year || t.Seconds > 200_000*year {
		return position{}, invalid("postgres: cursor %q was not made by this store: begin with the empty one", string(c))
	}
	p.at = time.Unix(t.Seconds, int64(t.Micros)*1000).UTC()
	p.ref = crustertype.ExecutionRef{Type: string(t.Type), ID: string(t.ID)}
	return p, nil
}
