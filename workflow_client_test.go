package cruster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/storage/sqlite"
)

func TestWorkflowKeys(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var runs atomic.Int64
		other := &Other{body: func(*cruster.WorkflowContext, string) error { runs.Add(1); return nil }}
		s := open(t, nil, &Order{}, other)
		id := func(c cruster.WorkflowClient[string, struct{}], req string) string {
			id, err := c.Start(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		a, b := id(s.others, "x"), id(s.others, "x")
		if a == b {
			t.Error("two starts without a key are one execution")
		}
		if got := id(s.others.WithRawKey("raw"), "x"); got != "raw" {
			t.Errorf("WithRawKey gives the ID %q, want the key itself", got)
		}
		hashed := id(s.others.WithKey("k"), "x")
		if hashed == "k" || hashed != id(s.others.WithKey("k"), "x") || hashed != crustertype.HashedExecutionID("other", "k") {
			t.Errorf("WithKey gives the ID %q, want the hash of the key, twice the same", hashed)
		}
		if _, err := s.others.WithKey("k").Start(t.Context(), "y"); !errors.Is(err, cruster.ErrKeyConflict) {
			t.Errorf("the same key with another body: %v, want ErrKeyConflict", err)
		}
		if _, err := s.orders.Start(t.Context(), OrderRequest{}); !errors.Is(err, cruster.ErrInvalid) {
			t.Errorf("an empty CrusterKey: %v, want ErrInvalid", err)
		}
		synctest.Wait()
		if runs.Load() != 4 {
			t.Errorf("%d executions ran, want 4", runs.Load())
		}
	})
}

func TestClientsOfAWorkflowKnownByTypeOrName(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &Order{body: func(_ *cruster.WorkflowContext, r OrderRequest) (OrderResult, error) {
			return OrderResult{Log: r.OrderID}, nil
		}}
		s := open(t, nil, o, nil)
		byType, err := cruster.WorkflowClientOf(s.svc, (*Order).Execute)
		if err != nil {
			t.Fatal(err)
		}
		byName, err := cruster.NewWorkflowClient[OrderRequest, OrderResult](s.svc, "order")
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range []cruster.WorkflowClient[OrderRequest, OrderResult]{byType, byName} {
			key := fmt.Sprint("o-", i)
			if res, err := c.Execute(t.Context(), OrderRequest{OrderID: key}); err != nil || res.Log != key {
				t.Errorf("Execute = %v, %v", res, err)
			}
			if x, _, err := c.Describe(t.Context(), key); err != nil || x.Status != crustertype.StatusCompleted {
				t.Errorf("Describe(%q) = %v, %v", key, x.Status, err)
			}
		}
		if _, err := cruster.WorkflowClientOf(s.svc, func(*Order, *cruster.WorkflowContext, OrderRequest) (OrderResult, error) {
			return OrderResult{}, nil
		}); !errors.Is(err, cruster.ErrInvalid) {
			t.Errorf("a closure is taken for a workflow: %v", err)
		}
		var zero cruster.WorkflowClient[string, string]
		if _, err := zero.Start(t.Context(), ""); !errors.Is(err, cruster.ErrInvalid) {
			t.Errorf("the zero client: %v, want ErrInvalid", err)
		}
		if _, err := s.orders.Join(t.Context(), "nothing"); !errors.Is(err, cruster.ErrNotFound) {
			t.Errorf("Join of an unknown ID = %v, want ErrNotFound", err)
		}
	})
}

func TestStartCommitsWithTheActivity(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		store, err := sqlite.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		var ran notes
		other := &Other{body: func(_ *cruster.WorkflowContext, req string) error { ran.add(req); return nil }}
		var s *shop
		o := &Order{charge: func(ctx context.Context, _ int) (string, error) {
			if _, err := cruster.Tx(ctx).Exec(ctx, `CREATE TABLE IF NOT EXISTS t (x TEXT)`); err != nil {
				return "", err
			}
			if _, err := s.others.Execute(ctx, "awaited"); !errors.Is(err, cruster.ErrTxOpen) {
				return "", fmt.Errorf("execute with an open transaction = %v, want ErrTxOpen", err)
			}
			attempt := fmt.Sprint("attempt ", cruster.Attempt(ctx))
			if _, err := s.others.WithKey(attempt).Start(ctx, attempt); err != nil {
				return "", err
			}
			if cruster.Attempt(ctx) < 2 {
				return "", errors.New("once more")
			}
			return "", nil
		}}
		o.body = func(wf *cruster.WorkflowContext, _ OrderRequest) (OrderResult, error) {
			_, err := cruster.Do(wf, (*Order).Charge, 1)
			return OrderResult{}, err
		}
		s = open(t, store, o, other)
		if _, err := s.orders.Execute(t.Context(), OrderRequest{OrderID: "o-1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := ran.String(); got != "attempt 2" {
			t.Errorf("started were %q, want what the successful attempt started", got)
		}
	})
}

