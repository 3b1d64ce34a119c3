package codec

import (
	"encoding/binary"
	"math"
	"reflect"
	"slices"
)

// The canonical form; specified in DESIGN.md. Every value begins with its tag and says its own length, so no two forms can run into each
// other. Changing any of this changes stored digests: golden tests hold it.
const (
	canonVersion = 1

	tagNil    = 'n'
	tagFalse  = 'F'
	tagTrue   = 'T'
	tagUint   = '+' // uvarint
	tagNeg    = '-' // uvarint of -1 - i
	tagFloat  = 'f' // 8 bytes, only for what is no integer
	tagString = 's' // uvarint length, bytes
	tagBytes  = 'b' // uvarint length, bytes
	tagTime   = 't' // 8 bytes seconds, 4 bytes nanoseconds
	tagArray  = 'a' // uvarint count, elements
	tagMap    = 'm' // entries (key, value) sorted by the form of their key
	tagEnd    = 'e' // behind the last entry
)

// canon writes the canonical form of values into the buffer of an encoder.
//
// Inside an any it is loose: there a struct is what the other side will see, a map with all the fields that are encoded, and what is empty
// is nil, because decoding cannot tell which type was meant.
type canon struct {
	*encoder
}

func (c canon) value(p *plan, v reflect.Value, loose bool) error {
	switch p.op {
	case opBool:
		c.bool(v.Bool())
	case opInt:
		c.int(v.Int())
	case opUint:
		c.uint(v.Uint())
	case opFloat32, opFloat64:
		c.float(v.Float())
	case opString:
		c.string(v.String())
	case opBytes:
		c.bytes(v.Bytes())
	case opByteArray:
		n := v.Len()
		if n == 0 {
			c.buf = append(c.buf, tagNil)
			return nil
		}
		c.buf = binary.AppendUvarint(append(c.buf, tagBytes), uint64(n))
		at := len(c.buf)
		c.buf = slices.Grow(c.buf, n)[:at+n]
		reflect.Copy(reflect.ValueOf(c.buf[at:]), v)
	case opTime:
		t := c.time(v)
		c.timestamp(t.Unix(), uint32(t.Nanosecond()))
	case opCustom:
		return c.custom(p, v)
	case opPointer, opAny:
		return c.indirect(p, v, loose)
	case opSlice, opArray:
		return c.list(p, v, loose)
	case opMap:
		return c.mapping(p, v, loose)
	case opStruct:
		return c.structure(p, v, loose)
	}
	return nil
}

func (c canon) bool(b bool) {
	if b {
		c.buf = append(c.buf, tagTrue)
	} else {
		c.buf = append(c.buf, tagFalse)
	}
}

func (c canon) uint(u uint64) { c.buf = binary.AppendUvarint(append(c.buf, tagUint), u) }

func (c canon) int(i int64) {
	if i >= 0 {
		c.uint(uint64(i))
		return
	}
	c.buf = binary.AppendUvarint(append(c.buf, tagNeg), uint64(-1-i))
}

// float writes whole numbers as integers, so that neither the field's type nor JSON's spelling matters.
func (c canon) float(f float64) {
	switch {
	case f == math.Trunc(f) && f >= -1<<63 && f < 1<<63:
		c.int(int64(f))
	case f == math.Trunc(f) && f >= 1<<63 && f < 1<<64:
		c.uint(uint64(f))
	default:
		if math.IsNaN(f) {
			f = math.NaN() // one NaN for all
		}
		c.buf = binary.BigEndian.AppendUint64(append(c.buf, tagFloat), math.Float64bits(f))
	}
}

func (c canon) bytes(b []byte) {
	if len(b) == 0 {
		c.buf = append(c.buf, tagNil)
		return
	}
	c.buf = append(binary.AppendUvarint(append(c.buf, tagBytes), uint64(len(b))), b...)
}

func (c canon) timestamp(sec int64, nsec uint32) {
	c.buf = binary.BigEndian.AppendUint64(append(c.buf, tagTime), uint64(sec))
	c.buf = binary.BigEndian.AppendUint32(c.buf, nsec)
}

func (c canon) string(s string) {
	c.buf = append(binary.AppendUvarint(append(c.buf, tagString), uint64(len(s))), s...)
}

func (c canon) indirect(p *plan, v reflect.Value, loose bool) error {
	if v.IsNil() {
		c.buf = append(c.buf, tagNil)
		return nil
	}
	if c.hops++; c.hops > maxHops {
		return unsupported("pointers nested deeper than %d: does the value contain itself?", maxHops)
	}
	defer func() { c.hops-- }()
	v = v.Elem()
	if p.op == opPointer {
		return c.value(p.elem, v, loose)
	}
	p, err := planOf(v.Type())
	if err != nil {
		return &valueError{kind: ErrUnsupported, reason: "holds a " + v.Type().String(), cause: err}
	}
	return c.value(p, v, true)
}

func (c canon) list(p *plan, v reflect.Value, loose bool) error {
	n := v.Len()
	if n == 0 {
		c.buf = append(c.buf, tagNil)
		return nil
	}
	if err := c.enter(n); err != nil {
		return err
	}
	c.buf = binary.AppendUvarint(append(c.buf, tagArray), uint64(n))
	for i := range n {
		if err := c.value(p.elem, v.Index(i), loose); err != nil {
			return under(err, indexStep(i))
		}
	}
	c.depth--
	return nil
}

