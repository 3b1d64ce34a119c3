package codec

import (
	"math"
	"reflect"
	"time"
)

// loose decodes the next value for an any. Integers become int64, or uint64 above its range, so that a program need not care how short
// an encoding the writer chose.
func (d *decoder) loose() (any, error) {
	h := d.head()
	switch h.kind {
	case kindBool:
		return h.bits != 0, nil
	case kindInt:
		return int64(h.bits), nil
	case kindUint:
		if h.bits <= math.MaxInt64 {
			return int64(h.bits), nil
		}
		return h.bits, nil
	case kindFloat32, kindFloat64:
		f, _ := asFloat(h)
		return f, nil
	case kindStr:
		return string(d.take(h.n)), nil
	case kindBin:
		return append([]byte{}, d.take(h.n)...), nil
	case kindExt:
		sec, nsec := timestamp(d.take(h.n))
		return time.Unix(sec, int64(nsec)).UTC(), nil
	case kindArray:
		if err := d.grow(h.n, 16); err != nil {
			return nil, err
		}
		list := make([]any, h.n)
		for i := range list {
			var err error
			if list[i], err = d.loose(); err != nil {
				return nil, under(err, indexStep(i))
			}
		}
		return list, nil
	case kindMap:
		return d.looseMap(h.n)
	}
	return nil, nil
}

// looseMap returns a map[string]any as long as all keys are strings, else a map[any]any.
func (d *decoder) looseMap(n uint64) (any, error) {
	if err := d.grow(n, 40); err != nil {
		return nil, err
	}
	named := make(map[string]any, n)
	var mixed map[any]any
	for range n {
		k, err := d.looseKey()
		if err != nil {
			return nil, under(err, "[key]")
		}
		x, err := d.loose()
		if err != nil {
			return nil, under(err, keyStep(reflect.ValueOf(&k).Elem()))
		}
		s, isString := k.(string)
		switch {
		case mixed != nil:
			mixed[k] = x
		case isString:
			named[s] = x
		default:
			mixed = make(map[any]any, n)
			for s, x := range named {
				mixed[s] = x
			}
			mixed[k] = x
		}
	}
	if mixed != nil {
		return mixed, nil
	}
	return named, nil
}

// looseKey decodes something that can be a Go map key; bytes become a string.
func (d *decoder) looseKey() (any, error) {
	switch h, _ := readHead(d.data[d.off:]); h.kind {
	case kindArray, kindMap:
		return nil, mismatch("%s cannot be a map key", h.kind)
	case kindBin:
		d.head()
		return string(d.take(h.n)), nil
	}
	return d.loose()
}
