package transporttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
)

// expect waits until n has heard of want.
func (n *node) expect(t TB, want transport.Hello) {
	t.Helper()
	for {
		if got := wait(t, n.handler.connected, fmt.Sprintf("Connected(%+v)", want)); got == want {
			return
		}
	}
}

func hello(n *node, incarnation crustertype.Incarnation) transport.Hello {
	return transport.Hello{Cluster: cluster, Address: n.address, Incarnation: incarnation}
}

func bothSidesHearOfEachOther(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	for range 2 { // the second time there is a connection
		if err := a.Connect(t.Context(), b.address); err != nil {
			t.Fatalf("Connect = %v", err)
		}
	}
	a.expect(t, hello(b, 2))
	b.expect(t, hello(a, 1))
	got, err := b.Call(t.Context(), a.address, opFrom, nil)
	if want := fmt.Sprint(hello(b, 2)); err != nil || string(got) != want {
		t.Errorf("handler sees the caller as %s, %v, want %s", got, err, want)
	}
}

func bothDialAtOnce(t TB, h Harness) {
	for range 10 {
		a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
		var all sync.WaitGroup
		for i := range 20 {
			from, to := a, b
			if i%2 == 1 {
				from, to = b, a
			}
			all.Go(func() {
				for range 20 {
					if _, err := from.Call(t.Context(), to.address, opEcho, nil); err != nil {
						t.Errorf("Call while both sides dial = %v", err)
					}
				}
			})
		}
		all.Wait()
	}
}

func introduceTellsOpenConnections(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	if err := a.Connect(t.Context(), b.address); err != nil {
		t.Fatalf("Connect = %v", err)
	}
	b.expect(t, hello(a, 1))
	a.Introduce(hello(a, 7))
	b.expect(t, hello(a, 7))
	b.Introduce(hello(b, 9))
	a.expect(t, hello(b, 9))
	got, err := a.Call(t.Context(), b.address, opFrom, nil)
	if want := fmt.Sprint(hello(a, 7)); err != nil || string(got) != want {
		t.Errorf("handler sees the caller as %s, %v, want %s", got, err, want)
	}
	c := start(t, h, 3, transport.Options{})
	if err := c.Connect(t.Context(), a.address); err != nil {
		t.Fatalf("Connect = %v", err)
	}
	c.expect(t, hello(a, 7))
}

func clientsAreAnswered(t TB, h Harness) {
	tr := h.Client(t, transport.Options{})
	if got := tr.Address(); got != "" {
		t.Errorf("Address of a client = %q, want none", got)
	}
	a := start(t, h, 1, transport.Options{})
	for range 2 { // several without an address do not get in each other's way
		c := &node{Transport: h.Client(t, transport.Options{}), handler: newHandler()}
		c.start(t, cluster, 0)
		got, err := c.Call(t.Context(), a.address, opFrom, nil)
		if want := fmt.Sprint(transport.Hello{Cluster: cluster}); err != nil || string(got) != want {
			t.Errorf("handler sees a client as %s, %v, want %s", got, err, want)
		}
		c.expect(t, hello(a, 1))
		a.expect(t, transport.Hello{Cluster: cluster})
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Errorf("Close of a transport that was not started = %v", err)
	}
}

func otherClusterIsRefused(t TB, h Harness) {
	a := start(t, h, 1, transport.Options{})
	tr := h.New(t, "", transport.Options{})
	b := &node{Transport: tr, handler: newHandler(), address: tr.Address()}
	b.start(t, "another", 2)
	for _, c := range []struct{ from, to *node }{{a, b}, {b, a}} {
		_, err := c.from.Call(t.Context(), c.to.address, opEcho, nil)
		wantError(t, "a call to another cluster", err, crustertype.CodeForbidden, false)
		if err != nil && (!strings.Contains(err.Error(), `"another"`) || !strings.Contains(err.Error(), cluster)) {
			t.Errorf("error %q does not name both clusters", err)
		}
	}
	for _, n := range []*node{a, b} {
		select {
		case from := <-n.handler.connected:
			t.Errorf("a handler has heard of %+v", from)
		default:
		}
	}
}

