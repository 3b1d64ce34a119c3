package codec

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
)

// room returns how many bytes of slices, maps and pointed-to values a payload of n bytes may decode into. Honest payloads stay far below.
// Without it a megabyte of nils, decoded into a slice of large structs, would take gigabytes.
func room(n int) int64 { return 64<<20 + 64*int64(n) }

// decoder reads one value. Its data has passed Check, so headers and lengths hold what they say.
type decoder struct {
	data []byte
	off  int
	room int64
}

func (d *decoder) head() head {
	h, _ := readHead(d.data[d.off:])
	d.off += h.size
	return h
}

// take returns the n bytes of a str, bin or ext. They are still the payload's.
func (d *decoder) take(n uint64) []byte {
	b := d.data[d.off : d.off+int(n)]
	d.off += int(n)
	return b
}

func (d *decoder) skip() { d.off = after(d.data, d.off) }

// grow takes n values of the given size out of the room.
func (d *decoder) grow(n uint64, size int64) error {
	if size > 0 && n > uint64(d.room/size) {
		return mismatch("%d values of %d bytes each are more than a payload of %d bytes may decode into", n, size, len(d.data))
	}
	d.room -= int64(n) * size
	return nil
}

// value decodes into v, which is zero and addressable.
func (d *decoder) value(p *plan, v reflect.Value) error {
	if d.data[d.off] == 0xc0 {
		d.off++
		return nil
	}
	switch p.op {
	case opPointer:
		if err := d.grow(1, p.elem.size); err != nil {
			return err
		}
		v.Set(reflect.New(p.typ.Elem()))
		return d.value(p.elem, v.Elem())
	case opAny:
		x, err := d.loose()
		if err == nil && x != nil {
			v.Set(reflect.ValueOf(x))
		}
		return err
	case opCustom:
		return d.custom(p, v)
	}
	start := d.off
	h := d.head()
	switch p.op {
	case opBool:
		if h.kind == kindBool {
			v.SetBool(h.bits != 0)
			return nil
		}
	case opInt:
		if i := int64(h.bits); h.kind == kindInt || h.kind == kindUint && i >= 0 {
			if !v.OverflowInt(i) {
				v.SetInt(i)
				return nil
			}
		}
		return d.noFit(p, h, start)
	case opUint:
		if h.kind == kindUint && !v.OverflowUint(h.bits) {
			v.SetUint(h.bits)
			return nil
		}
		return d.noFit(p, h, start)
	case opFloat32, opFloat64:
		if f, exact := asFloat(h); exact && (p.op == opFloat64 || float64(float32(f)) == f || math.IsNaN(f)) {
			v.SetFloat(f)
			return nil
		}
		return d.noFit(p, h, start)
	case opString:
		if h.kind == kindStr || h.kind == kindBin {
			v.SetString(string(d.take(h.n)))
			return nil
		}
	case opBytes:
		if h.kind == kindStr || h.kind == kindBin {
			b := make([]byte, h.n)
			copy(b, d.take(h.n))
			v.SetBytes(b)
			return nil
		}
	case opByteArray:
		if h.kind == kindStr || h.kind == kindBin {
			if h.n != uint64(v.Len()) {
				return mismatch("%d bytes do not fit %s", h.n, p.typ)
			}
			copy(v.Bytes(), d.take(h.n))
			return nil
		}
	case opTime:
		if h.kind == kindExt {
			sec, nsec := timestamp(d.take(h.n))
			*v.Addr().Interface().(*time.Time) = time.Unix(sec, int64(nsec)).UTC()
			return nil
		}
	case opSlice, opArray:
		if h.kind == kindArray {
			return d.list(p, v, h.n)
		}
	case opMap:
		if h.kind == kindMap {
			return d.mapping(p, v, h.n)
		}
	case opStruct:
		if h.kind == kindMap {
			return d.structure(p, v, h.n)
		}
	}
	return d.wrongKind(p, h, start)
}

func (d *decoder) list(p *plan, v reflect.Value, n uint64) error {
	if p.op == opArray {
		if n != uint64(v.Len()) {
			return mismatch("%d elements do not fit %s", n, p.typ)
		}
	} else {
		if err := d.grow(n, p.elem.size); err != nil {
			return err
		}
		v.Set(reflect.MakeSlice(p.typ, int(n), int(n)))
	}
	for i := range int(n) {
		if err := d.value(p.elem, v.Index(i)); err != nil {
			return under(err, indexStep(i))
		}
	}
	return nil
}

