package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"runtime/debug"
	"strings"
	"unicode/utf8"

	"github.com/cruster-go/cruster"
)

// maxBody bounds a request body.
const maxBody = 8 << 20

// route answers one kind of request: with a value that becomes the body, nil
// for null, or with an error.
type route func(r *http.Request) (any, error)

// badRequest is an error of the caller's.
type badRequest struct {
	status int
	text   string
}

func (b *badRequest) Error() string { return b.text }

func bad(status int, format string, args ...any) error {
	return &badRequest{status, fmt.Sprintf(format, args...)}
}

// answer runs a route and writes what it returns.
func (a *app) answer(w http.ResponseWriter, r *http.Request, f route) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	v, err := a.guarded(r, f)
	status := http.StatusOK
	if err != nil {
		status, v = statusOf(err), map[string]string{"error": err.Error()}
		a.log.Debug("a request has failed", "method", r.Method, "path", r.URL.Path, "status", status, "error", err)
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		status = http.StatusInternalServerError
		body.Reset()
		_ = enc.Encode(map[string]string{"error": err.Error()})
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

// guarded turns a panic into an error.
func (a *app) guarded(r *http.Request, f route) (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("a route has panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f(r)
}

func statusOf(err error) int {
	var b *badRequest
	switch {
	case errors.As(err, &b):
		return b.status
	case errors.Is(err, cruster.ErrKeyConflict):
		return http.StatusConflict
	case errors.Is(err, cruster.ErrInvalid): // an ID that cannot be one
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// decode reads a body. Every field of a struct must be there; only a
// json.RawMessage may be null.
func decode[T any](r *http.Request) (T, error) {
	var v T
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return v, bad(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", maxBody)
	case err != nil:
		return v, bad(http.StatusBadRequest, "the body cannot be read: %v", err)
	case !json.Valid(body) || !utf8.Valid(body):
		return v, bad(http.StatusBadRequest, "the body is not JSON")
	}
	unfit := func(format string, args ...any) (T, error) {
		var zero T
		return zero, bad(http.StatusUnprocessableEntity, format, args...)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return unfit("the body is JSON of another form: %v", err)
	}
	if bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
		return unfit("the body is null")
	}
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		return v, nil
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(body, &given); err != nil {
		return unfit("the body is JSON of another form: %v", err)
	}
	for f := range t.Fields() {
		name := f.Tag.Get("json")
		value, ok := given[name]
		switch {
		case !ok:
			return unfit("field %q is missing", name)
		case string(value) == "null" && f.Type != reflect.TypeFor[json.RawMessage]():
			return unfit("field %q is null", name)
		}
	}
	return v, nil
}

// list makes an empty list of none, so that it is written as [].
func list[T any](v []T, err error) (any, error) {
	if v == nil {
		v = []T{}
	}
	return v, err
}

// nothing answers with null.
func nothing(err error) (any, error) { return nil, err }

// compact returns JSON without blanks.
func compact(raw json.RawMessage) (string, error) {
	var b bytes.Buffer
	err := json.Compact(&b, raw)
	return b.String(), err
}

// table collects routes.
type table struct {
	a   *app
	mux *http.ServeMux
}

func (t table) handle(pattern string, f route) {
	t.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r, span := traced(t.a.tracer, pattern, r)
		defer span.End()
		t.a.answer(w, r, f)
	})
}

func (t table) notFound(r *http.Request) (any, error) {
	return nil, bad(http.StatusNotFound, "there is no %s %s", r.Method, strings.ToValidUTF8(r.URL.Path, "?"))
}
