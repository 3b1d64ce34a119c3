package cruster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// precise is how late what is due may begin while its owner is up.
const precise = 20 * time.Millisecond

// zoned is a cron's function that remembers its ticks, in UTC, and how late it
// began for those from some time on.
type zoned struct {
	ticks
	from time.Time
	late time.Duration
}

func (z *zoned) run(_ context.Context, tick time.Time) error {
	z.add(tick.UTC())
	z.mu.Lock()
	defer z.mu.Unlock()
	if !tick.Before(z.from) {
		z.late = max(z.late, time.Since(tick))
	}
	return nil
}

// within returns the ticks of a time.
func (z *zoned) within(from, to time.Time) (list []string) {
	for _, tick := range z.all() {
		if !tick.Before(from) && tick.Before(to) {
			list = append(list, tick.Format("2T15:04"))
		}
	}
	return list
}

// instant reads a time of the year 2000, in which bubbles begin.
func instant(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04Z07:00", "2000-"+s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// sleepUntil lets the time pass while no process is up.
func sleepUntil(c *crustertest.Cluster, at time.Time) {
	c.Stop()
	c.Advance(time.Until(at))
	c.Start()
}

// TestCronOverClockChanges runs crons over whole days on which the clocks of a
// zone change. A time that is skipped is run once, at the first one that is
// there; one that is repeated is run once, the first time.
func TestCronOverClockChanges(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, zone string
		from, to   string // local midnights
		daily      string // at a time that is skipped, or comes twice
		want       []string
		hours      int // that the day has
	}{
		{"Berlin, spring", "Europe/Berlin", "03-26T00:00+01:00", "03-27T00:00+02:00", "30 2 * * *", []string{"26T01:00"}, 23},
		{"Berlin, autumn", "Europe/Berlin", "10-29T00:00+02:00", "10-30T00:00+01:00", "30 2 * * *", []string{"29T00:30"}, 25},
		{"New York, spring", "America/New_York", "04-02T00:00-05:00", "04-03T00:00-04:00", "15 2 * * *", []string{"2T07:00"}, 23},
		{"New York, autumn", "America/New_York", "10-29T00:00-04:00", "10-30T00:00-05:00", "30 1 * * *", []string{"29T05:30"}, 25},
		{"Lord Howe, spring: half an hour", "Australia/Lord_Howe", "08-27T00:00+10:30", "08-28T00:00+11:00", "15 2 * * *", []string{"26T15:30"}, 0},
		{"Lord Howe, autumn: half an hour", "Australia/Lord_Howe", "03-26T00:00+11:00", "03-27T00:00+10:30", "45 1 * * *", []string{"25T14:45"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			loc, err := time.LoadLocation(tc.zone)
			if err != nil {
				t.Fatal(err)
			}
			from, to := instant(t, tc.from), instant(t, tc.to)
			for _, restarts := range []bool{false, true} {
				daily, hourly, quarters := zoned{from: from}, zoned{from: from}, zoned{from: from}
				crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) error {
					for _, c := range []cruster.Cron{
						{Name: "daily", Schedule: tc.daily, Run: daily.run},
						{Name: "hourly", Schedule: "0 * * * *", Run: hourly.run},
						{Name: "quarters", Schedule: "*/15 * * * *", Run: quarters.run},
					} {
						c.TimeZone = loc
						if err := cruster.RegisterCron(svc, c); err != nil {
							return err
						}
					}
					return nil
				}}, func(t *testing.T, c *crustertest.Cluster) {
					sleepUntil(c, from.Add(-time.Minute))
					for time.Now().Before(to) {
						c.Advance(7 * time.Minute)
						if restarts {
							c.Restart()
						}
					}
				})
				if got := daily.within(from, to); !slices.Equal(got, tc.want) {
					t.Errorf("%q, restarts %v: ran at %v UTC, want %v", tc.daily, restarts, got, tc.want)
				}
				if got := hourly.within(from, to); tc.hours > 0 && len(got) != tc.hours {
					t.Errorf("restarts %v: %d hourly ticks %v, want one for each of the %d hours", restarts, len(got), got, tc.hours)
				}
				if got, want := quarters.within(from, to), int(to.Sub(from)/(15*time.Minute)); len(got) != want {
					t.Errorf("restarts %v: %d ticks %v, want one for each of the %d quarters of an hour that pass", restarts, len(got), got, want)
				}
				if late := max(daily.late, hourly.late, quarters.late); late > precise {
					t.Errorf("restarts %v: a tick ran %v late", restarts, late)
				}
			}
		})
	}
}

// TestCronOutagesInClockChanges lets nobody be up at the moment at which the
// clocks change.
func TestCronOutagesInClockChanges(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		eve, down, up, end string
		want               []string
	}{
		"spring: the first instant that is there": {"03-26T00:00+01:00", "03-26T01:59+01:00", "03-26T03:20+02:00", "03-27T00:00+02:00", []string{"26T01:00"}},
		"autumn: from before to between":          {"10-29T00:00+02:00", "10-29T02:10+02:00", "10-29T02:10+01:00", "10-30T00:00+01:00", []string{"29T00:30"}},
		"autumn: from between to behind":          {"10-29T00:00+02:00", "10-29T02:40+02:00", "10-29T02:40+01:00", "10-30T00:00+01:00", []string{"29T00:30"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var z zoned
			from, to := instant(t, tc.eve), instant(t, tc.end)
			crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) error {
				return cruster.RegisterCron(svc, cruster.Cron{Name: "daily", Schedule: "30 2 * * *", TimeZone: berlin, NextFromPrevious: true, CatchUp: 3, Run: z.run})
			}}, func(t *testing.T, c *crustertest.Cluster) {
				sleepUntil(c, from)
				c.Advance(time.Until(instant(t, tc.down)))
				c.Kill()
				c.Advance(time.Until(instant(t, tc.up)))
				c.Start()
				c.Advance(time.Until(to))
			})
			if got := z.within(from, to); !slices.Equal(got, tc.want) {
				t.Errorf("ran at %v UTC, want %v", got, tc.want)
			}
		})
	}
}