func TestStartCommitsWithTheHandler(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		svc, err := cruster.New(cruster.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		var ran notes
		others, err := cruster.RegisterWorkflowErr(svc, &Other{body: func(_ *cruster.WorkflowContext, req string) error { ran.add(req); return nil }})
		if err != nil {
			t.Fatal(err)
		}
		benches, err := cruster.Register(svc, &Bench{do: func(ctx context.Context, s string) (string, error) {
			if _, err := others.Start(ctx, s); err != nil {
				return "", err
			}
			if s == "bad" {
				return "", errors.New("bad")
			}
			return s, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := svc.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer stop(t, svc)
		for _, s := range []string{"bad", "good"} {
			_, err := cruster.Call(t.Context(), benches.Entity("1"), (*Bench).Write, Text{s})
			if (err == nil) != (s == "good") {
				t.Errorf("%s: %v", s, err)
			}
			_, _ = cruster.Call(t.Context(), benches.Entity("1"), (*Bench).Read, Text{s})
		}
		time.Sleep(time.Second)
		if got := ran.String(); got != "good,good" {
			t.Errorf("started were %q, want those of the handlers that succeeded", got)
		}
	})
}

func TestActivityContextEndsAtTimeoutAndCancel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var ends []error
		o := &Order{charge: func(ctx context.Context, _ int) (string, error) {
			<-ctx.Done()
			ends = append(ends, ctx.Err())
			return "", ctx.Err()
		}}
		o.body = func(wf *cruster.WorkflowContext, _ OrderRequest) (OrderResult, error) {
			_, err := cruster.Do(wf, (*Order).Charge, 1, cruster.Retries(0), cruster.Timeout(time.Second))
			if !errors.Is(err, cruster.ErrTimeout) {
				t.Errorf("an attempt past its timeout = %v, want ErrTimeout", err)
			}
			_, err = cruster.Do(wf, (*Order).Charge, 1, cruster.Timeout(time.Hour))
			return OrderResult{}, err
		}
		s := open(t, nil, o, nil)
		id, err := s.orders.Start(t.Context(), OrderRequest{OrderID: "o-1"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := s.orders.Cancel(t.Context(), id, "stop"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.orders.Join(t.Context(), id); !errors.Is(err, cruster.ErrCancelled) {
			t.Errorf("Join = %v, want ErrCancelled", err)
		}
		if len(ends) != 2 || !errors.Is(ends[0], context.DeadlineExceeded) || !errors.Is(ends[1], context.Canceled) {
			t.Errorf("the contexts ended with %v", ends)
		}
	})
}

func TestWorkflowLoggerIsSilentWhileReplaying(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log bytes.Buffer
		svc, err := cruster.New(cruster.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		others, err := cruster.RegisterWorkflowErr(svc, &Other{body: func(wf *cruster.WorkflowContext, _ string) error {
			wf.Logger().Info("begins")
			err := cruster.Sleep(wf, time.Hour)
			wf.Logger().Info("woke")
			return err
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := svc.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := others.Execute(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		stop(t, svc)
		if a, b := strings.Count(log.String(), "begins"), strings.Count(log.String(), "woke"); a != 1 || b != 1 {
			t.Errorf("logged %d and %d times, want once each:\n%s", a, b, log.String())
		}
	})
}

func TestChangedResultTypeParksTheExecution(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		store := memory.New()
		defer store.Close()
		number := false
		other := &Other{body: func(wf *cruster.WorkflowContext, _ string) error {
			var err error
			if number {
				_, err = cruster.Step(wf, "read", func(context.Context) (int, error) { return 1, nil })
			} else {
				_, err = cruster.Step(wf, "read", func(context.Context) (string, error) { return "one", nil })
			}
			if err != nil {
				return err
			}
			return cruster.Sleep(wf, time.Hour)
		}}
		s := open(t, store, &Order{}, other)
		id, err := s.others.Start(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop(t, s.svc)
		number = true
		s = open(t, store, &Order{}, other)
		_, err = s.others.Join(t.Context(), id)
		if !errors.Is(err, cruster.ErrParked) || !strings.Contains(err.Error(), "workflow_client_test.go:") {
			t.Errorf("Join = %v, want ErrParked with the place", err)
		}
	})
}

func TestAllJoinsTheErrors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &Order{
			charge: func(_ context.Context, n int) (string, error) {
				if n%2 == 1 {
					return "", cruster.Permanent(fmt.Errorf("odd %d", n))
				}
				return fmt.Sprint(n), nil
			},
			undo: func(context.Context, string) error { return cruster.Permanent(errors.New("undone")) },
		}
		o.body = func(wf *cruster.WorkflowContext, _ OrderRequest) (OrderResult, error) {
			var fs []cruster.Future[string]
			for n := range 4 {
				fs = append(fs, cruster.Go(wf, (*Order).Charge, n))
			}
			all, err := cruster.All(wf, fs...)
			_, undone := cruster.GoErr(wf, (*Order).Undo, "x").Get(wf)
			return OrderResult{Log: fmt.Sprintf("%q %v %v", all, strings.ReplaceAll(err.Error(), "\n", ", "), undone)}, nil
		}
		s := open(t, nil, o, nil)
		res, err := s.orders.Execute(t.Context(), OrderRequest{OrderID: "o-1"})
		if want := `["0" "" "2" ""] odd 1, odd 3 undone`; err != nil || res.Log != want {
			t.Errorf("got %s, %v, want %s", res.Log, err, want)
		}
	})
}
