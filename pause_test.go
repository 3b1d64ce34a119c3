package cruster_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// A cron that was paused in storage goes on when it is no longer.
func TestCronGoesOnAfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		svc, err := cruster.New(cruster.Config{Storage: store})
		if err != nil {
			t.Fatal(err)
		}
		var ticks atomic.Int64
		err = cruster.RegisterCron(svc, cruster.Cron{Name: "job", Schedule: "@every 1m", Run: func(context.Context, time.Time) error {
			ticks.Add(1)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := svc.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer stop(t, svc)
		pause := func(paused bool) {
			row, err := store.Schedule(t.Context(), crustertype.ScheduleCron, "job")
			if err != nil {
				t.Fatal(err)
			}
			row.Paused = paused
			row.Version++
			if _, err := store.Commit(t.Context(), []storage.Unit{{Schedules: []crustertype.Schedule{row}}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(150 * time.Second)
		pause(true)
		time.Sleep(10 * time.Minute)
		if n := ticks.Load(); n != 2 {
			t.Errorf("%d ticks ran with 10 minutes of pause, want 2", n)
		}
		pause(false)
		time.Sleep(5 * time.Minute)
		if n := ticks.Load(); n < 5 {
			t.Errorf("%d ticks ran, 5 minutes after the pause", n)
		}
	})
}
