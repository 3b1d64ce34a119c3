package main

import (
	"fmt"
	"time"
)

// Time is a moment as callers see it: in UTC, always with a fraction.
type Time struct{ time.Time }

// MarshalJSON writes RFC 3339.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000000Z"`), nil
}

// Scan takes a time from the database.
func (t *Time) Scan(v any) error {
	at, ok := v.(time.Time)
	if !ok {
		return fmt.Errorf("a %T is not a time", v)
	}
	t.Time = at
	return nil
}
