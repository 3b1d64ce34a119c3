package codec

import (
	"bytes"
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"sync"
	"time"
)

// maxHops bounds how many interfaces and pointers may nest: an any can point to itself without a container in between.
const maxHops = 4 * MaxDepth

// maxPooled is the largest scratch buffer that is kept for the next use.
const maxPooled = 64 << 10

// encoder writes one value. Pooled: its buffers outlive it, the result is copied out.
type encoder struct {
	buf      []byte
	tmp      []byte // for sorting maps
	entries  []entry
	depth    int
	hops     int // interfaces and pointers entered
	elements int
	tm       time.Time // so that a time inside a value that has no address is not copied to the heap
	tmv      reflect.Value
}

// entry is where one map entry lies in the buffer.
type entry struct {
	start, key, value, end int // key: where its contents begin; value: where it ends and the value begins
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.tmv = reflect.ValueOf(&e.tm).Elem()
	return e
}}

func getEncoder() *encoder {
	e := encoders.Get().(*encoder)
	e.buf, e.entries, e.depth, e.hops, e.elements = e.buf[:0], e.entries[:0], 0, 0, 0
	return e
}

func putEncoder(e *encoder) {
	if cap(e.buf) <= maxPooled && cap(e.tmp) <= maxPooled && cap(e.entries) <= maxPooled/32 {
		encoders.Put(e)
	}
}

// top encodes the outermost value.
func (e *encoder) top(v any) error {
	if v == nil {
		e.buf = append(e.buf, 0xc0)
		return nil
	}
	rv := reflect.ValueOf(v)
	p, err := planOf(rv.Type())
	if err != nil {
		return err
	}
	if err := e.value(p, rv); err != nil {
		return rooted(err, rv.Type())
	}
	return nil
}

func (e *encoder) value(p *plan, v reflect.Value) error {
	switch p.op {
	case opBool:
		e.buf = append(e.buf, 0xc2|b2u(v.Bool()))
	case opInt:
		e.buf = appendInt(e.buf, v.Int())
	case opUint:
		e.buf = appendUint(e.buf, v.Uint())
	case opFloat32:
		e.buf = binary.BigEndian.AppendUint32(append(e.buf, 0xca), math.Float32bits(float32(v.Float())))
	case opFloat64:
		e.buf = binary.BigEndian.AppendUint64(append(e.buf, 0xcb), math.Float64bits(v.Float()))
	case opString:
		s := v.String()
		e.buf = append(appendStrHead(e.buf, len(s)), s...)
	case opBytes:
		if v.IsNil() {
			e.buf = append(e.buf, 0xc0)
			return nil
		}
		b := v.Bytes()
		e.buf = append(appendBinHead(e.buf, len(b)), b...)
	case opByteArray:
		e.byteArray(v)
	case opTime:
		e.buf = appendTime(e.buf, *e.time(v))
	case opCustom:
		return e.custom(p, v)
	case opPointer, opAny:
		return e.indirect(p, v)
	case opSlice, opArray:
		return e.list(p, v)
	case opMap:
		return e.mapping(p, v)
	case opStruct:
		return e.structure(p, v)
	}
	return nil
}

// enter counts a container of n values.
func (e *encoder) enter(n int) error {
	if e.depth++; e.depth > MaxDepth {
		return unsupported("nested deeper than %d: does the value contain itself?", MaxDepth)
	}
	return e.count(n)
}

func (e *encoder) count(n int) error {
	if e.elements += n; e.elements > MaxElements {
		return unsupported("more than %d elements in one payload: send it in parts, or numbers packed into []byte", MaxElements)
	}
	return nil
}

func (e *encoder) indirect(p *plan, v reflect.Value) error {
	if v.IsNil() {
		e.buf = append(e.buf, 0xc0)
		return nil
	}
	if e.hops++; e.hops > maxHops {
		return unsupported("pointers nested deeper than %d: does the value contain itself?", maxHops)
	}
	defer func() { e.hops-- }()
	v = v.Elem()
	if p.op == opPointer {
		return e.value(p.elem, v)
	}
	p, err := planOf(v.Type())
	if err != nil {
		return &valueError{kind: ErrUnsupported, reason: "holds a " + v.Type().String(), cause: err}
	}
	return e.value(p, v)
}

func (e *encoder) list(p *plan, v reflect.Value) error {
	if p.op == opSlice && v.IsNil() {
		e.buf = append(e.buf, 0xc0)
		return nil
	}
	n := v.Len()
	if err := e.enter(n); err != nil {
		return err
	}
	e.buf = appendArrayHead(e.buf, n)
	for i := range n {
		if err := e.value(p.elem, v.Index(i)); err != nil {
			return under(err, indexStep(i))
		}
	}
	e.depth--
	return nil
}

