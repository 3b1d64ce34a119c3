package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

type OrderRequest struct {
	OrderID string
	Amount  int
}

func (r OrderRequest) CrusterKey() string { return r.OrderID }

type OrderResult struct{ Log string }

// Inventory is an activity group.
type Inventory struct {
	_ cruster.Activity `cruster:"Reserve,retries=2,initial=1s"`

	reserve func(ctx context.Context, item string) (string, error)
}

func (i *Inventory) Reserve(ctx context.Context, item string) (string, error) {
	return i.reserve(ctx, item)
}

// Order is a workflow whose code each test supplies.
type Order struct {
	_ cruster.Workflow `cruster:"order,hash=false"`
	_ cruster.Activity `cruster:"Charge,retries=3,backoff=constant,initial=2s,timeout=10s"`
	Inventory

	body   func(wf *cruster.WorkflowContext, req OrderRequest) (OrderResult, error)
	charge func(ctx context.Context, amount int) (string, error)
	undo   func(ctx context.Context, what string) error
}

func (o *Order) Execute(wf *cruster.WorkflowContext, req OrderRequest) (OrderResult, error) {
	return o.body(wf, req)
}

func (o *Order) Charge(ctx context.Context, amount int) (string, error) { return o.charge(ctx, amount) }
func (o *Order) Undo(ctx context.Context, what string) error            { return o.undo(ctx, what) }

// Other is another workflow, without a result.
type Other struct {
	_ cruster.Workflow `cruster:"other"`

	body func(wf *cruster.WorkflowContext, req string) error
}

func (o *Other) Execute(wf *cruster.WorkflowContext, req string) error { return o.body(wf, req) }
func (o *Other) Stray(context.Context, int) (string, error)            { return "", nil }

// shop is a service with both workflows.
type shop struct {
	svc    *cruster.Service
	orders cruster.WorkflowClient[OrderRequest, OrderResult]
	others cruster.WorkflowClient[string, struct{}]
}

func open(t *testing.T, store storage.Store, o *Order, other *Other) *shop {
	t.Helper()
	svc, err := cruster.New(cruster.Config{Storage: store, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{svc: svc}
	if s.orders, err = cruster.RegisterWorkflow(svc, o); err != nil {
		t.Fatal(err)
	}
	if other == nil {
		other = &Other{body: func(*cruster.WorkflowContext, string) error { return nil }}
	}
	if s.others, err = cruster.RegisterWorkflowErr(svc, other); err != nil {
		t.Fatal(err)
	}
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Shutdown(context.WithoutCancel(t.Context())) })
	return s
}

// notes are made by executions that run at the same time.
type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) add(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, s)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.list, ",")
}

func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestWorkflowRunsActivities(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		reserved, charged := 0, 0
		o := &Order{charge: func(_ context.Context, n int) (string, error) { charged++; return fmt.Sprint("charged ", n), nil }}
		o.reserve = func(ctx context.Context, item string) (string, error) {
			if reserved++; reserved < 3 {
				return "", errors.New("busy")
			}
			if got := cruster.Attempt(ctx); got != 3 {
				t.Errorf("Attempt = %d, want 3", got)
			}
			return "res-" + item, nil
		}
		o.body = func(wf *cruster.WorkflowContext, req OrderRequest) (OrderResult, error) {
			res, err := cruster.Do(wf, (*Inventory).Reserve, "book") // the group's own expression
			if err != nil {
				return OrderResult{}, err
			}
			begin := wf.Now()
			if err := cruster.Sleep(wf, 8*time.Hour); err != nil {
				return OrderResult{}, err
			}
			tx, err := cruster.Do(wf, (*Order).Charge, req.Amount)
			return OrderResult{Log: res + ", " + tx + " after " + wf.Now().Sub(begin).Truncate(time.Hour).String()}, err
		}
		s := open(t, nil, o, nil)
		res, err := s.orders.Execute(t.Context(), OrderRequest{OrderID: "o-1", Amount: 5})
		if want := "res-book, charged 5 after 8h0m0s"; err != nil || res.Log != want {
			t.Fatalf("Execute = %q, %v, want %q", res.Log, err, want)
		}
		again, err := s.orders.Execute(t.Context(), OrderRequest{OrderID: "o-1", Amount: 5})
		if err != nil || again != res || charged != 1 {
			t.Errorf("same key again = %v, %v after %d charges, want the same outcome", again, err, charged)
		}
		if _, err = s.orders.Execute(t.Context(), OrderRequest{OrderID: "o-1", Amount: 6}); !errors.Is(err, cruster.ErrKeyConflict) {
			t.Errorf("same key, other body = %v, want ErrKeyConflict", err)
		}
		if out, done, err := s.orders.Poll(t.Context(), "o-1"); !done || err != nil || out != res {
			t.Errorf("Poll = %v, %t, %v", out, done, err)
		}
	})
}

func TestWorkflowGoesOnAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		store, charged := memory.New(), 0
		defer store.Close()
		o := &Order{charge: func(context.Context, int) (string, error) { charged++; return "ok", nil }}
		o.body = func(wf *cruster.WorkflowContext, req OrderRequest) (OrderResult, error) {
			for range 3 {
				if _, err := cruster.Do(wf, (*Order).Charge, req.Amount); err != nil {
					return OrderResult{}, err
				}
				if err := cruster.Sleep(wf, 30*time.Second); err != nil {
					return OrderResult{}, err
				}
			}
			return OrderResult{Log: "done"}, nil
		}
		s := open(t, store, o, nil)
		id, err := s.orders.Start(t.Context(), OrderRequest{OrderID: "o-1", Amount: 5})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Second)
		if err := s.svc.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		s = open(t, store, o, nil)
		if res, err := s.orders.Join(t.Context(), id); err != nil || res.Log != "done" || charged != 3 {
			t.Errorf("Join = %v, %v after %d charges, want done after 3", res, err, charged)
		}
	})
}

func TestWorkflowCancelCompensates(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var undone []string
		o := &Order{undo: func(_ context.Context, what string) error { undone = append(undone, what); return nil }}
		o.body = func(wf *cruster.WorkflowContext, _ OrderRequest) (OrderResult, error) {
			for _, what := range []string{"a", "b"} {
				wf.OnFailure(func(wf *cruster.WorkflowContext) error { return cruster.DoErr(wf, (*Order).Undo, what) })
			}
			err := cruster.Sleep(wf, time.Hour)
			if !wf.Cancelled() {
				t.Error("Cancelled() = false after a cancelled sleep")
			}
			return OrderResult{}, err
		}
		s := open(t, nil, o, nil)
		id, err := s.orders.Start(t.Context(), OrderRequest{OrderID: "o-1"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := s.orders.Cancel(t.Context(), id, "changed my mind"); err != nil {
			t.Fatal(err)
		}
		_, err = s.orders.Join(t.Context(), id)
		if !errors.Is(err, cruster.ErrCancelled) || !strings.Contains(err.Error(), "changed my mind") {
			t.Errorf("Join = %v, want ErrCancelled with the reason", err)
		}
		if got := strings.Join(undone, ""); got != "ba" {
			t.Errorf("compensations ran as %q, want ba: the last first", got)
		}
	})
}

func TestWorkflowStartsOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var ran notes
		other := &Other{body: func(wf *cruster.WorkflowContext, req string) error {
			if err := cruster.Sleep(wf, time.Second); err != nil {
				return err
			}
			ran.add(req)
			if req == "bad" {
				return errors.New("child failed")
			}
			return nil
		}}
		o := &Order{}
		var s *shop
		o.body = func(wf *cruster.WorkflowContext, _ OrderRequest) (OrderResult, error) {
			id, err := s.others.Start(wf, "started")
			if err != nil {
				return OrderResult{}, err
			}
			if _, err := s.others.Execute(wf, "executed"); err != nil {
				return OrderResult{}, err
			}
			if _, err := s.others.WithKey("k").Execute(wf, "bad"); err == nil || err.Error() != "child failed" {
				return OrderResult{}, fmt.Errorf("bad child = %v", err)
			}
			_, err = s.others.Join(wf, id)
			return OrderResult{Log: fmt.Sprint(len(id))}, err
		}
		s = open(t, nil, o, other)
		res, err := s.orders.Execute(t.Context(), OrderRequest{OrderID: "o-1"})
		if err != nil || res.Log != "36" || strings.Count(ran.String(), ",") != 2 {
			t.Errorf("Execute = %v, %v; children ran: %v", res, err, &ran)
		}
	})
}

