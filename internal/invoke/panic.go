package invoke

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/cruster-go/cruster/crustertype"
)

// Panicked is the cause of an error that stands for a panic.
type Panicked struct {
	Value any
	Stack []byte
}

// Error returns the value's text.
func (p *Panicked) Error() string { return fmt.Sprint(p.Value) }

// Unwrap returns the value when the panic's value was an error.
func (p *Panicked) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// PanicError turns a recovered value into an error that says where the panic
// happened. Call it in the deferred function that recovered.
func PanicError(value any) *crustertype.Error {
	cause := &Panicked{Value: value, Stack: debug.Stack()}
	return crustertype.Errorf(crustertype.CodePanic, "panic%s: %v", origin(), value).WithCause(cause)
}

// origin returns " at file:line" of the innermost frame that panicked.
func origin() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	panicking := false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			panicking = true
		case panicking && !strings.HasPrefix(f.Function, "runtime."):
			return fmt.Sprintf(" at %s:%d", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
		}
		if !more {
			return ""
		}
	}
}
