package handler

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotHandler is wrapped by every error that says why a function does not
// name a handler.
var ErrNotHandler = errors.New("not a handler")

// SignatureError is one fault of a registered type: of a method, a tag or the
// type itself.
type SignatureError struct {
	Type   string // the type that has the fault, such as "*shop.Counter"
	Method string // empty for a fault of the type itself
	File   string // where the method is declared, if it is known
	Line   int
	Reason string // what is wrong
	Want   string // what would be right; may be empty
}

// Error returns the fault on one line: place, what is wrong, what would be right.
func (e *SignatureError) Error() string { return e.text("") }

// text is Error within an error about the type known.
func (e *SignatureError) text(known string) string {
	var b strings.Builder
	switch {
	case e.Method != "":
		b.WriteString(expression(e.Type, e.Method))
		if e.File != "" {
			fmt.Fprintf(&b, " at %s:%d", e.File, e.Line)
		}
		b.WriteString(": ")
	case strings.TrimPrefix(e.Type, "*") != strings.TrimPrefix(known, "*"):
		b.WriteString(e.Type)
		b.WriteString(": ")
	}
	b.WriteString(e.Reason)
	if e.Want != "" {
		b.WriteString("; want ")
		b.WriteString(e.Want)
	}
	return b.String()
}

// RegistrationError lists all faults of a type that was to be registered.
type RegistrationError struct {
	Type   string
	Faults []*SignatureError
}

// Error lists the faults, one a line if there are several.
func (e *RegistrationError) Error() string {
	if len(e.Faults) == 1 {
		return fmt.Sprintf("register %s: %s", e.Type, e.Faults[0].text(e.Type))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "register %s: %d faults", e.Type, len(e.Faults))
	for _, f := range e.Faults {
		b.WriteString("\n\t")
		b.WriteString(f.text(e.Type))
	}
	return b.String()
}

// Unwrap returns the faults.
func (e *RegistrationError) Unwrap() []error {
	errs := make([]error, len(e.Faults))
	for i, f := range e.Faults {
		errs[i] = f
	}
	return errs
}

// faults collects what is wrong with one type.
type faults struct {
	typ  string
	list []*SignatureError
}

// add notes a fault of the type named typ itself.
func (f *faults) add(typ, want, format string, args ...any) {
	f.list = append(f.list, &SignatureError{Type: typ, Reason: fmt.Sprintf(format, args...), Want: want})
}

// method notes a fault of a method.
func (f *faults) method(typ, method string, pos position, want, format string, args ...any) {
	f.list = append(f.list, &SignatureError{
		Type: typ, Method: method, File: pos.file, Line: pos.line,
		Reason: fmt.Sprintf(format, args...), Want: want,
	})
}

// err returns the collected faults as one error, or nil.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	return &RegistrationError{Type: f.typ, Faults: f.list}
}

// expression spells the method expression of a type: (*shop.Counter).Get.
func expression(typ, method string) string {
	if strings.HasPrefix(typ, "*") {
		return "(" + typ + ")." + method
	}
	return typ + "." + method
}
