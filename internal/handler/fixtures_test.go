package handler_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"

	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/handler/internal/cruster"
)

// markers as the root package would pass them.
var markers = handler.Markers{
	Entity:          reflect.TypeFor[cruster.Entity](),
	RPC:             reflect.TypeFor[cruster.RPC](),
	Workflow:        reflect.TypeFor[cruster.Workflow](),
	Activity:        reflect.TypeFor[cruster.Activity](),
	WorkflowContext: reflect.TypeFor[*cruster.WorkflowContext](),
	CheckType: func(t reflect.Type) error {
		if t.Kind() == reflect.Chan || t.Kind() == reflect.Func {
			return fmt.Errorf("%s holds a %s", t, t.Kind())
		}
		return nil
	},
}

type (
	AddRequest struct{ Amount int64 }
	Empty      struct{}
	Entry      struct{ Text string }
)

var errNegative = errors.New("negative amount")

// CounterAPI is the contract of Counter.
type CounterAPI interface {
	Add(context.Context, AddRequest) (int64, error)
	Reset(context.Context, Empty) error
	List(context.Context, AddRequest) iter.Seq2[int64, error]
}

// Counter has all shapes, a group by value and one by pointer.
type Counter struct {
	_ cruster.Entity `cruster:"counter,concurrency=0,mailbox=100,idle=60s,shard_group=hot"`
	_ cruster.RPC    `cruster:"Add,persisted,retries=2,timeout=1s"`
	_ cruster.RPC    `cruster:"Reset,protected"`
	_ cruster.RPC    `cruster:"Local,private"`
	Auditable
	*Health
	Plain
	sum int64
}

func (c *Counter) Add(_ context.Context, req AddRequest) (int64, error) {
	if req.Amount < 0 {
		return c.sum, errNegative
	}
	c.sum += req.Amount
	return c.sum, nil
}

func (c *Counter) Reset(context.Context, Empty) error { c.sum = 0; return nil }

// List has a value receiver: its pointer version is made by the compiler.
func (c Counter) List(_ context.Context, req AddRequest) iter.Seq2[int64, error] {
	if req.Amount < 0 {
		return nil
	}
	return func(yield func(int64, error) bool) {
		for i := range req.Amount {
			if !yield(i, nil) {
				return
			}
		}
		yield(0, errNegative)
	}
}

func (c *Counter) Local(ctx context.Context, a, b int) int { return a + b }
func (c *Counter) Sum() int64                              { return c.sum }
func (c *Counter) Pointer(_ context.Context, in *AddRequest) (*Entry, error) {
	return &Entry{fmt.Sprint(in)}, nil
}
func (c *Counter) hidden(context.Context, Empty) error { return nil }

// Auditable is an RPC group.
type Auditable struct {
	_   cruster.RPC `cruster:"Log,persisted"`
	log []string
}

func (a *Auditable) Log(_ context.Context, e Entry) (int, error) {
	a.log = append(a.log, e.Text)
	return len(a.log), nil
}

func (a Auditable) Logged(context.Context, Empty) ([]string, error) { return a.log, nil }

// Health is a group without tags, used by pointer.
type Health struct {
	_  cruster.RPC
	ok bool
}

func (h *Health) Ping(context.Context, Empty) (bool, error) { return h.ok, nil }

// Plain is embedded but no group.
type Plain struct{}

func (*Plain) Secret(context.Context, Empty) error { return nil }

func newCounter() *Counter { return &Counter{Health: &Health{ok: true}} }

// OrderWorkflow has an activity of its own and nested groups.
type OrderWorkflow struct {
	_ cruster.Workflow `cruster:"order,hash=false,timeout=-1,retention=24h"`
	_ cruster.Activity `cruster:"Charge,retries=3,backoff=constant,initial=1s,max=10s,timeout=10s"`
	Stock
}

func (w *OrderWorkflow) Execute(wf *cruster.WorkflowContext, req AddRequest) (Entry, error) {
	return Entry{wf.Name + fmt.Sprint(req.Amount)}, nil
}

func (w *OrderWorkflow) Charge(context.Context, AddRequest) (string, error) { return "paid", nil }
func (w *OrderWorkflow) Step(*cruster.WorkflowContext, AddRequest) error    { return nil }

// Stock is an activity group that embeds another.
type Stock struct {
	_ cruster.Activity
	Inventory
}

func (s *Stock) Release(context.Context, Entry) error { return nil }

// Inventory is an activity group.
type Inventory struct {
	_ cruster.Activity `cruster:"Reserve,retries=1"`
	n int
}

func (i *Inventory) Reserve(context.Context, AddRequest) (Entry, error) {
	i.n++
	return Entry{fmt.Sprint(i.n)}, nil
}

// Other is another entity.
type Other struct {
	_ cruster.Entity
}

func (*Other) Add(context.Context, AddRequest) (int64, error) { return 0, nil }

type contextType = context.Context
