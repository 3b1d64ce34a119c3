package codec

import (
	"encoding/binary"
	"fmt"
)

// kind is the family of a msgpack value.
type kind uint8

const (
	kindNil kind = iota
	kindBool
	kindInt  // negative
	kindUint // zero and above
	kindFloat32
	kindFloat64
	kindStr
	kindBin
	kindArray
	kindMap
	kindExt
)

// String names the kind in error messages.
func (k kind) String() string {
	return [...]string{"nil", "bool", "integer", "integer", "float", "float", "string", "bytes", "array", "map", "ext"}[k]
}

// head is the parsed header of one msgpack value. All readers of msgpack in this package go through readHead, so that the guard and the
// decoder can never disagree about what the bytes mean.
type head struct {
	kind kind
	ext  int8   // type of an ext
	size int    // bytes of the header itself, an ext's type included
	n    uint64 // bytes that follow (str, bin, ext), elements (array) or pairs (map)
	bits uint64 // the number: two's complement, IEEE bits, or 0/1
}

// timeExt is the ext type of timestamps, the only one understood.
const timeExt = -1

const (
	codeReserved = 0xc1
	nsPerSec     = 1_000_000_000
)

// readHead parses the header at the start of b. It reports false when b ends inside it or the code is the reserved one.
func readHead(b []byte) (head, bool) {
	if len(b) == 0 {
		return head{}, false
	}
	c := b[0]
	switch {
	case c <= 0x7f:
		return head{kind: kindUint, size: 1, bits: uint64(c)}, true
	case c >= 0xe0:
		return head{kind: kindInt, size: 1, bits: uint64(int64(int8(c)))}, true
	case c <= 0x8f:
		return head{kind: kindMap, size: 1, n: uint64(c & 0x0f)}, true
	case c <= 0x9f:
		return head{kind: kindArray, size: 1, n: uint64(c & 0x0f)}, true
	case c <= 0xbf:
		return head{kind: kindStr, size: 1, n: uint64(c & 0x1f)}, true
	}
	f := forms[c-0xc0]
	if len(b) < int(f.width)+1 {
		return head{}, false
	}
	h := head{kind: f.kind, size: 1 + int(f.width)}
	var u uint64
	switch f.width {
	case 1:
		u = uint64(b[1])
	case 2:
		u = uint64(binary.BigEndian.Uint16(b[1:]))
	case 4:
		u = uint64(binary.BigEndian.Uint32(b[1:]))
	case 8:
		u = binary.BigEndian.Uint64(b[1:])
	}
	switch f.kind {
	case kindBool:
		h.bits = uint64(c & 1)
	case kindInt:
		shift := 64 - 8*uint(f.width)
		h.bits = uint64(int64(u<<shift) >> shift)
		if int64(h.bits) >= 0 {
			h.kind = kindUint
		}
	case kindUint, kindFloat32, kindFloat64:
		h.bits = u
	case kindStr, kindBin, kindArray, kindMap:
		h.n = u
	case kindExt:
		if f.width == 0 {
			u = uint64(f.fixed)
		}
		if len(b) < h.size+1 {
			return head{}, false
		}
		h.n, h.ext = u, int8(b[h.size])
		h.size++
	case kindNil:
		if c == codeReserved {
			return head{}, false
		}
	}
	return h, true
}

// forms describes the codes 0xc0 to 0xdf: family, bytes of number or length after the code, and the length of a fixext.
var forms = [32]struct {
	kind  kind
	width uint8
	fixed uint8
}{
	0x00: {kind: kindNil},
	0x01: {kind: kindNil}, // reserved, refused by readHead
	0x02: {kind: kindBool},
	0x03: {kind: kindBool},
	0x04: {kind: kindBin, width: 1},
	0x05: {kind: kindBin, width: 2},
	0x06: {kind: kindBin, width: 4},
	0x07: {kind: kindExt, width: 1},
	0x08: {kind: kindExt, width: 2},
	0x09: {kind: kindExt, width: 4},
	0x0a: {kind: kindFloat32, width: 4},
	0x0b: {kind: kindFloat64, width: 8},
	0x0c: {kind: kindUint, width: 1},
	0x0d: {kind: kindUint, width: 2},
	0x0e: {kind: kindUint, width: 4},
	0x0f: {kind: kindUint, width: 8},
	0x10: {kind: kindInt, width: 1},
	0x11: {kind: kindInt, width: 2},
	0x12: {kind: kindInt, width: 4},
	0x13: {kind: kindInt, width: 8},
	0x14: {kind: kindExt, fixed: 1},
	0x15: {kind: kindExt, fixed: 2},
	0x16: {kind: kindExt, fixed: 4},
	0x17: {kind: kindExt, fixed: 8},
	0x18: {kind: kindExt, fixed: 16},
	0x19: {kind: kindStr, width: 1},
	0x1a: {kind: kindStr, width: 2},
	0x1b: {kind: kindStr, width: 4},
	0x1c: {kind: kindArray, width: 2},
	0x1d: {kind: kindArray, width: 4},
	0x1e: {kind: kindMap, width: 2},
	0x1f: {kind: kindMap, width: 4},
}