func TestWorkflowRefusesForeignActivities(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &Order{charge: func(context.Context, int) (string, error) { return "", nil }}
		errs := map[string]error{}
		o.body = func(wf *cruster.WorkflowContext, _ OrderRequest) (OrderResult, error) {
			_, errs["foreign"] = cruster.Do(wf, (*Other).Stray, 1)
			_, errs["closure"] = cruster.Do(wf, func(o *Order, ctx context.Context, n int) (string, error) { return o.Charge(ctx, n) }, 1)
			done := make(chan error)
			go func() {
				_, err := cruster.Do(wf, (*Order).Charge, 1)
				done <- err
			}()
			errs["goroutine"] = <-done
			_, errs["nested"] = cruster.Step(wf, "outer", func(context.Context) (int, error) {
				return cruster.Step(wf, "inner", func(context.Context) (int, error) { return 1, nil })
			})
			return OrderResult{}, nil
		}
		s := open(t, nil, o, nil)
		if _, err := s.orders.Execute(t.Context(), OrderRequest{OrderID: "o-1"}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"foreign": "is a method of *cruster_test.Other", "closure": "closure", "goroutine": "another goroutine", "nested": "do not nest"} {
			if err := errs[name]; !errors.Is(err, cruster.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want ErrInvalid with %q", name, err, want)
			}
		}
	})
}

func TestWorkflowFutures(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &Order{charge: func(ctx context.Context, n int) (string, error) {
			select {
			case <-time.After(time.Duration(n) * time.Second):
				return fmt.Sprint(n), nil
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}}
		o.body = func(wf *cruster.WorkflowContext, _ OrderRequest) (OrderResult, error) {
			slow, fast := cruster.Go(wf, (*Order).Charge, 5), cruster.Go(wf, (*Order).Charge, 1)
			i, first, err := cruster.Any(wf, slow, fast)
			if err != nil {
				return OrderResult{}, err
			}
			j, err := cruster.Select(wf, slow, cruster.Timer(wf, time.Second))
			if err != nil {
				return OrderResult{}, err
			}
			all, err := cruster.All(wf, slow, fast)
			return OrderResult{Log: fmt.Sprint(i, first, j, all)}, err
		}
		s := open(t, nil, o, nil)
		res, err := s.orders.Execute(t.Context(), OrderRequest{OrderID: "o-1"})
		if want := "111 [5 1]"; err != nil || res.Log != want {
			t.Errorf("Execute = %q, %v, want %q", res.Log, err, want)
		}
	})
}

func TestWorkflowCallsEntities(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		calls := 0
		svc, err := cruster.New(cruster.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		benches, err := cruster.Register(svc, &Bench{do: func(_ context.Context, s string) (string, error) {
			calls++
			return s + "!", nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		orders, err := cruster.RegisterWorkflow(svc, &Order{body: func(wf *cruster.WorkflowContext, _ OrderRequest) (OrderResult, error) {
			a, err := cruster.Call(wf, benches.Entity("1"), (*Bench).Write, Text{"hi"})
			if err != nil {
				return OrderResult{}, err
			}
			b, err := cruster.Call(wf, benches.Entity("1"), (*Bench).Read, Text{"ho"})
			if err != nil {
				return OrderResult{}, err
			}
			return OrderResult{Log: a.S + b.S}, cruster.Notify(wf, benches.Entity("1"), (*Bench).Write, Text{"bye"})
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := svc.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		res, err := orders.Execute(t.Context(), OrderRequest{OrderID: "o-1"})
		if err != nil || res.Log != "hi!ho!" {
			t.Errorf("Execute = %v, %v", res, err)
		}
		synctest.Wait()
		if calls != 3 {
			t.Errorf("the entity was called %d times, want 3", calls)
		}
		if err := svc.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