func (c canon) mapping(p *plan, v reflect.Value, loose bool) error {
	n := v.Len()
	if n == 0 {
		c.buf = append(c.buf, tagNil)
		return nil
	}
	if err := c.enter(2 * n); err != nil {
		return err
	}
	binKey := p.key.op == opByteArray || p.key.custom == customBinary
	m := c.begin()
	kv, ev := reflect.New(p.typ.Key()).Elem(), reflect.New(p.typ.Elem()).Elem()
	for iter := v.MapRange(); iter.Next(); {
		kv.SetIterKey(iter)
		ev.SetIterValue(iter)
		start := len(c.buf)
		if err := c.value(p.key, kv, loose); err != nil {
			return under(err, "[key]")
		}
		c.stringKey(start, binKey)
		value := len(c.buf)
		if err := c.value(p.elem, ev, loose); err != nil {
			return under(err, keyStep(kv))
		}
		c.entry(start, value)
	}
	c.end(m)
	c.depth--
	return nil
}

// stringKey makes the key at start, if it is bytes, one of text: an any cannot hold bytes as a key.
func (c canon) stringKey(start int, binKey bool) {
	switch tag := c.buf[start]; {
	case tag == tagBytes:
		c.buf[start] = tagString
	case tag == tagNil && binKey:
		c.buf = append(c.buf[:start], tagString, 0)
	}
}

// begin opens a map; end sorts its entries and closes it.
func (c canon) begin() (first int) {
	c.buf = append(c.buf, tagMap)
	return len(c.entries)
}

func (c canon) entry(start, value int) {
	c.entries = append(c.entries, entry{start: start, key: start, value: value, end: len(c.buf)})
}

func (c canon) end(first int) {
	c.buf, c.tmp = sortEntries(c.buf, c.tmp, c.entries[first:])
	c.entries = c.entries[:first]
	c.buf = append(c.buf, tagEnd)
}

// structure writes a struct as the map it is encoded as, without its zero fields.
func (c canon) structure(p *plan, v reflect.Value, loose bool) error {
	if err := c.enter(0); err != nil {
		return err
	}
	head := len(c.buf)
	m := c.begin()
	for i := range p.fields {
		f := &p.fields[i]
		fv, ok := f.value(v)
		if !ok || f.omitted(fv) {
			continue
		}
		if !loose {
			zero, err := f.plan.isZero(fv)
			if err != nil {
				return under(err, "."+f.goPath)
			}
			if zero {
				continue
			}
		}
		start := len(c.buf)
		c.string(f.name)
		value := len(c.buf)
		if err := c.value(f.plan, fv, loose); err != nil {
			return under(err, "."+f.goPath)
		}
		c.entry(start, value)
	}
	if err := c.count(2 * (len(c.entries) - m)); err != nil {
		return err
	}
	if loose && len(c.entries) == m {
		c.buf = append(c.buf[:head], tagNil)
	} else {
		c.end(m)
	}
	c.depth--
	return nil
}

func (c canon) custom(p *plan, v reflect.Value) error {
	if isNilable(v) && v.IsNil() {
		c.buf = append(c.buf, tagNil)
		return nil
	}
	data, err := p.custom.customBytes(v)
	if err != nil {
		return err
	}
	switch p.custom {
	case customStream, customMsgpack:
		return c.encoded(data)
	case customBinary:
		c.bytes(data)
	default:
		c.string(string(data))
	}
	return nil
}

// encoded writes the loose form of one checked msgpack value.
func (c canon) encoded(data []byte) error {
	if err := c.fits(data); err != nil {
		return err
	}
	c.next(&decoder{data: data})
	return nil
}

func (c canon) next(d *decoder) {
	switch h := d.head(); h.kind {
	case kindNil:
		c.buf = append(c.buf, tagNil)
	case kindBool:
		c.bool(h.bits != 0)
	case kindInt:
		c.int(int64(h.bits))
	case kindUint:
		c.uint(h.bits)
	case kindFloat32, kindFloat64:
		f, _ := asFloat(h)
		c.float(f)
	case kindStr:
		c.string(string(d.take(h.n)))
	case kindBin:
		c.bytes(d.take(h.n))
	case kindExt:
		c.timestamp(timestamp(d.take(h.n)))
	case kindArray:
		if h.n == 0 {
			c.buf = append(c.buf, tagNil)
			return
		}
		c.buf = binary.AppendUvarint(append(c.buf, tagArray), h.n)
		for range h.n {
			c.next(d)
		}
	case kindMap:
		if h.n == 0 {
			c.buf = append(c.buf, tagNil)
			return
		}
		m := c.begin()
		for range h.n {
			start := len(c.buf)
			k, _ := readHead(d.data[d.off:])
			c.next(d)
			c.stringKey(start, k.kind == kindBin)
			value := len(c.buf)
			c.next(d)
			c.entry(start, value)
		}
		c.end(m)
	}
}

// isZero reports whether v is left out of the canonical form as a field.
func (p *plan) isZero(v reflect.Value) (bool, error) {
	switch p.op {
	case opSlice, opBytes, opMap, opString:
		return v.Len() == 0, nil
	case opFloat32, opFloat64:
		return v.Float() == 0, nil // also -0
	case opTime:
		return isZero(v), nil
	case opArray:
		for i := range v.Len() {
			if zero, err := p.elem.isZero(v.Index(i)); err != nil || !zero {
				return false, err
			}
		}
		return true, nil
	case opStruct:
		for i := range p.fields {
			f := &p.fields[i]
			fv, ok := f.value(v)
			if !ok || f.omitted(fv) {
				continue
			}
			if zero, err := f.plan.isZero(fv); err != nil || !zero {
				return false, err
			}
		}
		return true, nil
	case opCustom:
		if v.IsZero() {
			return true, nil
		}
		data, err := p.custom.customBytes(v)
		return err == nil && p.isZeroForm(data), err
	}
	return v.IsZero(), nil
}
