package codec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// field is one encoded field of a struct, embedded structs flattened.
type field struct {
	name      string
	aliases   []string // older names, understood when decoding
	goPath    string   // Go names down from the struct: Base.ID
	index     []int
	typ       reflect.Type
	omitEmpty bool
	omitZero  bool
	embedded  int64 // bytes of the structs behind embedded pointers on the way
	plan      *plan
}

// fault is something about a struct that keeps it from travelling.
type fault struct {
	goPath string
	reason string
}

// dialect is what the msgpack and the JSON rules differ in.
type dialect struct {
	tags   []string // struct tags in order of precedence
	custom func(reflect.Type) customKind
	json   bool
}

var (
	msgpackDialect = &dialect{tags: []string{"msgpack", "json"}, custom: customOf}
	jsonDialect    = &dialect{tags: []string{"json"}, custom: jsonCustomOf, json: true}
)

// structFields lists the fields of struct type t that travel, in declaration order, and everything that would get lost.
func (d *dialect) structFields(t reflect.Type) ([]field, []fault) {
	w := &fieldWalk{dialect: d}
	w.walk(t, nil, "", 0)
	taken := make(map[string]string, len(w.fields))
	for _, f := range w.fields {
		for _, name := range append([]string{f.name}, f.aliases...) {
			if other, dup := taken[name]; dup {
				w.faults = append(w.faults, fault{f.goPath, fmt.Sprintf(
					"has the encoded name %q of field %s, so one of them would be lost: give one another name in its tag, or leave it out with %s",
					name, other, d.skipTag())})
				continue
			}
			taken[name] = f.goPath
		}
	}
	return w.fields, w.faults
}

func (d *dialect) skipTag() string { return "`" + d.tags[0] + `:"-"` + "`" }

type fieldWalk struct {
	*dialect
	fields []field
	faults []fault
	inside []reflect.Type // embedded structs being flattened
}

func (w *fieldWalk) fault(goPath, format string, args ...any) {
	w.faults = append(w.faults, fault{goPath, fmt.Sprintf(format, args...)})
}

func (w *fieldWalk) walk(t reflect.Type, index []int, prefix string, embedded int64) {
	w.inside = append(w.inside, t)
	defer func() { w.inside = w.inside[:len(w.inside)-1] }()
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Name == "_" {
			continue
		}
		goPath := prefix + sf.Name
		tag := w.parseTag(sf)
		if tag.skip {
			continue
		}
		if tag.unknown != "" {
			w.fault(goPath, "tag option %q is not supported: use omitempty, omitzero or alias:NAME", tag.unknown)
		}
		at := append(slices.Clone(index), i)
		if sf.Anonymous && tag.name == "" {
			if et, ptr := embeddedStruct(sf.Type); et != nil && w.custom(et) == customNone && et != timeType {
				w.flatten(sf, et, at, goPath, ptr, embedded)
				continue
			}
		}
		if !sf.IsExported() {
			if sf.Type.Size() > 0 { // a zero-size marker holds nothing that could get lost
				w.fault(goPath, "unexported field would be lost: export it, leave it out with %s, or give %s %s",
					w.skipTag(), typeName(t), w.methodHint())
			}
			continue
		}
		name := tag.name
		if name == "" {
			name = sf.Name
		}
		w.fields = append(w.fields, field{
			name: name, aliases: tag.aliases, goPath: goPath, index: at, typ: sf.Type,
			omitEmpty: tag.omitEmpty, omitZero: tag.omitZero, embedded: embedded,
		})
	}
}

// flatten adds the fields of an embedded struct.
func (w *fieldWalk) flatten(sf reflect.StructField, et reflect.Type, index []int, goPath string, ptr bool, embedded int64) {
	if ptr {
		embedded += int64(et.Size())
	}
	switch {
	case slices.Contains(w.inside, et):
		w.fault(goPath, "%s embeds itself: name the field", typeName(et))
	case ptr && !sf.IsExported():
		w.fault(goPath, "embedded pointer to an unexported struct cannot be set when decoding: embed the struct itself, or export %s", typeName(et))
	default:
		w.walk(et, index, goPath+".", embedded)
	}
}

func (w *fieldWalk) methodHint() string {
	if w.json {
		return "MarshalJSON and UnmarshalJSON"
	}
	return "MarshalBinary and UnmarshalBinary"
}

// embeddedStruct returns the struct that an embedded field adds, if it is one or a pointer to one.
func embeddedStruct(t reflect.Type) (st reflect.Type, ptr bool) {
	if t.Kind() == reflect.Pointer {
		t, ptr = t.Elem(), true
	}
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	return t, ptr
}

type fieldTag struct {
	name      string
	aliases   []string
	omitEmpty bool
	omitZero  bool
	skip      bool
	unknown   string
}

// parseTag reads the first tag of the dialect that the field has.
func (d *dialect) parseTag(sf reflect.StructField) fieldTag {
	for _, key := range d.tags {
		raw, ok := sf.Tag.Lookup(key)
		if !ok {
			continue
		}
		if raw == "-" {
			return fieldTag{skip: true}
		}
		name, opts, _ := strings.Cut(raw, ",")
		tag := fieldTag{name: name}
		for opt := range strings.SplitSeq(opts, ",") {
			switch {
			case opt == "omitempty":
				tag.omitEmpty = true
			case opt == "omitzero":
				tag.omitZero = true
			case key != "msgpack" || opt == "" || opt == "inline" && sf.Anonymous:
				// What encoding/json has beyond this ("string") does not concern msgpack; embedded structs are inline anyway.
			case strings.HasPrefix(opt, "alias:"):
				tag.aliases = append(tag.aliases, strings.TrimPrefix(opt, "alias:"))
			default:
				tag.unknown = opt
			}
		}
		return tag
	}
	return fieldTag{}
}
