package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
)

func callsAreAnswered(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	for _, size := range []int{0, 1, 100, 5000, 70_000, 1 << 20, 4 << 20} {
		body := bytes.Repeat([]byte{byte(size), 1, 2}, size/3+1)[:size]
		for _, c := range []struct {
			from *node
			to   string
		}{{a, b.address}, {b, a.address}} {
			got, err := c.from.Call(t.Context(), c.to, opEcho, bytes.Clone(body))
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("echo of %d bytes = %d bytes, %v", size, len(got), err)
			}
		}
	}
}

func manyCallsAtOnce(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	var all sync.WaitGroup
	for i := range 1000 {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		all.Go(func() {
			for j := range 5 {
				body := bytes.Repeat(fmt.Appendf(nil, "%d/%d;", i, j), 1+i%200)
				got, err := from.Call(t.Context(), to.address, opEcho, body)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("call %d/%d = %q, %v: each call needs its own reply", i, j, got, err)
				}
			}
		})
	}
	all.Wait()
}

func largeAndSmallTogether(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{Window: 10_000}), start(t, h, 2, transport.Options{})
	var all sync.WaitGroup
	for i, c := range []struct {
		from, to    *node
		size, times int
	}{{a, b, 4 << 20, 3}, {b, a, 4 << 20, 3}, {a, b, 1 << 20, 10}, {b, a, 100_000, 30}, {a, b, 300, 300}, {b, a, 1, 300}} {
		all.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, c.size)
			for range c.times {
				if got, err := c.from.Call(t.Context(), c.to.address, opEcho, body); err != nil || !bytes.Equal(got, body) {
					t.Errorf("echo of %d bytes among others = %d bytes, %v", c.size, len(got), err)
					return
				}
			}
		})
	}
	for range 4 {
		all.Go(func() {
			n := 0
			for _, err := range b.Stream(t.Context(), a.address, opCount, number(300)) {
				if err != nil {
					t.Errorf("stream among others = %v", err)
				}
				n++
			}
			if n != 300 {
				t.Errorf("stream among others had %d chunks, want 300", n)
			}
		})
	}
	all.Wait()
}

func repliesInAnyOrder(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	slow := a.call(t.Context(), b.address, opHold, []byte("slow"))
	wait(t, b.handler.begun, "the slow request reaches its handler")
	for range 100 {
		if _, err := a.Call(t.Context(), b.address, opEcho, nil); err != nil {
			t.Fatalf("Call beside a slow one = %v", err)
		}
	}
	select {
	case o := <-slow:
		t.Fatalf("the slow call was answered with %q, %v before its handler ended", o.body, o.err)
	default:
	}
	b.handler.release()
	if o := wait(t, slow, "the slow call ends"); o.err != nil || string(o.body) != "slow" {
		t.Errorf("slow call = %q, %v", o.body, o.err)
	}
}

func callToOneself(t TB, h Harness) {
	a := start(t, h, 1, transport.Options{})
	for range 3 {
		if got, err := a.Call(t.Context(), a.address, opEcho, []byte("me")); err != nil || string(got) != "me" {
			t.Errorf("Call to the own address = %q, %v", got, err)
		}
	}
}

func errorsKeepAllFields(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	_, err := a.Call(t.Context(), b.address, opFail, nil)
	checkTyped(t, err)
}

func checkTyped(t TB, err error) {
	t.Helper()
	var e *crustertype.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is no *crustertype.Error", err)
	}
	type fields struct {
		code                crustertype.Code
		op, message, name   string
		address             crustertype.Address
		executed, permanent bool
	}
	got := fields{e.Code, e.Op, e.Message, e.Name, e.Address, e.Executed, e.Permanent}
	if want := (fields{errTyped.Code, errTyped.Op, errTyped.Message, errTyped.Name, errTyped.Address, errTyped.Executed, errTyped.Permanent}); got != want {
		t.Errorf("error arrived as %+v, was %+v", got, want)
	}
	if !errors.Is(err, crustertype.ErrMailboxFull) {
		t.Errorf("errors.Is(%v, ErrMailboxFull) = false", err)
	}
}

func otherErrorsKeepTheirText(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	_, err := a.Call(t.Context(), b.address, opText, nil)
	wantError(t, "an error that is none of ours", err, crustertype.CodeUnknown, true)
	if err != nil && err.Error() != plainText {
		t.Errorf("text arrived as %q, was %q", err, plainText)
	}
	_, err = a.Call(t.Context(), b.address, opLate, nil)
	wantError(t, "a handler's deadline", err, crustertype.CodeTimeout, true)
}

func panicIsAnError(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	_, err := a.Call(t.Context(), b.address, opPanic, nil)
	wantError(t, "a handler that panics", err, crustertype.CodePanic, true)
	if _, err := a.Call(t.Context(), b.address, opEcho, nil); err != nil {
		t.Errorf("Call after a panic = %v", err)
	}
}

