// Package transporttest checks a transport against its contract, one rule at a
// time.
//
// A transport's test calls [Run], or [RunVirtual] when it works inside a bubble
// of testing/synctest:
//
//	func TestContract(t *testing.T) {
//		transporttest.Run(t, func(t transporttest.TB) transporttest.Harness {
//			return transporttest.Harness{New: newOnLoopback, Nowhere: "127.0.0.1:1"}
//		})
//	}
//
// A test of the package that uses goleak sees what a transport leaves behind.
// The package uses the standard library only.
package transporttest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
)

// TB is the part of [testing.TB] that rules use, so that a test of the suite
// can record failures instead of failing. Fatalf must end the goroutine.
type TB interface {
	// Helper marks the calling function as a helper.
	Helper()
	// Errorf records a failure.
	Errorf(format string, args ...any)
	// Fatalf records a failure and ends the goroutine.
	Fatalf(format string, args ...any)
	// Context ends just before the cleanups run.
	Context() context.Context
	// Cleanup registers f to be called at the end, last one first.
	Cleanup(f func())
}

// Harness makes the transports under test. Those of one harness can reach each
// other.
type Harness struct {
	// New returns a transport that is not started. With an address, it is one
	// that a transport of this harness had, which is closed. The limits are
	// those of o.
	New func(t TB, address string, o transport.Options) transport.Transport

	// Client returns a transport without an address.
	Client func(t TB, o transport.Options) transport.Transport

	// Nowhere is an address at which nobody answers.
	Nowhere string
}

// Rule is one rule of the contract.
type Rule struct {
	Name  string // as a subtest
	Check func(t TB, h Harness)
}

// Rules returns all rules.
func Rules() []Rule {
	return []Rule{
		{"CallsAreAnswered", callsAreAnswered},
		{"ManyCallsAtOnce", manyCallsAtOnce},
		{"LargeAndSmallTogether", largeAndSmallTogether},
		{"RepliesInAnyOrder", repliesInAnyOrder},
		{"CallToOneself", callToOneself},
		{"ErrorsKeepAllFields", errorsKeepAllFields},
		{"OtherErrorsKeepTheirText", otherErrorsKeepTheirText},
		{"PanicIsAnError", panicIsAnError},
		{"DeadlineReachesHandler", deadlineReachesHandler},
		{"CancelReachesHandler", cancelReachesHandler},
		{"EndedContextSendsNothing", endedContextSendsNothing},
		{"UnreachablePeer", unreachablePeer},
		{"PeerDiesWhileHandling", peerDiesWhileHandling},
		{"RestartOnSameAddress", restartOnSameAddress},
		{"TooManyRequests", tooManyRequests},
		{"TooLarge", tooLarge},
		{"StreamInOrder", streamInOrder},
		{"SlowConsumerStopsProducer", slowConsumerStopsProducer},
		{"StoppedConsumerCancelsProducer", stoppedConsumerCancelsProducer},
		{"EndedContextCancelsStream", endedContextCancelsStream},
		{"StreamErrorComesLast", streamErrorComesLast},
		{"StreamOfPeerThatDies", streamOfPeerThatDies},
		{"BothSidesHearOfEachOther", bothSidesHearOfEachOther},
		{"BothDialAtOnce", bothDialAtOnce},
		{"IntroduceTellsOpenConnections", introduceTellsOpenConnections},
		{"ClientsAreAnswered", clientsAreAnswered},
		{"OtherClusterIsRefused", otherClusterIsRefused},
		{"ForgetEndsCalls", forgetEndsCalls},
		{"CloseLetsHandlersEnd", closeLetsHandlersEnd},
		{"CloseEndsWithContext", closeEndsWithContext},
		{"LifeCycle", lifeCycle},
	}
}

// Run checks the transports that open makes, one harness per rule.
func Run(t *testing.T, open func(t TB) Harness) {
	for _, r := range Rules() {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			r.Check(t, open(t))
		})
	}
}

// RunVirtual is Run in virtual time: each rule in a bubble of its own.
func RunVirtual(t *testing.T, open func(t TB) Harness) {
	for _, r := range Rules() {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { r.Check(t, open(t)) })
		})
	}
}

// patience bounds every wait of the suite; a rule that holds needs a fraction.
const patience = time.Minute

// node is one transport under test with its handler.
type node struct {
	transport.Transport
	handler *handler
	address string
}

const cluster = "transporttest"

var errPatience = fmt.Errorf("no answer within %v", patience)

// bounded ends ctx when patience does, without giving it a deadline.
func bounded(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(patience, func() { cancel(errPatience) })
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}

// Call does not wait for ever.
func (n *node) Call(ctx context.Context, to string, op transport.Op, body []byte) ([]byte, error) {
	ctx, stop := bounded(ctx)
	defer stop()
	return n.Transport.Call(ctx, to, op, body)
}

// Stream does not wait for ever.
func (n *node) Stream(ctx context.Context, to string, op transport.Op, body []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, stop := bounded(ctx)
		defer stop()
		n.Transport.Stream(ctx, to, op, body)(yield)
	}
}

// start starts a transport and closes it with the test.
func start(t TB, h Harness, incarnation crustertype.Incarnation, o transport.Options) *node {
	t.Helper()
	return startAt(t, h, "", incarnation, o)
}

func startAt(t TB, h Harness, address string, incarnation crustertype.Incarnation, o transport.Options) *node {
	t.Helper()
	tr := h.New(t, address, o)
	n := &node{Transport: tr, handler: newHandler(), address: tr.Address()}
	if n.address == "" {
		t.Fatalf("Address of a transport that accepts = \"\"")
	}
	n.start(t, cluster, incarnation)
	return n
}

func (n *node) start(t TB, cluster string, incarnation crustertype.Incarnation) {
	t.Helper()
	t.Cleanup(func() {
		n.handler.release()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	if err := n.Start(t.Context(), transport.Hello{Cluster: cluster, Address: n.address, Incarnation: incarnation}, n.handler); err != nil {
		t.Fatalf("Start = %v", err)
	}
}

// kill ends a transport without waiting for anybody.
func (n *node) kill(t TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = n.Close(ctx) // what it says is another rule's matter
}

// wait receives from c.
func wait[T any](t TB, c <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
	}
	t.Fatalf("%s: not after %v", what, patience)
	return *new(T)
}

// outcome is what a call came to.
type outcome struct {
	body []byte
	err  error
}

// call calls in the background.
func (n *node) call(ctx context.Context, to string, op transport.Op, body []byte) <-chan outcome {
	c := make(chan outcome, 1)
	go func() {
		b, err := n.Call(ctx, to, op, body)
		c <- outcome{b, err}
	}()
	return c
}

func wantError(t TB, rule string, err error, code crustertype.Code, executed bool) {
	t.Helper()
	var e *crustertype.Error
	switch {
	case err == nil:
		t.Errorf("%s: no error, want %v", rule, code)
	case !errors.As(err, &e):
		t.Errorf("%s: error %q is no *crustertype.Error", rule, err)
	case e.Code != code:
		t.Errorf("%s: error %q has code %v, want %v", rule, err, e.Code, code)
	case e.Executed != executed:
		t.Errorf("%s: error %q has Executed %v, want %v", rule, err, e.Executed, executed)
	}
}