func (e *encoder) structure(p *plan, v reflect.Value) error {
	if err := e.enter(0); err != nil {
		return err
	}
	// The count is known afterwards only, so its place is sized for the most there can be.
	head := len(e.buf)
	e.buf = appendMapHead(e.buf, len(p.fields))
	count := 0
	for i := range p.fields {
		f := &p.fields[i]
		fv, ok := f.value(v)
		if !ok || !p.plain && f.omitted(fv) {
			continue
		}
		count++
		e.buf = append(appendStrHead(e.buf, len(f.name)), f.name...)
		if err := e.value(f.plan, fv); err != nil {
			return under(err, "."+f.goPath)
		}
	}
	switch n := len(p.fields); {
	case count == n:
	case n <= 15:
		e.buf[head] = 0x80 | byte(count)
	default:
		binary.BigEndian.PutUint16(e.buf[head+1:], uint16(count)) // a struct type with 65,536 fields does not compile
	}
	e.depth--
	return e.count(2 * count)
}

// mapping writes the entries as they come and then sorts them: strings by their bytes, other keys by their encoding.
func (e *encoder) mapping(p *plan, v reflect.Value) error {
	if v.IsNil() {
		e.buf = append(e.buf, 0xc0)
		return nil
	}
	n := v.Len()
	if err := e.enter(2 * n); err != nil {
		return err
	}
	e.buf = appendMapHead(e.buf, n)
	first := len(e.entries)
	kv, ev := reflect.New(p.typ.Key()).Elem(), reflect.New(p.typ.Elem()).Elem()
	for iter := v.MapRange(); iter.Next(); {
		kv.SetIterKey(iter)
		ev.SetIterValue(iter)
		en := entry{start: len(e.buf)}
		if err := e.value(p.key, kv); err != nil {
			return under(err, "[key]")
		}
		en.value = len(e.buf)
		if h, _ := readHead(e.buf[en.start:]); h.kind == kindStr {
			en.key = en.start + h.size
		} else {
			en.key = en.start
		}
		if err := e.value(p.elem, ev); err != nil {
			return under(err, keyStep(kv))
		}
		en.end = len(e.buf)
		e.entries = append(e.entries, en)
	}
	e.buf, e.tmp = sortEntries(e.buf, e.tmp, e.entries[first:])
	e.entries = e.entries[:first]
	e.depth--
	return nil
}

// sortEntries brings the entries, which fill the end of buf, into the order of their keys. Equal keys (two NaN, two spellings of one
// text key) are ordered by value, so that the result depends on nothing but the contents.
func sortEntries(buf, tmp []byte, entries []entry) (_, _ []byte) {
	byKey := func(a, b entry) int {
		if c := bytes.Compare(buf[a.key:a.value], buf[b.key:b.value]); c != 0 {
			return c
		}
		return bytes.Compare(buf[a.start:a.end], buf[b.start:b.end])
	}
	if slices.IsSortedFunc(entries, byKey) {
		return buf, tmp
	}
	start := entries[0].start
	slices.SortFunc(entries, byKey)
	tmp = append(tmp[:0], buf[start:]...)
	buf = buf[:start]
	for _, en := range entries {
		buf = append(buf, tmp[en.start-start:en.end-start]...)
	}
	return buf, tmp
}

func (e *encoder) custom(p *plan, v reflect.Value) error {
	if isNilable(v) && v.IsNil() {
		e.buf = append(e.buf, 0xc0)
		return nil
	}
	data, err := p.custom.customBytes(v)
	if err != nil {
		return err
	}
	switch p.custom {
	case customStream, customMsgpack:
		if err := e.fits(data); err != nil {
			return err
		}
	case customBinary:
		e.buf = appendBinHead(e.buf, len(data))
	default:
		e.buf = appendStrHead(e.buf, len(data))
	}
	e.buf = append(e.buf, data...)
	return nil
}

// fits counts what a user's encoder wrote, so that the whole stays within what Check accepts.
func (e *encoder) fits(data []byte) error {
	deepest, elements := measure(data)
	if e.depth+deepest > MaxDepth {
		return unsupported("nested deeper than %d", MaxDepth)
	}
	return e.count(elements)
}

func (e *encoder) byteArray(v reflect.Value) {
	n := v.Len()
	e.buf = appendBinHead(e.buf, n)
	if v.CanAddr() {
		e.buf = append(e.buf, v.Bytes()...)
		return
	}
	at := len(e.buf)
	e.buf = slices.Grow(e.buf, n)[:at+n]
	reflect.Copy(reflect.ValueOf(e.buf[at:]), v)
}

// time returns v's time without copying it to the heap.
func (e *encoder) time(v reflect.Value) *time.Time {
	if v.CanAddr() {
		return v.Addr().Interface().(*time.Time)
	}
	e.tmv.Set(v)
	return &e.tm
}

func isNilable(v reflect.Value) bool {
	return v.Kind() == reflect.Map || v.Kind() == reflect.Slice
}

func b2u(b bool) byte {
	if b {
		return 1
	}
	return 0
}