func forgetEndsCalls(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	c := a.call(t.Context(), b.address, opHold, nil)
	wait(t, b.handler.begun, "the request reaches its handler")
	a.Forget(b.address)
	a.Forget(h.Nowhere)
	o := wait(t, c, "a call ends when its peer is forgotten")
	wantError(t, "a call whose peer was forgotten", o.err, crustertype.CodeUnavailable, true)
	_ = wait(t, b.handler.ended, "the handler's context ends")
	if _, err := a.Call(t.Context(), b.address, opEcho, nil); err != nil {
		t.Errorf("Call to a forgotten peer that is there = %v, want a new connection", err)
	}
}

func closeLetsHandlersEnd(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	c := a.call(t.Context(), b.address, opHold, []byte("last"))
	wait(t, b.handler.begun, "the request reaches its handler")
	closed := make(chan error, 2)
	for range 2 {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			closed <- b.Close(ctx)
		}()
	}
	for { // until the refusal has begun
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := b.Call(ctx, a.address, opEcho, nil)
		cancel()
		if err != nil {
			wantError(t, "a call of a transport that closes", err, crustertype.CodeShuttingDown, false)
			break
		}
	}
	for range 5 {
		_, err := a.Call(t.Context(), b.address, opEcho, nil)
		var e *crustertype.Error
		if err == nil || !errors.As(err, &e) || e.Executed || e.Code != crustertype.CodeShuttingDown && e.Code != crustertype.CodeUnavailable {
			t.Errorf("a call to a transport that closes = %v, want ErrShuttingDown or ErrUnavailable, not executed", err)
		}
	}
	select {
	case err := <-closed:
		t.Errorf("Close = %v while a handler answers", err)
	default:
	}
	b.handler.release()
	if o := wait(t, c, "the call is answered"); o.err != nil || string(o.body) != "last" {
		t.Errorf("a call that Close waited for = %q, %v", o.body, o.err)
	}
	for range 2 {
		if err := wait(t, closed, "Close returns"); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
}

func closeEndsWithContext(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	c := a.call(t.Context(), b.address, opHold, nil)
	wait(t, b.handler.begun, "the request reaches its handler")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close with a handler that goes on = %v, want the context's error", err)
	}
	_ = wait(t, b.handler.ended, "the handler's context ends")
	o := wait(t, c, "the call ends")
	wantError(t, "a call whose peer was closed", o.err, crustertype.CodeUnavailable, true)
}

func lifeCycle(t TB, h Harness) {
	a := start(t, h, 1, transport.Options{})
	tr := h.New(t, "", transport.Options{})
	_, err := tr.Call(t.Context(), a.address, opEcho, nil)
	wantError(t, "a call before Start", err, crustertype.CodeNotStarted, false)
	b := &node{Transport: tr, handler: newHandler(), address: tr.Address()}
	b.start(t, cluster, 2)
	err = b.Start(t.Context(), hello(b, 2), b.handler)
	wantError(t, "a second Start", err, crustertype.CodeInvalid, false)
	if _, err := b.Call(t.Context(), a.address, opEcho, nil); err != nil {
		t.Errorf("Call = %v", err)
	}
	for range 2 {
		if err := b.Close(t.Context()); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	_, err = b.Call(t.Context(), a.address, opEcho, nil)
	wantError(t, "a call after Close", err, crustertype.CodeShuttingDown, false)
	_, err = a.Call(t.Context(), b.address, opEcho, nil)
	wantError(t, "a call to a closed transport", err, crustertype.CodeUnavailable, false)
	unused := h.New(t, "", transport.Options{})
	err = unused.Start(t.Context(), transport.Hello{}, b.handler)
	wantError(t, "Start without a cluster name", err, crustertype.CodeInvalid, false)
	if err := unused.Close(t.Context()); err != nil {
		t.Errorf("Close of a transport that was not started = %v", err)
	}
}
