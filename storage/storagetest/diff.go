package storagetest

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

var timeType = reflect.TypeFor[time.Time]()

// diff describes where got differs from want, one line per place; "" when they
// are alike. Times are compared as instants to the microsecond, and nil and
// empty slices, maps and outcomes are alike, as the contract has it.
func diff(want, got any) string {
	var b strings.Builder
	compare(&b, "", reflect.ValueOf(want), reflect.ValueOf(got))
	return b.String()
}

func compare(b *strings.Builder, path string, want, got reflect.Value) {
	if want.IsValid() != got.IsValid() || want.IsValid() && want.Type() != got.Type() {
		fmt.Fprintf(b, "\t%s: got %v, want %v\n", path, got, want)
		return
	}
	if !want.IsValid() {
		return
	}
	if want.Type() == timeType {
		w, g := want.Interface().(time.Time), got.Interface().(time.Time)
		if !w.Truncate(time.Microsecond).Equal(g.Truncate(time.Microsecond)) {
			fmt.Fprintf(b, "\t%s: got %v, want %v\n", path, g.UTC(), w.UTC())
		}
		return
	}
	switch want.Kind() {
	case reflect.Struct:
		for i := range want.NumField() {
			compare(b, path+"."+want.Type().Field(i).Name, want.Field(i), got.Field(i))
		}
	case reflect.Pointer, reflect.Interface:
		if want.IsNil() || got.IsNil() {
			if want.IsNil() != got.IsNil() {
				fmt.Fprintf(b, "\t%s: got %s, want %s\n", path, show(got), show(want))
			}
			return
		}
		compare(b, path, want.Elem(), got.Elem())
	case reflect.Slice:
		if want.Len() != got.Len() {
			fmt.Fprintf(b, "\t%s: got %d elements %s, want %d %s\n", path, got.Len(), show(got), want.Len(), show(want))
			return
		}
		if want.Type().Elem().Kind() == reflect.Uint8 {
			if string(want.Bytes()) != string(got.Bytes()) {
				fmt.Fprintf(b, "\t%s: got %s, want %s\n", path, show(got), show(want))
			}
			return
		}
		for i := range want.Len() {
			compare(b, fmt.Sprintf("%s[%d]", path, i), want.Index(i), got.Index(i))
		}
	case reflect.Map:
		if want.Len() != got.Len() || want.Len() > 0 && !reflect.DeepEqual(want.Interface(), got.Interface()) {
			fmt.Fprintf(b, "\t%s: got %v, want %v\n", path, got, want)
		}
	default:
		if !want.Equal(got) {
			fmt.Fprintf(b, "\t%s: got %v, want %v\n", path, got, want)
		}
	}
}

// show prints a value, short.
func show(v reflect.Value) string {
	s := fmt.Sprintf("%v", v)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		s = fmt.Sprintf("%+v", v.Elem())
	}
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		s = fmt.Sprintf("%q", v.Bytes())
	}
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return s
}
