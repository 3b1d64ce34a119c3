package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
)

// job is a cron's function that remembers its ticks and can be held up.
type job struct {
	ticks
	hold chan struct{} // nil: it does not wait
	fail error
}

func (j *job) run(ctx context.Context, tick time.Time) error {
	j.add(tick)
	if j.hold != nil {
		select {
		case <-j.hold:
		case <-ctx.Done():
		}
	}
	return j.fail
}

func cronCluster(t *testing.T, c cruster.Cron, f func(t *testing.T, c *crustertest.Cluster, control cruster.CronControl)) {
	t.Helper()
	crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) error { return cruster.RegisterCron(svc, c) }},
		func(t *testing.T, cl *crustertest.Cluster) {
			control, err := cl.Service().Cron(c.Name)
			if err != nil {
				t.Fatal(err)
			}
			f(t, cl, control)
		})
}

func TestCronPauseAndResume(t *testing.T) {
	t.Parallel()
	var j job
	cronCluster(t, cruster.Cron{Name: "job", Schedule: "* * * * *", NextFromPrevious: true, Run: j.run}, func(t *testing.T, c *crustertest.Cluster, control cruster.CronControl) {
		c.Advance(3*time.Minute + time.Second)
		if err := control.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := control.Pause(t.Context()); err != nil {
			t.Errorf("pausing twice: %v", err)
		}
		c.Advance(time.Hour)
		if n := len(j.all()); n != 3 {
			t.Errorf("%d ticks ran, want the 3 before the pause", n)
		}
		st, err := control.Status(t.Context())
		if err != nil || !st.Paused || len(st.Next) != 0 {
			t.Errorf("status while paused: %+v, %v", st, err)
		}
		c.Restart() // the pause is stored
		if control, err = c.Service().Cron("job"); err != nil {
			t.Fatal(err)
		}
		c.Advance(10 * time.Minute)
		if n := len(j.all()); n != 3 {
			t.Errorf("%d ticks ran after a restart, want 3", n)
		}
		if err := control.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Advance(2 * time.Minute)
		if n := len(j.all()); n != 5 { // at once, and none made up for
			t.Errorf("%d ticks ran, want 5", n)
		}
	})
}

func TestCronRunNowStatusAndHistory(t *testing.T) {
	t.Parallel()
	j := job{fail: errors.New("no paper")}
	cronCluster(t, cruster.Cron{Name: "print", Schedule: "30 4 * * *", Run: j.run}, func(t *testing.T, c *crustertest.Cluster, control cruster.CronControl) {
		c.Advance(5 * time.Hour) // from midnight
		if err := control.RunNow(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Advance(time.Second)
		got := j.all()
		if len(got) != 2 || got[0] != time.Date(2000, 1, 1, 4, 30, 0, 0, time.UTC) {
			t.Fatalf("ticks %v, want the one of 4:30 and one now", got)
		}
		st, err := control.Status(t.Context())
		if err != nil || len(st.Next) != 5 || st.Next[4] != time.Date(2000, 1, 6, 4, 30, 0, 0, time.UTC) || !st.Last.Equal(got[0]) {
			t.Errorf("status: %+v, %v", st, err)
		}
		fires, err := control.History(t.Context(), 10)
		if err != nil || len(fires) != 2 {
			t.Fatalf("history: %+v, %v", fires, err)
		}
		if f := fires[1]; !f.Tick.Equal(got[0]) || f.Err != "no paper" || f.Finished.IsZero() || f.Attempts != 1 {
			t.Errorf("the first run is %+v", f)
		}
		if names := c.Service().Crons(); len(names) != 1 || names[0] != "print" {
			t.Errorf("crons %v", names)
		}
		if _, err := c.Service().Cron("other"); !errors.Is(err, cruster.ErrNotRegistered) {
			t.Errorf("control of an unknown cron: %v", err)
		}
	})
}

func TestCronCatchUpAndJitter(t *testing.T) {
	t.Parallel()
	var j job
	c := cruster.Cron{Name: "job", Schedule: "*/10 * * * *", NextFromPrevious: true, CatchUp: 3, Jitter: time.Minute, Overlap: cruster.OverlapAllow, Run: j.run}
	cronCluster(t, c, func(t *testing.T, c *crustertest.Cluster, _ cruster.CronControl) {
		c.Advance(12 * time.Minute)
		if got := j.all(); len(got) != 1 || got[0].Minute() != 10 || got[0].Second() != 0 {
			t.Errorf("the tick is %v, want that of 00:10: jitter delays, and does not change it", got)
		}
		c.Kill()
		c.Advance(2 * time.Hour)
		c.Start()
		c.Advance(time.Minute)
		if got := j.all(); len(got) != 4 {
			t.Errorf("%v ran, want the 3 newest missed ones beside the first", got)
		}
	})
}

// ledger is what crons of these tests send to.
type tally struct {
	_ cruster.Entity `cruster:"tally"`
	_ cruster.RPC    `cruster:"Add,persisted"`

	mu   sync.Mutex
	got  []string
	hold chan struct{}
}

func (l *tally) Add(ctx context.Context, what string) (int, error) {
	l.mu.Lock()
	l.got = append(l.got, cruster.EntityID(ctx)+" "+what)
	n := len(l.got)
	l.mu.Unlock()
	if l.hold != nil {
		select {
		case <-l.hold:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return n, nil
}

func (l *tally) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.got...)
}

func TestCronSendsToAnEntity(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		overlap cruster.Overlap
		want    int // calls begun or waiting while the first does not end
	}{
		"allow": {cruster.OverlapAllow, 5}, "queue one": {cruster.OverlapQueueOne, 2}, "skip": {cruster.OverlapSkip, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &tally{}
			crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) error {
				l.hold = make(chan struct{}) // in the bubble
				ledgers, err := cruster.Register(svc, l)
				if err != nil {
					return err
				}
				return cruster.RegisterCron(svc, cruster.Cron{
					Name: "report", Schedule: "* * * * *", Overlap: tt.overlap,
					Send: cruster.CronCall(ledgers.Entity("main"), (*tally).Add, func(tick time.Time) string { return tick.Format("15:04") }),
				})
			}}, func(t *testing.T, c *crustertest.Cluster) {
				c.Advance(5*time.Minute + time.Second)
				close(l.hold)
				c.Advance(time.Second)
				if got := l.all(); len(got) != tt.want || got[0] != "main 00:01" {
					t.Errorf("%v, want %d calls", got, tt.want)
				}
				c.Advance(time.Minute)
				if got := l.all(); len(got) != tt.want+1 {
					t.Errorf("%v, want %d calls: what has ended is in nobody's way", got, tt.want+1)
				}
			})
		})
	}
}

