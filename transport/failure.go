package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cruster-go/cruster/crustertype"
)

const (
	failureExecuted = 1 << iota
	failurePermanent
	failureFlags = 1<<iota - 1
)

// maxFailureText bounds each text of a failure on the wire; what is longer is
// cut, so that an error always fits.
const maxFailureText = 64 << 10

// encodeFailure appends the form in which an error crosses the wire.
func encodeFailure(b []byte, e *crustertype.Error) []byte {
	b = binary.AppendUvarint(b, uint64(e.Code))
	var flags byte
	if e.Executed {
		flags |= failureExecuted
	}
	if e.Permanent {
		flags |= failurePermanent
	}
	b = append(b, flags)
	for _, s := range []string{e.Op, e.Address.Type, e.Address.ID, e.Message, e.Name} {
		s = s[:min(len(s), maxFailureText)]
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

// decodeFailure reads what encodeFailure wrote.
func decodeFailure(b []byte) (*crustertype.Error, error) {
	r := reader{b: b}
	code := r.uvarint("code of error")
	if r.err == nil && len(r.b) == 0 {
		r.err = fmt.Errorf("%w: flags of error are cut off", ErrMalformed)
	}
	if r.err != nil {
		return nil, r.err
	}
	flags := r.b[0]
	r.b = r.b[1:]
	if code > 1<<16-1 || flags&^failureFlags != 0 {
		return nil, fmt.Errorf("%w: code %d or flags %#x of error", ErrMalformed, code, flags)
	}
	e := &crustertype.Error{Code: crustertype.Code(code), Executed: flags&failureExecuted != 0, Permanent: flags&failurePermanent != 0}
	e.Op = r.text("operation of error", maxFailureText)
	e.Address.Type, e.Address.ID = r.text("entity type of error", maxFailureText), r.text("entity ID of error", maxFailureText)
	e.Message, e.Name = r.text("text of error", maxFailureText), r.text("name of error", maxFailureText)
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%w: %d bytes after an error", ErrMalformed, len(r.b))
	}
	if r.err != nil {
		return nil, r.err
	}
	return e, nil
}

// failureOf returns what a handler's error is for the caller. An error that
// wraps one of ours keeps its code and marks, and has the whole text.
func failureOf(err error) *crustertype.Error {
	if e, ok := err.(*crustertype.Error); ok { //nolint:errorlint // the outermost error alone has its text in its fields
		return e
	}
	e := &crustertype.Error{Code: crustertype.CodeUnknown, Message: err.Error(), Executed: true}
	var inner *crustertype.Error
	switch {
	case errors.As(err, &inner):
		e.Code, e.Name, e.Executed, e.Permanent = inner.Code, inner.Name, inner.Executed, inner.Permanent
	case errors.Is(err, context.DeadlineExceeded):
		e.Code = crustertype.CodeTimeout
	case errors.Is(err, context.Canceled):
		e.Code = crustertype.CodeCancelled
	}
	return e
}

// ended returns the error of a caller whose ctx has ended.
func ended(ctx context.Context, to string, executed bool) error {
	code, what := crustertype.CodeCancelled, "the caller has given up"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code, what = crustertype.CodeTimeout, "no answer in time"
	}
	e := crustertype.Errorf(code, "%s: %w", what, context.Cause(ctx))
	e.Op, e.Executed = "peer "+to, executed
	return e
}

// failed returns an error of the way to a peer.
func failed(to string, code crustertype.Code, executed bool, cause error) error {
	e := crustertype.Errorf(code, "%w", cause)
	e.Op, e.Executed = "peer "+to, executed
	return e
}
