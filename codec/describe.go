package codec

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// defaultDescribe is how long a description is when max is not positive.
const defaultDescribe = 256

// Describe renders v as it would travel, in at most max bytes (256 if max is not positive), for error messages and logs:
//
//	{Amount: 5, Items: [{SKU: "a-1"}], Token: 0x9f3c}
//
// Map entries are sorted, what does not fit is cut off with "…", and a value that cannot travel is named by its type.
func Describe(v any, max int) string {
	data, err := Msgpack().Marshal(v)
	if err != nil {
		return clip(fmt.Sprintf("%T (cannot be shown: %v)", v, err), limit(max))
	}
	return DescribePayload(data, Msgpack(), max)
}

// DescribePayload is [Describe] for what codec c has encoded. A payload that c cannot decode is shown by its length.
func DescribePayload(data []byte, c Codec, max int) string {
	var tree any
	if err := c.Unmarshal(data, &tree); err != nil {
		return clip(fmt.Sprintf("%d bytes (cannot be shown: %v)", len(data), err), limit(max))
	}
	return describe(tree, max)
}

func describe(tree any, max int) string {
	p := printer{max: limit(max)}
	p.value(tree)
	return clip(p.b.String(), p.max)
}

func limit(max int) int {
	if max <= 0 {
		return defaultDescribe
	}
	return max
}

// printer renders a loosely decoded value. It stops soon after max bytes, however large the value.
type printer struct {
	b   strings.Builder
	max int
}

func (p *printer) full() bool { return p.b.Len() > p.max }

func (p *printer) value(x any) {
	if p.full() {
		return
	}
	switch x := x.(type) {
	case nil:
		p.b.WriteString("nil")
	case string:
		p.b.WriteString(strconv.Quote(x[:min(len(x), p.max+1)]))
	case float64:
		p.b.WriteString(floatText(x, 64))
	case []byte:
		p.bytes(x)
	case time.Time:
		p.b.WriteString(x.UTC().Format(time.RFC3339Nano))
	case []any:
		p.b.WriteByte('[')
		for i, e := range x {
			if p.full() {
				return
			}
			if i > 0 {
				p.b.WriteString(", ")
			}
			p.value(e)
		}
		p.b.WriteByte(']')
	case map[string]any:
		p.b.WriteByte('{')
		for i, k := range slices.Sorted(maps.Keys(x)) {
			if p.full() {
				return
			}
			if i > 0 {
				p.b.WriteString(", ")
			}
			p.b.WriteString(bareKey(k) + ": ")
			p.value(x[k])
		}
		p.b.WriteByte('}')
	case map[any]any:
		p.mixed(x)
	default: // bool, int64, uint64
		fmt.Fprint(&p.b, x)
	}
}

func (p *printer) mixed(m map[any]any) {
	p.b.WriteByte('{')
	for i, k := range sortedKeys(m) {
		if p.full() {
			return
		}
		if i > 0 {
			p.b.WriteString(", ")
		}
		p.value(k)
		p.b.WriteString(": ")
		p.value(m[k])
	}
	p.b.WriteByte('}')
}

func (p *printer) bytes(b []byte) {
	const shown = 16
	p.b.WriteString("0x" + hex.EncodeToString(b[:min(len(b), shown)]))
	if len(b) > shown {
		fmt.Fprintf(&p.b, "… (%d bytes)", len(b))
	}
}

// sortedKeys orders mixed keys by type and then by value, so that descriptions are stable.
func sortedKeys(m map[any]any) []any {
	return slices.SortedFunc(maps.Keys(m), func(a, b any) int {
		if c := strings.Compare(fmt.Sprintf("%T", a), fmt.Sprintf("%T", b)); c != 0 {
			return c
		}
		if x, ok := a.(int64); ok {
			y, _ := b.(int64)
			return int(min(max(x-y, -1), 1))
		}
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
}

// bareKey shows names as they are and anything else in quotes.
func bareKey(k string) string {
	if k == "" || strings.IndexFunc(k, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) >= 0 {
		return strconv.Quote(clip(k, 64))
	}
	return clip(k, 64)
}

// clip cuts s to max bytes, the mark included.
func clip(s string, max int) string {
	const mark = "…"
	if len(s) <= max {
		return s
	}
	if max < len(mark) {
		return s[:0]
	}
	s = s[:max-len(mark)]
	for len(s) > 0 {
		if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return s + mark
}
