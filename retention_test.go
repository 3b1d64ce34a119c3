package cruster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// Brief is a workflow that is kept for an hour only.
type Brief struct {
	_ cruster.Workflow `cruster:"brief,retention=1h"`
}

func (b *Brief) Execute(*cruster.WorkflowContext, Text) (Text, error) { return Text{}, nil }

func TestRetention(t *testing.T) {
	t.Parallel()
	var briefs, steps cruster.WorkflowClient[Text, Text]
	var benches cruster.Client[*Bench]
	crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) (err error) {
		if benches, err = cruster.Register(svc, &Bench{do: func(context.Context, string) (string, error) { return "done", nil }}); err != nil {
			return err
		}
		if briefs, err = cruster.RegisterWorkflow(svc, &Brief{}); err != nil {
			return err
		}
		steps, err = cruster.RegisterWorkflow(svc, &Lasting{})
		return err
	}}, func(t *testing.T, c *crustertest.Cluster) {
		short, err := briefs.Start(t.Context(), Text{})
		if err != nil {
			t.Fatal(err)
		}
		long, err := steps.Start(t.Context(), Text{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range [][]cruster.CallOption{nil, {cruster.Key("k")}} {
			if _, err := cruster.Call(t.Context(), benches.Entity("a"), (*Bench).Write, Text{"x"}, o...); err != nil {
				t.Fatal(err)
			}
		}
		gone := func(name, id string) bool {
			_, err := c.Storage().Execution(t.Context(), crustertype.ExecutionRef{Type: name, ID: id})
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Fatal(err)
			}
			return err != nil
		}
		c.Advance(3 * time.Hour)
		if !gone("brief", short) || gone("lasting", long) {
			t.Errorf("after 3h brief is gone: %v, lasting is gone: %v; want true and false", gone("brief", short), gone("lasting", long))
		}
		c.Advance(8 * 24 * time.Hour)
		if !gone("lasting", long) {
			t.Error("after 8 days an execution is still there: the default retention is 7 days")
		}
		msgs, _, err := c.Storage().Messages(t.Context(), storage.MessageFilter{})
		if err != nil || len(msgs) != 1 || msgs[0].Key != "k" {
			t.Errorf("after 8 days %d messages are there (%v), want the tombstone of the keyed one", len(msgs), err)
		}
		got, err := cruster.Call(t.Context(), benches.Entity("a"), (*Bench).Write, Text{"x"}, cruster.Key("k"))
		if err != nil || got.S != "done" {
			t.Errorf("call with the old key = %q, %v: the tombstone still answers", got.S, err)
		}
	})
}

// Lasting is a workflow with the default retention.
type Lasting struct {
	_ cruster.Workflow `cruster:"lasting"`
}

func (l *Lasting) Execute(*cruster.WorkflowContext, Text) (Text, error) { return Text{}, nil }
