package postgres

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cruster-go/cruster/crustertype"
)

// stamp returns t as the database keeps it: in UTC, to the microsecond.
func stamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// nullTime returns NULL for the zero time.
func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = stamp(t)
	return &t
}

// nullText returns NULL for "".
func nullText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// nullBytes returns NULL for nothing.
func nullBytes(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// nullDigest returns NULL for the zero digest. It does not copy.
func nullDigest(d *[16]byte) []byte {
	if *d == [16]byte{} {
		return nil
	}
	return d[:]
}

// nullOutcome returns NULL for the zero outcome.
func nullOutcome(o *crustertype.Outcome) []byte {
	if o.Failure == nil && o.Codec == "" && len(o.Payload) == 0 {
		return nil
	}
	return crustertype.EncodeOutcome(*o)
}

// readable makes text that people read fit a column: it may come from an error
// message, which may hold anything.
func readable(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// uuid is an ID in the type of which pgx encodes arrays in all of its modes.
func uuid(id [16]byte) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// narrow reports a number that its integer column cannot hold.
func narrow(what string, n int) (int32, error) {
	if n < math.MinInt32 || n > math.MaxInt32 {
		return 0, fmt.Errorf("%s %d does not fit into 32 bits", what, n)
	}
	return int32(n), nil
}

// utc returns t, or the zero time for NULL and for the zero time's own value.
func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
