package journal

import (
	"fmt"
	"strings"

	"github.com/cruster-go/cruster/crustertype"
)

// ErrTooLong reports a step beyond the limit.
var ErrTooLong = crustertype.ErrHistoryTooLong

// Mismatch reports that workflow code asked for another step than it did when
// the journal was written: it is not deterministic, or was changed without
// asking Changed. It matches ErrNondeterminism.
type Mismatch struct {
	Pos       int
	Recorded  *crustertype.Step
	Requested *Request // nil: the code ended instead
	Place     string   // file:line that asked, "" when unknown
	Diff      string   // how the arguments differ, "" when unknown or equal
	TimeArg   bool     // the arguments differ in a time
}

// Error shows both steps, the difference of their arguments and what to do.
func (m *Mismatch) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "workflow code differs from its journal at step %d:\n  recorded:  %s", m.Pos, describe(m.Recorded.Kind, m.Recorded.Name))
	b.WriteString("\n  requested: ")
	if m.Requested == nil {
		b.WriteString("the end of the workflow")
	} else {
		b.WriteString(describe(m.Requested.Kind, m.Requested.Name))
	}
	if m.Place != "" {
		b.WriteString(" at ")
		b.WriteString(m.Place)
	}
	if m.sameStep() {
		b.WriteString("\n  arguments differ")
		if m.Diff != "" {
			b.WriteString(":")
			for line := range strings.Lines(strings.TrimRight(m.Diff, "\n")) {
				b.WriteString("\n    ")
				b.WriteString(strings.TrimRight(line, "\n"))
			}
		}
	}
	b.WriteString("\n  ")
	b.WriteString(m.hint())
	return b.String()
}

// Unwrap makes errors.Is(err, ErrNondeterminism) true.
func (m *Mismatch) Unwrap() error { return crustertype.ErrNondeterminism }

func (m *Mismatch) sameStep() bool {
	return m.Requested != nil && m.Requested.Kind == m.Recorded.Kind && m.Requested.Name == m.Recorded.Name
}

func (m *Mismatch) hint() string {
	switch {
	case m.TimeArg:
		return "a time differs: use wf.Now() in place of time.Now(), it is the same on every replay"
	case m.sameStep():
		return "arguments must follow from the input and earlier results: use wf.Now(), wf.NewID() and Step for the clock, random numbers and maps' order"
	}
	return "if the code was changed on purpose, guard the change with wf.Changed(id) and retry the execution"
}

func describe(k crustertype.StepKind, name string) string {
	if name == "" || name == k.String() {
		return k.String()
	}
	return k.String() + " " + name
}