// TestCronAfterTheClockWasSet is what a runner finds whose clock was set while
// none was up: the newest tick that storage has is an hour ahead, or an hour
// back.
func TestCronAfterTheClockWasSet(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ahead time.Duration // of the last tick
		want  []string      // in the hour and a half behind
	}{
		"back: nothing is run twice": {time.Hour, []string{"1T04:10", "1T04:20", "1T04:30"}},
		"ahead: like an outage": {-time.Hour, []string{
			"1T03:00", "1T03:10", "1T03:20", "1T03:30", "1T03:40", "1T03:50", "1T04:00", "1T04:10", "1T04:20", "1T04:30",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var z zoned
			crustertest.Run(t, crustertest.Options{Setup: func(svc *cruster.Service) error {
				return cruster.RegisterCron(svc, cruster.Cron{Name: "job", Schedule: "*/10 * * * *", Run: z.run})
			}}, func(t *testing.T, c *crustertest.Cluster) {
				c.Advance(3*time.Hour + time.Minute) // it is 3:01
				c.Stop()
				row, err := c.Storage().Schedule(t.Context(), crustertype.ScheduleCron, "job")
				if err != nil {
					t.Fatal(err)
				}
				row.LastTick, row.NextTick = row.LastTick.Add(tc.ahead), row.NextTick.Add(tc.ahead)
				row.Version++
				if _, err := c.Storage().Commit(t.Context(), []storage.Unit{{Schedules: []crustertype.Schedule{row}}}); err != nil {
					t.Fatal(err)
				}
				before := len(z.all())
				c.Start()
				c.Advance(90 * time.Minute)
				var got []string
				for _, tick := range z.all()[before:] {
					got = append(got, tick.Format("2T15:04"))
				}
				// The tick of 3:00 had run: storage says otherwise, and its request says so
				// again.
				want := tc.want
				if tc.ahead < 0 {
					want = want[1:]
				}
				if !slices.Equal(got, want) {
					t.Errorf("ran %v, want %v", got, want)
				}
			})
		})
	}
}

// alarmClock is an entity and a workflow that are to be on time.
type alarmClock struct {
	_ cruster.Entity `cruster:"alarmclock"`

	mu   sync.Mutex
	rang map[string][]time.Duration // how late
}

func (a *alarmClock) note(what string, due time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rang[what] = append(a.rang[what], time.Since(due))
}

func (a *alarmClock) Ring(ctx context.Context, due time.Time) error {
	a.note("message "+cruster.EntityID(ctx), due)
	return nil
}

type nap struct {
	_ cruster.Workflow `cruster:"nap"`

	clock *alarmClock
}

func (n *nap) Execute(wf *cruster.WorkflowContext, due time.Time) (bool, error) {
	if err := cruster.SleepUntil(wf, due); err != nil {
		return false, err
	}
	n.clock.note("workflow "+wf.ExecutionID(), due)
	return true, nil
}

// TestTimersAreOnTime lets messages and workflows of three runners become due,
// some soon and some after hours: none early, and none late by more than 20 ms.
func TestTimersAreOnTime(t *testing.T) {
	t.Parallel()
	const each = 150
	clock := &alarmClock{rang: make(map[string][]time.Duration)}
	var mu sync.Mutex
	var clocks cruster.Client[*alarmClock]
	var naps cruster.WorkflowClient[time.Time, bool]
	crustertest.Run(t, crustertest.Options{Runners: 3, Config: cruster.Config{Logger: officeLog(t)}, SetupRunner: func(i int, svc *cruster.Service) error {
		mu.Lock()
		defer mu.Unlock()
		c, err := cruster.Register(svc, clock)
		if err != nil {
			return err
		}
		w, err := cruster.RegisterWorkflow(svc, &nap{clock: clock})
		if i == 0 {
			clocks, naps = c, w
		}
		return err
	}}, func(t *testing.T, c *crustertest.Cluster) {
		c.Settle()
		random := rand.New(rand.NewPCG(7, 7))
		for i := range each {
			limit := []time.Duration{time.Second, 90 * time.Second, 3 * time.Hour}[i%3]
			due := time.Now().Add(50*time.Millisecond + time.Duration(random.Int64N(int64(limit)))).UTC()
			id := fmt.Sprint(i)
			if err := cruster.NotifyErr(t.Context(), clocks.Entity(id), (*alarmClock).Ring, due, cruster.At(due)); err != nil {
				t.Fatal(err)
			}
			if _, err := naps.WithRawKey(id).Start(t.Context(), due); err != nil {
				t.Fatal(err)
			}
		}
		c.Advance(3*time.Hour + time.Minute)
	})
	clock.mu.Lock()
	defer clock.mu.Unlock()
	if len(clock.rang) != 2*each {
		t.Errorf("%d alarms rang, want %d", len(clock.rang), 2*each)
	}
	for what, late := range clock.rang {
		if len(late) != 1 {
			t.Errorf("%s rang %d times", what, len(late))
		}
		if late[0] < 0 || late[0] > precise {
			t.Errorf("%s rang %v after it was due, want 0 to %v", what, late[0], precise)
		}
	}
}
