package handler

import (
	"context"
	"fmt"
	"reflect"
	"strings"
)

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
)

// Kind is the shape of a handler.
type Kind uint8

// The shapes of handlers.
const (
	Unary   Kind = iota // (ctx, In) (Out, error)
	ErrOnly             // (ctx, In) error
	Stream              // (ctx, In) iter.Seq2[Out, error]
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Unary:
		return "unary"
	case ErrOnly:
		return "error-only"
	case Stream:
		return "stream"
	}
	return "invalid"
}

// signature is the classified shape of a handler.
type signature struct {
	kind    Kind
	in, out reflect.Type // out: nil for ErrOnly, the item for Stream
}

// leads reports whether the first parameter after the receiver is lead.
func leads(ft reflect.Type, recv int, lead reflect.Type) bool {
	return ft.NumIn() > recv && ft.In(recv) == lead
}

// classify tells the shape of a function type whose first recv parameters are
// the receiver, and what is wrong with it. want is the nearest right shape.
func classify(ft reflect.Type, recv int, lead reflect.Type) (s signature, problems []string) {
	if !leads(ft, recv, lead) {
		problems = append(problems, fmt.Sprintf("does not take %s first", lead))
	}
	switch n := ft.NumIn() - recv - 1; {
	case n < 1 && len(problems) == 0:
		problems = append(problems, "takes no request: add one request value, struct{} will do")
	case n > 1 && len(problems) == 0:
		problems = append(problems, fmt.Sprintf("takes %d values after the context: put them into one struct", n))
	case n == 1 && ft.IsVariadic():
		problems = append(problems, "is variadic: take one request value")
	case n == 1:
		s.in = ft.In(recv + 1)
	}
	switch ft.NumOut() {
	case 0:
		problems = append(problems, "returns nothing: a caller must learn whether it worked")
		s.kind = ErrOnly
	case 1:
		return oneResult(ft.Out(0), s, problems)
	case 2:
		s.out = ft.Out(0)
		switch {
		case ft.Out(1) == errorType:
		case ft.Out(0) == errorType:
			problems = append(problems, "returns its error first: it comes last")
			s.out = ft.Out(1)
		default:
			problems = append(problems, fmt.Sprintf("returns %s last, not error", ft.Out(1)))
		}
	default:
		problems = append(problems, fmt.Sprintf("returns %d values: put the results into one struct", ft.NumOut()))
	}
	return s, problems
}

func oneResult(out reflect.Type, s signature, problems []string) (signature, []string) {
	if out == errorType {
		s.kind = ErrOnly
		return s, problems
	}
	item, std, ok := sequence(out)
	if !ok {
		s.out = out
		return s, append(problems, fmt.Sprintf("returns %s without an error", out))
	}
	s.kind, s.out = Stream, item
	if !std {
		problems = append(problems, fmt.Sprintf("returns %s, which is not the type iter.Seq2[%s, error]", out, item))
	}
	return s, problems
}

// sequence reports whether t is shaped like a sequence, of what, and whether
// it is exactly an iter.Seq2 with an error.
func sequence(t reflect.Type) (item reflect.Type, std, ok bool) {
	if t.Kind() != reflect.Func || t.NumIn() != 1 || t.NumOut() != 0 || t.IsVariadic() {
		return nil, false, false
	}
	yield := t.In(0)
	if yield.Kind() != reflect.Func || yield.NumIn() < 1 || yield.NumIn() > 2 || yield.NumOut() != 1 || yield.Out(0).Kind() != reflect.Bool {
		return nil, false, false
	}
	std = t.PkgPath() == "iter" && strings.HasPrefix(t.Name(), "Seq2[") && yield.NumIn() == 2 && yield.In(1) == errorType
	return yield.In(0), std, true
}

// wantSignature spells the right shape of a method, with the types that are
// known already.
func wantSignature(recv, method, lead string, s signature) string {
	in, out := "In", "Out"
	if s.in != nil {
		in = s.in.String()
	}
	if s.out != nil {
		out = s.out.String()
	}
	var res string
	switch s.kind {
	case ErrOnly:
		res = "error"
	case Stream:
		res = fmt.Sprintf("iter.Seq2[%s, error]", out)
	default:
		res = fmt.Sprintf("(%s, error)", out)
	}
	if recv != "" {
		recv = "(" + recv + ") "
	}
	return fmt.Sprintf("func %s%s(%s, %s) %s", recv, method, lead, in, res)
}

// checkTravel reports the types of s that cannot travel.
func (s signature) checkTravel(check func(reflect.Type) error) (problems []string) {
	if check == nil {
		return nil
	}
	if s.in != nil {
		if err := check(s.in); err != nil {
			problems = append(problems, fmt.Sprintf("has a request %s that cannot travel: %v", s.in, err))
		}
	}
	if s.out != nil {
		what := "result"
		if s.kind == Stream {
			what = "item"
		}
		if err := check(s.out); err != nil {
			problems = append(problems, fmt.Sprintf("has the %s %s that cannot travel: %v", what, s.out, err))
		}
	}
	return problems
}
