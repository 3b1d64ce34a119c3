package cruster_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
)

// A singleton that ignores its context does not keep Shutdown from returning.
func TestSingletonThatNeverStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc, err := cruster.New(cruster.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		let := make(chan struct{})
		defer close(let)
		err = cruster.RegisterSingleton(svc, cruster.Singleton{Name: "stuck", Run: func(cruster.SingletonContext) error {
			<-let
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := svc.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := svc.Shutdown(ctx); !errors.Is(err, cruster.ErrTimeout) {
			t.Errorf("Shutdown() = %v, want ErrTimeout", err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("Shutdown took %v, its context ended after 1s", took)
		}
	})
}

// Board is an entity whose request is a value that its sender can still change.
type Board struct {
	_ cruster.Entity `cruster:"board"`

	self *cruster.Client[*Board]
	got  chan string
}

type Lines struct{ List []string }

func (b *Board) Add(_ context.Context, l Lines) error {
	b.got <- strings.Join(l.List, ",")
	return nil
}

func (b *Board) Forward(ctx context.Context, l Lines) error {
	err := cruster.NotifyErr(ctx, b.self.Entity("b"), (*Board).Add, l)
	l.List[0] = "changed"
	return err
}

// What a handler sends is the value at the time of the call, and what cannot be
// sent is refused then.
func TestNotifyTakesTheValueAsItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc, err := cruster.New(cruster.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), MaxPayload: 1024})
		if err != nil {
			t.Fatal(err)
		}
		var boards cruster.Client[*Board]
		impl := &Board{self: &boards, got: make(chan string, 1)}
		if boards, err = cruster.Register(svc, impl); err != nil {
			t.Fatal(err)
		}
		if err := svc.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer stop(t, svc)
		if err := cruster.CallErr(t.Context(), boards.Entity("a"), (*Board).Forward, Lines{[]string{"first"}}); err != nil {
			t.Fatal(err)
		}
		if got := <-impl.got; got != "first" {
			t.Errorf("the receiver got %q, want what was sent", got)
		}
		err = cruster.CallErr(t.Context(), boards.Entity("a"), (*Board).Forward, Lines{[]string{strings.Repeat("x", 2000)}})
		if !errors.Is(err, cruster.ErrTooLarge) {
			t.Errorf("Forward() of too much = %v, want ErrTooLarge", err)
		}
	})
}

// Awaiting a scheduled request to one's own entity would wait for one's own turn.
func TestScheduledCallToOneself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b cruster.Client[*Bench]
		_, b = start(t, cruster.Config{}, func(ctx context.Context, s string) (string, error) {
			if s == "inner" {
				return s, nil
			}
			_, err := cruster.Call(ctx, b.Entity("a"), (*Bench).Write, Text{"inner"}, cruster.After(time.Second))
			return "", err
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for name, method := range map[string]func(*Bench, context.Context, Text) (Text, error){"persisted": (*Bench).Write, "best effort": (*Bench).Read} {
			if _, err := cruster.Call(ctx, b.Entity("a"), method, Text{"outer"}); !errors.Is(err, cruster.ErrReentrant) {
				t.Errorf("%s: Call() = %v, want ErrReentrant", name, err)
			}
		}
	})
}