func deadlineReachesHandler(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	if got, err := a.Call(t.Context(), b.address, opLeft, nil); err != nil || len(got) != 0 {
		t.Errorf("without a deadline the handler has %v left, %v, want none", time.Duration(fromNumber(got)), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := a.Call(ctx, b.address, opLeft, nil)
	if left := time.Duration(fromNumber(got)); err != nil || left > time.Minute || left < time.Minute/2 {
		t.Errorf("with a minute to go the handler has %v left, %v", left, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = a.Call(short, b.address, opHold, nil)
	wantError(t, "a call whose time has passed", err, crustertype.CodeTimeout, true)
	if err := wait(t, b.handler.ended, "the handler's context ends"); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("handler's context ended with %v", err)
	}
}

func cancelReachesHandler(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	c := a.call(ctx, b.address, opHold, nil)
	wait(t, b.handler.begun, "the request reaches its handler")
	cause := errors.New("changed my mind")
	cancel(cause)
	o := wait(t, c, "a call ends when its context does")
	wantError(t, "a call that was given up", o.err, crustertype.CodeCancelled, true)
	if !errors.Is(o.err, cause) {
		t.Errorf("errors.Is(%v, cause of the cancellation) = false", o.err)
	}
	if err := wait(t, b.handler.ended, "the handler's context ends"); !errors.Is(err, context.Canceled) {
		t.Errorf("handler's context ended with %v, want context.Canceled", err)
	}
}

func endedContextSendsNothing(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	if err := a.Connect(t.Context(), b.address); err != nil {
		t.Fatalf("Connect = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Call(ctx, b.address, opHold, nil)
	wantError(t, "a call whose context has ended before", err, crustertype.CodeCancelled, false)
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err = a.Call(late, b.address, opHold, nil)
	wantError(t, "a call whose time has passed before", err, crustertype.CodeTimeout, false)
	if _, err := a.Call(t.Context(), b.address, opEcho, nil); err != nil {
		t.Errorf("Call afterwards = %v", err)
	}
	select {
	case <-b.handler.begun:
		t.Errorf("a request whose context had ended reached the handler, yet Executed was false")
	default:
	}
}

func unreachablePeer(t TB, h Harness) {
	a := start(t, h, 1, transport.Options{})
	for range 3 {
		_, err := a.Call(t.Context(), h.Nowhere, opEcho, nil)
		wantError(t, "a call to nowhere", err, crustertype.CodeUnavailable, false)
		if err != nil && !strings.Contains(err.Error(), h.Nowhere) {
			t.Errorf("error %q does not name the peer %s", err, h.Nowhere)
		}
	}
	wantError(t, "Connect to nowhere", a.Connect(t.Context(), h.Nowhere), crustertype.CodeUnavailable, false)
	for _, err := range a.Stream(t.Context(), h.Nowhere, opCount, number(1)) {
		wantError(t, "a stream from nowhere", err, crustertype.CodeUnavailable, false)
	}
}

func peerDiesWhileHandling(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	c := a.call(t.Context(), b.address, opHold, nil)
	wait(t, b.handler.begun, "the request reaches its handler")
	b.kill(t)
	o := wait(t, c, "a call ends with its peer")
	wantError(t, "a call whose peer has died", o.err, crustertype.CodeUnavailable, true)
}

func restartOnSameAddress(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	for i := range 3 {
		if _, err := a.Call(t.Context(), b.address, opEcho, nil); err != nil {
			t.Fatalf("Call before restart %d = %v", i, err)
		}
		b.kill(t)
		for range 10 {
			_, err := a.Call(t.Context(), b.address, opEcho, nil)
			if err == nil {
				t.Fatalf("a killed peer answered")
			}
		}
		b = startAt(t, h, b.address, crustertype.Incarnation(3+i), transport.Options{})
		began := time.Now()
		var err error
		for range 100 {
			if _, err = a.Call(t.Context(), b.address, opEcho, nil); err == nil {
				break
			}
			timer := time.NewTimer(20 * time.Millisecond)
			<-timer.C
		}
		if d := time.Since(began); err != nil || d > 10*time.Second {
			t.Errorf("the restarted peer answered after %v, %v, want it at once", d, err)
		}
	}
}

func tooManyRequests(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{MaxRequests: 4})
	calls := make([]<-chan outcome, 4)
	for i := range calls {
		calls[i] = a.call(t.Context(), b.address, opHold, nil)
		wait(t, b.handler.begun, "the request reaches its handler")
	}
	_, err := a.Call(t.Context(), b.address, opEcho, nil)
	wantError(t, "one request more than allowed", err, crustertype.CodeMailboxFull, false)
	b.handler.release()
	for _, c := range calls {
		if o := wait(t, c, "a call ends"); o.err != nil {
			t.Errorf("one of the allowed calls = %v", o.err)
		}
	}
	if _, err := a.Call(t.Context(), b.address, opEcho, nil); err != nil {
		t.Errorf("Call when there is room again = %v", err)
	}
}

func tooLarge(t TB, h Harness) {
	const limit = 100_000
	small := transport.Options{MaxBody: limit}
	a, b, c := start(t, h, 1, small), start(t, h, 2, small), start(t, h, 3, transport.Options{})
	check := func(what string, err error, executed bool) {
		t.Helper()
		wantError(t, what, err, crustertype.CodeTooLarge, executed)
		if _, err := a.Call(t.Context(), b.address, opEcho, make([]byte, limit)); err != nil {
			t.Errorf("after %s: Call with a body of the limit = %v", what, err)
		}
	}
	_, err := a.Call(t.Context(), b.address, opEcho, make([]byte, limit+1))
	check("a request beyond the own limit", err, false)
	_, err = c.Call(t.Context(), b.address, opEcho, make([]byte, limit+1))
	check("a request beyond the peer's limit", err, false)
	_, err = a.Call(t.Context(), b.address, opSize, number(limit+1))
	check("a reply beyond the limit", err, true)
	_, err = a.Call(t.Context(), c.address, opSize, number(limit+1))
	check("a reply beyond the caller's limit", err, true)
	for _, err = range a.Stream(t.Context(), c.address, opEndless, number(limit+1)) {
	}
	check("a chunk beyond the caller's limit", err, true)
	for _, err = range a.Stream(t.Context(), b.address, opEndless, make([]byte, limit+1)) {
	}
	check("a stream request beyond the limit", err, false)
}
