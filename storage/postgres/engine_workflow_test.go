package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
)

// TestEngineWorkflow has plain activities and some that write, retries,
// parallel activities and a durable sleep.
func TestEngineWorkflow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const wide = 5
	var flaky atomic.Int64
	here, together := make(chan struct{}, wide), make(chan struct{})
	job := &Job{act: func(ctx context.Context, s string) (string, error) {
		switch {
		case s == "flaky":
			if err := f.effect(ctx, s); err != nil {
				return "", err
			}
			if flaky.Add(1) < 3 {
				return "", errors.New("not yet") // takes the effect back
			}
		case strings.HasPrefix(s, "parallel"):
			if err := f.effect(ctx, s); err != nil {
				return "", err
			}
			here <- struct{}{}
			select {
			case <-together: // all of them have written and none has committed
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
		return s + "!", nil
	}}
	job.run = func(wf *cruster.WorkflowContext, in string) (string, error) {
		plain, err := cruster.Do(wf, (*Job).Act, in)
		if err != nil {
			return "", err
		}
		retried, err := cruster.Do(wf, (*Job).Flaky, "flaky")
		if err != nil {
			return "", err
		}
		var futures []cruster.Future[string]
		for i := range wide {
			futures = append(futures, cruster.Go(wf, (*Job).Act, fmt.Sprint("parallel ", i)))
		}
		all, err := cruster.All(wf, futures...)
		if err != nil {
			return "", err
		}
		begin := wf.Now()
		if err := cruster.Sleep(wf, 50*time.Millisecond); err != nil {
			return "", err
		}
		if slept := wf.Now().Sub(begin); slept < 50*time.Millisecond {
			return "", fmt.Errorf("slept for %v", slept)
		}
		return fmt.Sprint(plain, retried, len(all)), nil
	}
	p := serve(t, f, nil, job)
	if _, err := p.jobs.WithRawKey("w").Start(t.Context(), "plain"); err != nil {
		t.Fatal(err)
	}
	for range wide {
		receive(t, here, "activities that run at a time")
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.effect WHERE what LIKE 'parallel%'")); n != 0 {
		t.Errorf("%d effects are seen before their commit", n)
	}
	close(together)
	got, err := p.jobs.Join(t.Context(), "w")
	if want := "plain!flaky!5"; err != nil || got != want {
		t.Fatalf("Join() = %q, %v, want %q", got, err, want)
	}
	if n := f.effects(t, "flaky"); n != 1 || flaky.Load() != 3 {
		t.Errorf("%d effects of %d attempts, want 1 of 3", n, flaky.Load())
	}
	for i := range wide {
		if n := f.effects(t, fmt.Sprint("parallel ", i)); n != 1 {
			t.Errorf("parallel activity %d has %d effects, want 1", i, n)
		}
	}
	_, steps, err := p.jobs.Describe(t.Context(), "w")
	if err != nil || len(steps) != wide+3 {
		t.Errorf("Describe() lists %d steps, %v; want %d", len(steps), err, wide+3)
	}
}

// TestEngineSuspends waits longer than a workflow stays in memory.
func TestEngineSuspends(t *testing.T) {
	t.Parallel()
	f := setup(t)
	job := &Job{run: func(wf *cruster.WorkflowContext, in string) (string, error) {
		if _, err := cruster.Do(wf, (*Job).Act, "before "+in); err != nil {
			return "", err
		}
		d := 300 * time.Millisecond
		if in == "cancelled" {
			d = time.Hour
		}
		if err := cruster.Sleep(wf, d); err != nil {
			return "", err
		}
		return cruster.Do(wf, (*Job).Act, "after "+in)
	}}
	job.act = func(ctx context.Context, s string) (string, error) { return s, f.effect(ctx, s) }
	p := serve(t, f, nil, job, func(c *cruster.Config) { c.SuspendAfter = time.Millisecond })
	for _, in := range []string{"woken", "cancelled"} {
		begin := time.Now()
		if _, err := p.jobs.WithRawKey(in).Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		f.soon(t, f.in("SELECT 1 FROM @.execution WHERE id = $1 AND (status = 2 OR status = 3 AND id = 'woken')"), in)
		want, fail := int64(1), error(nil)
		if in == "cancelled" {
			if err := p.jobs.Cancel(t.Context(), in, "enough"); err != nil {
				t.Fatal(err)
			}
			want, fail = 0, cruster.ErrCancelled
		}
		if _, err := p.jobs.Join(t.Context(), in); !errors.Is(err, fail) {
			t.Errorf("%s: Join() = %v, want %v", in, err, fail)
		}
		if took := time.Since(begin); in == "woken" && took < 300*time.Millisecond {
			t.Errorf("%s: it took %v: it did not sleep", in, took)
		}
		if n := f.effects(t, "before "+in); n != 1 {
			t.Errorf("%s: %d effects before the sleep, want 1", in, n)
		}
		if n := f.effects(t, "after "+in); n != want {
			t.Errorf("%s: %d effects after the sleep, want %d", in, n, want)
		}
	}
}

func TestEngineCancelCompensates(t *testing.T) {
	t.Parallel()
	f := setup(t)
	working := make(chan struct{})
	job := &Job{act: func(ctx context.Context, s string) (string, error) {
		if err := f.effect(ctx, s); err != nil || s != "wait" {
			return s, err
		}
		close(working)
		<-ctx.Done()
		return "", context.Cause(ctx)
	}}
	job.run = func(wf *cruster.WorkflowContext, in string) (string, error) {
		for _, s := range []string{"a", "b"} {
			if _, err := cruster.Do(wf, (*Job).Act, s); err != nil {
				return "", err
			}
			wf.OnFailure(func(wf *cruster.WorkflowContext) error {
				_, err := cruster.Do(wf, (*Job).Act, "undo "+s)
				return err
			})
		}
		return cruster.Do(wf, (*Job).Act, "wait")
	}
	p := serve(t, f, nil, job)
	if _, err := p.jobs.WithRawKey("c").Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	receive(t, working, "the activity")
	if err := p.jobs.Cancel(t.Context(), "c", "changed my mind"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.jobs.Join(t.Context(), "c"); !errors.Is(err, cruster.ErrCancelled) || !strings.Contains(err.Error(), "changed my mind") {
		t.Errorf("Join() = %v, want ErrCancelled with the reason", err)
	}
	for s, want := range map[string]int64{"a": 1, "b": 1, "undo a": 1, "undo b": 1, "wait": 0} {
		if n := f.effects(t, s); n != want {
			t.Errorf("%d effects %q, want %d", n, s, want)
		}
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.execution WHERE id = 'c' AND status = 5")); n != 1 {
		t.Error("the execution is not recorded as cancelled")
	}
}

// TestEngineRestart stops a service amid a workflow and a request; the next one
// goes on with both.
func TestEngineRestart(t *testing.T) {
	t.Parallel()
	f := setup(t)
	started := make(chan string, 10)
	var second atomic.Bool // the second service is up
	work := func(ctx context.Context, s string) (string, error) {
		if err := f.effect(ctx, s); err != nil {
			return "", err
		}
		if s == "first" || second.Load() {
			return s, nil
		}
		started <- s
		<-ctx.Done() // the shutdown
		return "", context.Cause(ctx)
	}
	program := func() *program {
		return serve(t, f, &Desk{do: work}, &Job{act: work, run: func(wf *cruster.WorkflowContext, _ string) (string, error) {
			for _, s := range []string{"first", "second"} {
				if _, err := cruster.Do(wf, (*Job).Act, s); err != nil {
					return "", err
				}
			}
			return "done", nil
		}})
	}
	p := program()
	if err := cruster.Notify(t.Context(), p.desks.Entity("a"), (*Desk).Write, "request", cruster.Key("r")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.jobs.WithRawKey("j").Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		receive(t, started, "request and activity")
	}
	p.stop(t)
	second.Store(true)
	f.Store, f.pool = f.open(t) // as another process would
	p = program()
	if got, err := p.jobs.Join(t.Context(), "j"); err != nil || got != "done" {
		t.Errorf("Join() = %q, %v", got, err)
	}
	if got, err := cruster.Call(t.Context(), p.desks.Entity("a"), (*Desk).Write, "request", cruster.Key("r")); err != nil || got != "request" {
		t.Errorf("the request = %q, %v", got, err)
	}
	for _, s := range []string{"first", "second", "request"} {
		if n := f.effects(t, s); n != 1 {
			t.Errorf("%d effects %q, want 1", n, s)
		}
	}
}