type report struct {
	_ cruster.Workflow `cruster:"report"`
	l *tally
}

func (w *report) Execute(wf *cruster.WorkflowContext, day string) (string, error) {
	_, err := cruster.Step(wf, "note", func(context.Context) (string, error) {
		w.l.mu.Lock()
		defer w.l.mu.Unlock()
		w.l.got = append(w.l.got, wf.ExecutionID())
		return "", nil
	})
	if err == nil {
		err = cruster.Sleep(wf, 90*time.Second)
	}
	return day, err
}

func TestCronStartsAWorkflow(t *testing.T) {
	t.Parallel()
	l := &tally{}
	var reports cruster.WorkflowClient[string, string]
	crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) (err error) {
		if reports, err = cruster.RegisterWorkflow(svc, &report{l: l}); err != nil {
			return err
		}
		return cruster.RegisterCron(svc, cruster.Cron{
			Name: "daily", Schedule: "* * * * *", Overlap: cruster.OverlapSkip,
			Send: cruster.CronStart(reports, func(tick time.Time) string { return tick.Format("15:04") }),
		})
	}}, func(t *testing.T, c *crustertest.Cluster) {
		c.Advance(2*time.Minute + time.Second) // the second tick finds the first execution running
		c.Restart()
		c.Advance(4 * time.Minute)
		got := l.all()
		if len(got) != 3 || got[0] != "daily@2000-01-01T00:01:00Z" || got[1] != "daily@2000-01-01T00:03:00Z" {
			t.Fatalf("executions %v, want one every other minute", got)
		}
		out, err := reports.Join(t.Context(), got[0])
		if err != nil || out != "00:01" {
			t.Errorf("outcome %q, %v", out, err)
		}
	})
}

func TestCronMayHaveOneBody(t *testing.T) {
	t.Parallel()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ledgers, err := cruster.Register(svc, &tally{})
	if err != nil {
		t.Fatal(err)
	}
	err = cruster.RegisterCron(svc, cruster.Cron{
		Name: "two", Schedule: "@daily", Run: func(context.Context, time.Time) error { return nil },
		Send: cruster.CronCall(ledgers.Entity("x"), (*tally).Add, func(time.Time) string { return "" }),
	})
	if err == nil || !strings.Contains(err.Error(), "one of them") {
		t.Errorf("RegisterCron = %v", err)
	}
}

// A cron can start a workflow at its ticks, and be looked at and paused.
func ExampleCronStart() {
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		panic(err)
	}
	reports, err := cruster.RegisterWorkflow(svc, &report{l: &tally{}})
	if err != nil {
		panic(err)
	}
	err = cruster.RegisterCron(svc, cruster.Cron{
		Name: "daily-report", Schedule: "30 6 * * *", TimeZone: time.UTC,
		Send: cruster.CronStart(reports, func(tick time.Time) string { return tick.Format(time.DateOnly) }),
	})
	if err != nil {
		panic(err)
	}
	if err := svc.Start(context.Background()); err != nil {
		panic(err)
	}
	defer func() { _ = svc.Shutdown(context.Background()) }()
	control, err := svc.Cron("daily-report")
	if err != nil {
		panic(err)
	}
	st, err := control.Status(context.Background())
	fmt.Println(st.Describe, len(st.Next), err)
	// Output: at 06:30 every day 5 <nil>
}