func (d *decoder) mapping(p *plan, v reflect.Value, n uint64) error {
	if err := d.grow(n, p.key.size+p.elem.size+8); err != nil {
		return err
	}
	m := reflect.MakeMapWithSize(p.typ, int(n))
	kv, ev := reflect.New(p.typ.Key()).Elem(), reflect.New(p.typ.Elem()).Elem()
	for range n {
		kv.SetZero()
		ev.SetZero()
		if err := d.key(p.key, kv); err != nil {
			return under(err, "[key]")
		}
		if err := d.value(p.elem, ev); err != nil {
			return under(err, keyStep(kv))
		}
		m.SetMapIndex(kv, ev)
	}
	v.Set(m)
	return nil
}

func (d *decoder) key(p *plan, v reflect.Value) error {
	if p.op != opAny {
		return d.value(p, v)
	}
	k, err := d.looseKey()
	if err == nil && k != nil {
		v.Set(reflect.ValueOf(k))
	}
	return err
}

func (d *decoder) structure(p *plan, v reflect.Value, n uint64) error {
	next := 0
	for range n {
		var name []byte
		if c := d.data[d.off]; c&0xe0 == 0xa0 {
			d.off++
			name = d.take(uint64(c & 0x1f))
		} else {
			h := d.head()
			if h.kind != kindStr && h.kind != kindBin {
				return mismatch("got %s for the name of a field of %s", h.kind, typeName(p.typ))
			}
			name = d.take(h.n)
		}
		i, ok := p.find(name, next)
		if !ok {
			d.skip()
			continue
		}
		next = i + 1
		f := &p.fields[i]
		if d.data[d.off] == 0xc0 { // no embedded struct is made just to hold a nil
			d.off++
			if fv, ok := f.value(v); ok {
				fv.SetZero()
			}
			continue
		}
		if err := d.grow(1, f.embedded); err != nil {
			return under(err, "."+f.goPath)
		}
		fv := f.target(v)
		fv.SetZero() // a name that comes twice
		if err := d.value(f.plan, fv); err != nil {
			return under(err, "."+f.goPath)
		}
	}
	return nil
}

func (d *decoder) custom(p *plan, v reflect.Value) error {
	start := d.off
	if p.custom == customStream || p.custom == customMsgpack {
		d.skip()
		return p.custom.setCustom(v, d.data[start:d.off])
	}
	h := d.head()
	if h.kind != kindStr && h.kind != kindBin {
		return d.wrongKind(p, h, start)
	}
	return p.custom.setCustom(v, d.take(h.n))
}

// asFloat returns the number in h as a float, and whether that is the very same number.
func asFloat(h head) (float64, bool) {
	switch h.kind {
	case kindFloat32:
		return float64(math.Float32frombits(uint32(h.bits))), true
	case kindFloat64:
		return math.Float64frombits(h.bits), true
	case kindInt:
		f := float64(int64(h.bits))
		return f, int64(f) == int64(h.bits)
	case kindUint:
		f := float64(h.bits)
		return f, f < 1<<64 && uint64(f) == h.bits
	}
	return 0, false
}

// noFit reports a number that the target cannot hold exactly, or something that is no number.
func (d *decoder) noFit(p *plan, h head, start int) error {
	switch h.kind {
	case kindInt, kindUint, kindFloat32, kindFloat64:
		return mismatch("%s does not fit %s", number(h), p.typ)
	}
	return d.wrongKind(p, h, start)
}

func (d *decoder) wrongKind(p *plan, h head, start int) error {
	d.off = start
	return mismatch("got %s, want %s", d.preview(h), p.typ)
}

// number renders a number so that 5 and 5.0 are told apart.
func number(h head) string {
	switch h.kind {
	case kindInt:
		return strconv.FormatInt(int64(h.bits), 10)
	case kindUint:
		return strconv.FormatUint(h.bits, 10)
	case kindFloat32:
		return floatText(float64(math.Float32frombits(uint32(h.bits))), 32)
	}
	return floatText(math.Float64frombits(h.bits), 64)
}

func floatText(f float64, bits int) string {
	s := strconv.FormatFloat(f, 'g', -1, bits)
	if f == math.Trunc(f) && !bytes.ContainsAny([]byte(s), ".eIN") {
		s += ".0"
	}
	return s
}

// preview names the value at hand for an error, with its contents if they are short.
func (d *decoder) preview(h head) string {
	switch h.kind {
	case kindBool:
		return "bool " + strconv.FormatBool(h.bits != 0)
	case kindInt, kindUint, kindFloat32, kindFloat64:
		return h.kind.String() + " " + number(h)
	case kindStr:
		start := d.off + h.size
		return "string " + strconv.Quote(clip(string(d.data[start:start+int(min(h.n, 64))]), 40))
	case kindBin:
		return fmt.Sprintf("%d bytes", h.n)
	case kindArray:
		return fmt.Sprintf("array of %d", h.n)
	case kindMap:
		return fmt.Sprintf("map of %d", h.n)
	case kindExt:
		return "timestamp"
	}
	return h.kind.String()
}
