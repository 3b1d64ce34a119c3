package cruster_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
)

// Letters is a workflow whose steps send, in a transaction and without one.
type Letters struct {
	_  cruster.Workflow `cruster:"letters"`
	to cruster.Ref[*Bench]
}

func (w *Letters) Execute(wf *cruster.WorkflowContext, n int) (int, error) {
	for i := range n {
		step := (*Letters).Plain
		if i%2 == 0 {
			step = (*Letters).Writing
		}
		if _, err := cruster.Do(wf, step, Text{fmt.Sprint(i)}); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (w *Letters) Plain(ctx context.Context, t Text) (Text, error) {
	return t, cruster.Notify(ctx, w.to, (*Bench).Write, t)
}

func (w *Letters) Writing(ctx context.Context, t Text) (Text, error) {
	if err := effect(ctx, t.S); err != nil {
		return t, err
	}
	return w.Plain(ctx, t)
}

// TestSendsOfStepsKeepTheirOrder lets steps with and without a transaction of
// their own send to one entity: it sees the order of the steps.
func TestSendsOfStepsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	var letters cruster.WorkflowClient[int, int]
	var mu sync.Mutex
	var got, want []string
	crustertest.Run(t, crustertest.Options{Storage: effectStore, Setup: func(svc *cruster.Service) error {
		boxes, err := cruster.Register(svc, &Bench{do: func(_ context.Context, s string) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, s)
			return "", nil
		}})
		if err != nil {
			return err
		}
		letters, err = cruster.RegisterWorkflow(svc, &Letters{to: boxes.Entity("box")})
		return err
	}}, func(t *testing.T, c *crustertest.Cluster) {
		const n = 40
		if _, err := letters.Execute(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		c.Advance(0)
		for i := range n {
			want = append(want, fmt.Sprint(i))
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(got, want) {
			t.Errorf("the entity got %v, want the order of the steps", got)
		}
	})
}
