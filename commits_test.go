package cruster_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
	"github.com/cruster-go/cruster/storage/sqlite"
)

// Steps is a workflow of so many steps.
type Steps struct {
	_ cruster.Workflow `cruster:"steps"`
}

type StepsRequest struct {
	Plain, Writing int
}

func (w *Steps) Execute(wf *cruster.WorkflowContext, r StepsRequest) (int, error) {
	for i := range r.Plain {
		if _, err := cruster.Do(wf, (*Steps).Plain, Text{fmt.Sprint(i)}); err != nil {
			return 0, err
		}
	}
	for i := range r.Writing {
		if _, err := cruster.Do(wf, (*Steps).Write, Text{fmt.Sprint(i)}); err != nil {
			return 0, err
		}
	}
	return r.Plain + r.Writing, nil
}

func (w *Steps) Plain(_ context.Context, t Text) (Text, error)   { return t, nil }
func (w *Steps) Write(ctx context.Context, t Text) (Text, error) { return t, effect(ctx, t.S) }

// TestCommitsPerOperation holds the budget: what a step costs is a commit, and
// nothing else is.
func TestCommitsPerOperation(t *testing.T) {
	t.Parallel()
	var steps cruster.WorkflowClient[StepsRequest, int]
	var tills cruster.Client[*Bench]
	crustertest.Run(t, crustertest.Options{Storage: effectStore, Setup: func(svc *cruster.Service) (err error) {
		if tills, err = cruster.Register(svc, &Bench{do: func(ctx context.Context, s string) (string, error) {
			if s == "tx" {
				return "", effect(ctx, s)
			}
			return "", nil
		}}); err != nil {
			return err
		}
		steps, err = cruster.RegisterWorkflow(svc, &Steps{})
		return err
	}}, func(t *testing.T, c *crustertest.Cluster) {
		store := c.Storage().(*sqlite.Store)
		run := func(plain, writing int) func() error {
			return func() error {
				got, err := steps.Execute(t.Context(), StepsRequest{plain, writing})
				if err == nil && got != plain+writing {
					return fmt.Errorf("%d steps ran, want %d", got, plain+writing)
				}
				return err
			}
		}
		call := func(s string) func() error {
			return func() error {
				_, err := cruster.Call(t.Context(), tills.Entity("a"), (*Bench).Write, Text{s})
				return err
			}
		}
		for _, op := range []struct {
			name string
			do   func() error
			most int64
		}{
			{"persisted call", call(""), 2},
			{"persisted call that writes", call("tx"), 2},
			{"workflow of 1 step", run(1, 0), 3},
			{"workflow of 3 steps", run(3, 0), 5},
			{"workflow of 10 steps", run(10, 0), 12},
			{"workflow of 3 writing steps", run(0, 3), 5},
			{"workflow of 2 and 2 steps", run(2, 2), 6},
		} {
			before := store.Stats().Commits
			if err := op.do(); err != nil {
				t.Fatalf("%s: %v", op.name, err)
			}
			c.Advance(0)
			if n := store.Stats().Commits - before; n > op.most {
				t.Errorf("%s made %d commits, want at most %d", op.name, n, op.most)
			} else {
				t.Logf("%s: %d commits", op.name, n)
			}
		}
	})
}