// Check walks data once and reports whether it is exactly one well-formed msgpack value within the limits: every declared length fits
// the bytes left, all of them together do too, containers nest at most [MaxDepth] deep, there are at most [MaxElements] elements, the
// only ext is a valid timestamp, and nothing follows. It allocates nothing unless it fails; the error wraps [ErrMalformed] and says
// where and why.
//
// Unmarshal calls it; call it yourself before handing untrusted bytes to another msgpack decoder.
func Check(data []byte) error {
	_, err := walk(data)
	return err
}

// walk is Check; it also reports whether an ext was seen.
func walk(data []byte) (hasExt bool, err error) {
	var (
		open     [MaxDepth]uint32 // values still owed to each open container
		depth    int
		off      int
		elements uint64
		owed     uint64 = 1 // values still to come, over all open containers
	)
	for owed > 0 {
		if off == len(data) {
			return false, malformed("msgpack", off, "the bytes end where a value is due")
		}
		var h head
		var ok bool
		if c := data[off]; c <= 0x7f || c >= 0xe0 { // most values are small integers
			h.kind, h.size, ok = kindUint, 1, true
		} else if c&0xe0 == 0xa0 { // or short strings, such as the names of fields
			h.kind, h.size, h.n, ok = kindStr, 1, uint64(c&0x1f), true
		} else {
			h, ok = readHead(data[off:])
		}
		if !ok {
			if data[off] == codeReserved {
				return false, malformed("msgpack", off, "code 0xc1 is reserved")
			}
			return false, malformed("msgpack", off, "the bytes end inside a header")
		}
		at := off
		off += h.size
		left := uint64(len(data) - off)
		owed--
		if depth > 0 {
			open[depth-1]--
		}
		switch h.kind {
		case kindStr, kindBin, kindExt:
			if h.n > left {
				return false, malformed("msgpack", at, "%s declares %d bytes, %d are left", h.kind, h.n, left)
			}
			if h.kind == kindExt {
				hasExt = true
				if reason := checkExt(h, data[off:off+int(h.n)]); reason != "" {
					return false, malformed("msgpack", at, "%s", reason)
				}
			}
			off += int(h.n)
		case kindArray, kindMap:
			if depth == MaxDepth {
				return false, malformed("msgpack", at, "nested deeper than %d", MaxDepth)
			}
			n := h.n
			if h.kind == kindMap {
				n *= 2
			}
			elements += n
			if elements > MaxElements {
				return false, malformed("msgpack", at, "more than %d elements", MaxElements)
			}
			owed += n
			if owed > left {
				return false, malformed("msgpack", at, "%s declares %d elements, too many for the %d bytes left", h.kind, n, left)
			}
			if n > 0 {
				open[depth] = uint32(n) // at most MaxElements
				depth++
			}
		}
		for depth > 0 && open[depth-1] == 0 {
			depth--
		}
	}
	if off != len(data) {
		return false, malformed("msgpack", off, "%d bytes follow the value", len(data)-off)
	}
	return hasExt, nil
}

// checkExt says what is wrong with an ext, or nothing.
func checkExt(h head, body []byte) string {
	if h.ext != timeExt {
		return fmt.Sprintf("ext type %d is not supported, only timestamps (type -1) are", h.ext)
	}
	switch len(body) {
	case 4:
		return ""
	case 8:
		if binary.BigEndian.Uint64(body)>>34 < nsPerSec {
			return ""
		}
	case 12:
		if binary.BigEndian.Uint32(body) < nsPerSec {
			return ""
		}
	default:
		return "timestamp is not 4, 8 or 12 bytes long"
	}
	return "timestamp has more than 999999999 nanoseconds"
}

// after returns the offset behind the value at off. The data must have passed Check.
func after(data []byte, off int) int {
	for owed := uint64(1); owed > 0; owed-- {
		h, _ := readHead(data[off:])
		off += h.size
		switch h.kind {
		case kindStr, kindBin, kindExt:
			off += int(h.n)
		case kindArray:
			owed += h.n
		case kindMap:
			owed += 2 * h.n
		}
	}
	return off
}
