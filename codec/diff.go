package codec

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

// differences shown by Diff, and how long each side may be.
const (
	maxDifferences = 5
	maxSide        = 60
)

// Diff says in a line where two payloads of the same built-in codec differ, for errors such as a non-deterministic workflow or a reused key:
//
//	Amount: 5 -> 7; Items[1].SKU: "a" -> "b"; and 3 more
//
// A field that is missing on one side and zero on the other is shown only if there is nothing else, because for [Digest] it is the same,
// unless it is an entry of a map. Equal payloads give "". Payloads that cannot be decoded, also because codecName is unknown, are compared
// as bytes. For other codecs use [DiffPayloads].
func Diff(recorded, requested []byte, codecName string) string {
	c, err := (*Registry)(nil).Lookup(codecName)
	if err != nil {
		return diffBytes(recorded, requested, err)
	}
	return DiffPayloads(recorded, requested, c)
}

// DiffPayloads is [Diff] for payloads of codec c.
func DiffPayloads(recorded, requested []byte, c Codec) string {
	if bytes.Equal(recorded, requested) {
		return ""
	}
	var a, b any
	if err := c.Unmarshal(recorded, &a); err != nil {
		return diffBytes(recorded, requested, err)
	}
	if err := c.Unmarshal(requested, &b); err != nil {
		return diffBytes(recorded, requested, err)
	}
	d := differ{zeroIsMissing: true}
	d.compare("", a, b)
	if d.count == 0 {
		d = differ{}
		d.compare("", a, b)
	}
	if d.count > maxDifferences {
		d.found = append(d.found, fmt.Sprintf("and %d more", d.count-maxDifferences))
	}
	return strings.Join(d.found, "; ")
}

func diffBytes(a, b []byte, err error) string {
	if bytes.Equal(a, b) {
		return ""
	}
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	return fmt.Sprintf("%d bytes -> %d bytes, different from byte %d (contents cannot be shown: %s)", len(a), len(b), at, clip(err.Error(), 200))
}

type differ struct {
	zeroIsMissing bool
	count         int
	found         []string
}

// missing stands for an entry or element that one side does not have.
type missing struct {
	element bool // of an array, where a zero is not the same as nothing
}

func (d *differ) compare(path string, a, b any) {
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			keys := maps.Clone(a)
			maps.Copy(keys, b)
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				step := bareKey(k)
				if step[0] == '"' {
					step = "[" + step + "]"
				} else if path != "" {
					step = "." + step
				}
				d.compare(path+step, entryOf(a, k), entryOf(b, k))
			}
			return
		}
	case map[any]any:
		if b, ok := b.(map[any]any); ok {
			keys := maps.Clone(a)
			maps.Copy(keys, b)
			for _, k := range sortedKeys(keys) {
				d.compare(path+"["+describe(k, maxSide)+"]", entryOf(a, k), entryOf(b, k))
			}
			return
		}
	case []any:
		if b, ok := b.([]any); ok {
			for i := range max(len(a), len(b)) {
				d.compare(path+indexStep(i), elementOf(a, i), elementOf(b, i))
			}
			return
		}
	}
	if !d.same(a, b) {
		d.report(path, a, b)
	}
}

func entryOf[K comparable](m map[K]any, k K) any {
	if x, ok := m[k]; ok {
		return x
	}
	return missing{}
}

func elementOf(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return missing{element: true}
}

func (d *differ) same(a, b any) bool {
	if m, ok := a.(missing); ok {
		return d.zeroIsMissing && !m.element && isLooseZero(b)
	}
	if _, ok := b.(missing); ok {
		return d.same(b, a)
	}
	if na, ok := asNumber(a); ok {
		nb, ok := asNumber(b)
		return ok && na == nb
	}
	if ta, ok := a.(time.Time); ok {
		tb, ok := b.(time.Time)
		return ok && ta.Equal(tb)
	}
	return reflect.DeepEqual(a, b) || d.zeroIsMissing && isLooseZero(a) && isLooseZero(b) && (a == nil || b == nil)
}

// asNumber brings equal numbers of different types to one value.
func asNumber(x any) (any, bool) {
	switch x := x.(type) {
	case int64, uint64:
		return x, true
	case float64:
		if i := int64(x); float64(i) == x && x < 1<<63 {
			return i, true
		}
		if u := uint64(x); float64(u) == x && x >= 1<<63 && x < 1<<64 {
			return u, true
		}
		if math.IsNaN(x) {
			return "NaN", true
		}
		return x, true
	}
	return nil, false
}

// isLooseZero reports what a missing field would decode to.
func isLooseZero(x any) bool {
	switch x := x.(type) {
	case nil:
		return true
	case []any:
		return len(x) == 0
	case map[string]any:
		for _, e := range x {
			if !isLooseZero(e) {
				return false
			}
		}
		return true
	case map[any]any:
		return len(x) == 0
	case []byte:
		return len(x) == 0
	case time.Time:
		return x.IsZero()
	}
	return reflect.ValueOf(x).IsZero()
}

func (d *differ) report(path string, a, b any) {
	if d.count++; d.count > maxDifferences {
		return
	}
	if path == "" {
		d.found = append(d.found, side(a)+" -> "+side(b))
		return
	}
	d.found = append(d.found, path+": "+side(a)+" -> "+side(b))
}

func side(x any) string {
	if _, ok := x.(missing); ok {
		return "(none)"
	}
	return describe(x, maxSide)
}
