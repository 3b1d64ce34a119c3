package codec

import (
	"crypto/sha256"
	"reflect"
)

// Digest returns 128 bits that identify what v says, however its Go type spells it. Two values have the same digest if they differ only in
//
//   - the order of struct fields, or of map entries,
//   - fields that are zero on one side and missing on the other, so that a new field changes nothing until it is used,
//   - the width of numbers (int8 or uint64, 5 or 5.0),
//   - nil or empty slices and maps,
//   - the location of a time; only the instant counts,
//   - having made the trip through [Msgpack], or, without fields of type any, through [JSON].
//
// Anything else changes it, as surely as SHA-256 does. Digests are stored, so the canonical form (see DESIGN.md) never changes. Types that
// [CheckType] refuses have none.
func Digest(v any) ([16]byte, error) {
	e := getEncoder()
	defer putEncoder(e)
	c := canon{encoder: e}
	e.buf = append(e.buf, canonVersion)
	if v == nil {
		e.buf = append(e.buf, tagNil)
	} else {
		rv := reflect.ValueOf(v)
		p, err := planOf(rv.Type())
		if err != nil {
			return [16]byte{}, err
		}
		if err := c.value(p, rv, false); err != nil {
			return [16]byte{}, rooted(err, rv.Type())
		}
	}
	sum := sha256.Sum256(e.buf)
	return [16]byte(sum[:16]), nil
}
