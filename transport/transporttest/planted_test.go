package transporttest_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
	"github.com/cruster-go/cruster/transport/transporttest"
)

// planted is a transport with one bug. Where a function is nil it is honest.
type planted struct {
	transport.Transport
	call   func(t transport.Transport, ctx context.Context, to string, op transport.Op, body []byte) ([]byte, error)
	stream func(t transport.Transport, ctx context.Context, to string, op transport.Op, body []byte) iter.Seq2[[]byte, error]
	begin  func(t transport.Transport, ctx context.Context, self transport.Hello, h transport.Handler) error
	tell   func(t transport.Transport, self transport.Hello)
	forget func(t transport.Transport, peer string)
	end    func(t transport.Transport, ctx context.Context) error
}

func (p *planted) Call(ctx context.Context, to string, op transport.Op, body []byte) ([]byte, error) {
	if p.call == nil {
		return p.Transport.Call(ctx, to, op, body)
	}
	return p.call(p.Transport, ctx, to, op, body)
}

func (p *planted) Stream(ctx context.Context, to string, op transport.Op, body []byte) iter.Seq2[[]byte, error] {
	if p.stream == nil {
		return p.Transport.Stream(ctx, to, op, body)
	}
	return p.stream(p.Transport, ctx, to, op, body)
}

func (p *planted) Start(ctx context.Context, self transport.Hello, h transport.Handler) error {
	if p.begin == nil {
		return p.Transport.Start(ctx, self, h)
	}
	return p.begin(p.Transport, ctx, self, h)
}

func (p *planted) Introduce(self transport.Hello) {
	if p.tell == nil {
		p.Transport.Introduce(self)
		return
	}
	p.tell(p.Transport, self)
}

func (p *planted) Forget(peer string) {
	if p.forget == nil {
		p.Transport.Forget(peer)
		return
	}
	p.forget(p.Transport, peer)
}

func (p *planted) Close(ctx context.Context) error {
	if p.end == nil {
		return p.Transport.Close(ctx)
	}
	return p.end(p.Transport, ctx)
}

// changeError returns a bug that changes the errors of calls.
func changeError(change func(e *crustertype.Error)) planted {
	return planted{call: func(t transport.Transport, ctx context.Context, to string, op transport.Op, body []byte) ([]byte, error) {
		b, err := t.Call(ctx, to, op, body)
		var e *crustertype.Error
		if errors.As(err, &e) {
			changed := *e
			change(&changed)
			err = &changed
		}
		return b, err
	}}
}

// changeStream returns a bug that changes the elements of streams; a nil chunk
// without an error is left out.
func changeStream(change func(i int, chunk []byte, err error) ([]byte, error)) planted {
	return planted{stream: func(t transport.Transport, ctx context.Context, to string, op transport.Op, body []byte) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			i := 0
			for chunk, err := range t.Stream(ctx, to, op, body) {
				chunk, err = change(i, chunk, err)
				i++
				if (chunk != nil || err != nil) && !yield(chunk, err) {
					return
				}
			}
		}
	}}
}

// deaf is a handler that does not pass something on.
type deaf struct {
	transport.Handler
	noContext, noHello bool
	serial             chan struct{} // a mutex would stop virtual time
}

