package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
)

// The append functions write msgpack in its shortest form.

func appendUint(b []byte, u uint64) []byte {
	switch {
	case u <= 0x7f:
		return append(b, byte(u))
	case u <= math.MaxUint8:
		return append(b, 0xcc, byte(u))
	case u <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(u))
	case u <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(u))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), u)
}

func appendInt(b []byte, i int64) []byte {
	switch {
	case i >= 0:
		return appendUint(b, uint64(i))
	case i >= -32:
		return append(b, byte(i))
	case i >= math.MinInt8:
		return append(b, 0xd0, byte(i))
	case i >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(i))
	case i >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(i))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(i))
}

func appendStrHead(b []byte, n int) []byte {
	switch {
	case n <= 31:
		return append(b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		return append(b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
}

func appendBinHead(b []byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(b, 0xc4, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xc5), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(n))
}

func appendArrayHead(b []byte, n int) []byte {
	switch {
	case n <= 15:
		return append(b, 0x90|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xdc), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n))
}

func appendMapHead(b []byte, n int) []byte {
	switch {
	case n <= 15:
		return append(b, 0x80|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xde), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdf), uint32(n))
}

// appendTime writes a timestamp in the shortest of the three forms of the msgpack specification.
func appendTime(b []byte, t time.Time) []byte {
	sec, nsec := t.Unix(), uint64(t.Nanosecond())
	switch {
	case uint64(sec)>>34 != 0:
		return appendLongTime(b, sec, uint32(nsec))
	case nsec == 0 && sec <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xd6, 0xff), uint32(sec))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd7, 0xff), nsec<<34|uint64(sec))
}

func appendLongTime(b []byte, sec int64, nsec uint32) []byte {
	b = binary.BigEndian.AppendUint32(append(b, 0xc7, 12, 0xff), nsec)
	return binary.BigEndian.AppendUint64(b, uint64(sec))
}

// timestamp reads the body of a timestamp that has passed Check.
func timestamp(body []byte) (sec int64, nsec uint32) {
	switch len(body) {
	case 4:
		return int64(binary.BigEndian.Uint32(body)), 0
	case 8:
		u := binary.BigEndian.Uint64(body)
		return int64(u & (1<<34 - 1)), uint32(u >> 34)
	default:
		return int64(binary.BigEndian.Uint64(body[4:])), binary.BigEndian.Uint32(body)
	}
}

// measure returns the depth and the number of elements of one value that has passed Check.
func measure(data []byte) (deepest, elements int) {
	var open [MaxDepth]uint64
	depth := 0
	for off := 0; off < len(data); {
		h, _ := readHead(data[off:])
		off += h.size
		if depth > 0 {
			open[depth-1]--
		}
		switch h.kind {
		case kindStr, kindBin, kindExt:
			off += int(h.n)
		case kindArray, kindMap:
			n := h.n
			if h.kind == kindMap {
				n *= 2
			}
			elements += int(n)
			deepest = max(deepest, depth+1)
			if n > 0 {
				open[depth] = n
				depth++
			}
		}
		for depth > 0 && open[depth-1] == 0 {
			depth--
		}
	}
	return deepest, elements
}

func indexStep(i int) string { return "[" + strconv.Itoa(i) + "]" }

// keyStep shows a map key in a path.
func keyStep(k reflect.Value) string {
	for k.Kind() == reflect.Interface && !k.IsNil() {
		k = k.Elem()
	}
	switch k.Kind() {
	case reflect.String:
		return "[" + strconv.Quote(clip(k.String(), 40)) + "]"
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return fmt.Sprintf("[%v]", k)
	}
	return "[]"
}