func (d *deaf) Call(ctx context.Context, from transport.Hello, op transport.Op, body []byte) ([]byte, error) {
	if d.noContext {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
		defer cancel()
	}
	if d.serial != nil {
		select {
		case d.serial <- struct{}{}:
			defer func() { <-d.serial }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return d.Handler.Call(ctx, from, op, body)
}

func (d *deaf) Connected(from transport.Hello) {
	if !d.noHello {
		d.Handler.Connected(from)
	}
}

func wrapHandler(make func(h transport.Handler) transport.Handler) planted {
	return planted{begin: func(t transport.Transport, ctx context.Context, self transport.Hello, h transport.Handler) error {
		return t.Start(ctx, self, make(h))
	}}
}

// bugs are what transports of this kind get wrong.
var bugs = map[string]planted{
	"executed is never set":           changeError(func(e *crustertype.Error) { e.Executed = false }),
	"executed is always set":          changeError(func(e *crustertype.Error) { e.Executed = true }),
	"names of errors are lost":        changeError(func(e *crustertype.Error) { e.Name = "" }),
	"marks of errors are lost":        changeError(func(e *crustertype.Error) { e.Permanent = false }),
	"addresses of errors are lost":    changeError(func(e *crustertype.Error) { e.Address = crustertype.Address{} }),
	"all codes become unavailable":    changeError(func(e *crustertype.Error) { e.Code = crustertype.CodeUnavailable }),
	"streams lose a chunk":            changeStream(func(i int, c []byte, err error) ([]byte, error) { return pick(i == 7 && err == nil, nil, c), err }),
	"streams lose their error":        changeStream(func(_ int, c []byte, _ error) ([]byte, error) { return c, nil }),
	"contexts do not reach handlers":  wrapHandler(func(h transport.Handler) transport.Handler { return &deaf{Handler: h, noContext: true} }),
	"handlers run one after another":  wrapHandler(func(h transport.Handler) transport.Handler { return &deaf{Handler: h, serial: make(chan struct{}, 1)} }),
	"nobody hears of peers":           wrapHandler(func(h transport.Handler) transport.Handler { return &deaf{Handler: h, noHello: true} }),
	"a changed hello is kept to self": {tell: func(transport.Transport, transport.Hello) {}},
	"forget forgets nothing":          {forget: func(transport.Transport, string) {}},
	"close does not wait": {end: func(t transport.Transport, ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_ = t.Close(ctx)
		return nil
	}},
	"clusters are not compared": {begin: func(t transport.Transport, ctx context.Context, self transport.Hello, h transport.Handler) error {
		if self.Cluster != "" {
			self.Cluster = "any"
		}
		return t.Start(ctx, self, h)
	}},
	"requests are sent again": {call: func(t transport.Transport, ctx context.Context, to string, op transport.Op, body []byte) ([]byte, error) {
		b, err := t.Call(ctx, to, op, body)
		if errors.Is(err, crustertype.ErrUnavailable) {
			return t.Call(ctx, to, op, body)
		}
		return b, err
	}},
	"replies are mixed up": {call: func(t transport.Transport, ctx context.Context, to string, op transport.Op, body []byte) ([]byte, error) {
		b, err := t.Call(ctx, to, op, body)
		if last := lastReply.Swap(&b); last != nil && len(body) > 20 && len(*last) > 20 {
			b = *last
		}
		return b, err
	}},
	"streams are read ahead": {stream: func(t transport.Transport, ctx context.Context, to string, op transport.Op, body []byte) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			type element struct {
				chunk []byte
				err   error
			}
			ctx, cancel := context.WithCancel(ctx)
			all := make(chan element, 1000)
			var reader sync.WaitGroup
			defer reader.Wait()
			defer cancel()
			reader.Go(func() {
				defer close(all)
				for chunk, err := range t.Stream(ctx, to, op, body) {
					select {
					case all <- element{chunk, err}:
					case <-ctx.Done():
						return
					}
				}
			})
			for e := range all {
				if !yield(e.chunk, e.err) {
					return
				}
			}
		}
	}},
}

var lastReply atomic.Pointer[[]byte]

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// recorder takes note of failures.
type recorder struct {
	*testing.T
	mu       sync.Mutex
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// heavy rules come last.
var heavy = map[string]int{"CallsAreAnswered": 1, "ManyCallsAtOnce": 1, "LargeAndSmallTogether": 1, "StreamInOrder": 1, "BothDialAtOnce": 1}

// found returns the first rule that a bug breaks, and what it says.
func found(t *testing.T, bug planted) (rule, text string) {
	rules := transporttest.Rules()
	slices.SortStableFunc(rules, func(a, b transporttest.Rule) int { return heavy[a.Name] - heavy[b.Name] })
	for _, r := range rules {
		synctest.Test(t, func(t *testing.T) {
			rec := &recorder{T: t}
			t.Cleanup(func() {
				if len(rec.failures) > 0 {
					rule, text = r.Name, rec.failures[0]
				}
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				r.Check(rec, harness(bug))
			}()
			<-done
		})
		if rule != "" {
			return rule, text
		}
	}
	return "", ""
}

func harness(bug planted) transporttest.Harness {
	n, made := transport.NewNetwork(1), 0
	plant := func(t transport.Transport) transport.Transport {
		b := bug
		b.Transport = t
		return &b
	}
	quiet := func(o transport.Options) transport.Options {
		o.Logger = slog.New(slog.DiscardHandler)
		return o
	}
	return transporttest.Harness{
		New: func(_ transporttest.TB, address string, o transport.Options) transport.Transport {
			if address == "" {
				made++
				address = fmt.Sprintf("runner-%d", made)
			}
			return plant(n.Transport(address, quiet(o)))
		},
		Client: func(_ transporttest.TB, o transport.Options) transport.Transport {
			made++
			return plant(n.Client(fmt.Sprintf("client-%d", made), quiet(o)))
		},
		Nowhere: "nowhere",
	}
}

func TestSuiteFindsPlantedBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	t.Parallel()
	for name, bug := range bugs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rule, text := found(t, bug)
			if rule == "" {
				t.Fatal("no rule finds the bug")
			}
			t.Logf("%s: %s", rule, text)
		})
	}
}
