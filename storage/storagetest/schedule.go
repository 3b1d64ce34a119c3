package storagetest

import (
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// schedule returns the state of a cron with every field set.
func schedule(name string, version int64) crustertype.Schedule {
	return crustertype.Schedule{
		Kind: crustertype.ScheduleCron, Name: name, Shard: home, LastTick: at(-time.Hour), NextTick: at(time.Duration(version) * time.Hour),
		Paused: version%2 == 0, Holder: crustertype.Incarnation(version), Since: at(-time.Minute), Restarts: int(version), LastError: "läuft nicht",
		UpdatedAt: at(time.Second), Version: version, History: []byte{0, 1, byte(version)},
	}
}

func schedules(list ...crustertype.Schedule) storage.Unit { return storage.Unit{Schedules: list} }

// wantSchedule reads a schedule and compares it.
func (k *kit) wantSchedule(want crustertype.Schedule) {
	k.Helper()
	got, err := k.s.Schedule(k.ctx, want.Kind, want.Name)
	k.must("Schedule("+want.Name+")", err)
	if d := diff(want, got); d != "" {
		k.Errorf("stored schedule differs:\n%s", d)
	}
}

func scheduleRules() []Rule {
	return []Rule{
		rule("ScheduleIsInsertedAndReplaced", "a schedule is inserted with Version 1 and replaced where the stored version is one less", func(k *kit) {
			for v := int64(1); v < 5; v++ {
				k.commit(schedules(schedule("tick", v)))
				k.wantSchedule(schedule("tick", v))
			}
			empty := crustertype.Schedule{Kind: crustertype.ScheduleSingleton, Name: "tick", Version: 1}
			k.commit(schedules(empty))
			k.wantSchedule(empty)
			k.wantSchedule(schedule("tick", 4))
		}),
		rule("StaleScheduleIsRefused", "a stale write of a schedule is a *UnitError that wraps ErrConflict", func(k *kit) {
			k.refused(0, storage.ErrConflict, schedules(schedule("tick", 2)))
			k.refused(0, storage.ErrConflict, schedules(schedule("tick", 0)))
			k.commit(schedules(schedule("tick", 1)))
			k.commit(schedules(schedule("tick", 2)))
			for _, v := range []int64{0, 1, 4, -1} {
				k.refused(0, storage.ErrConflict, schedules(schedule("tick", v)))
			}
			other := schedule("tick", 2)
			other.LastError = "another writer was first"
			k.refused(1, storage.ErrConflict, storage.Unit{}, schedules(other))
			k.wantSchedule(schedule("tick", 2))
		}),
		rule("EqualScheduleIsLeftAlone", "a row that already equals the write is left alone, whatever a store cuts off its times", func(k *kit) {
			k.commit(schedules(schedule("tick", 1)))
			k.commit(schedules(schedule("tick", 1)))
			k.commit(schedules(schedule("tick", 2)), schedules(schedule("tick", 2)))
			k.wantSchedule(schedule("tick", 2))
			bare := crustertype.Schedule{Kind: crustertype.ScheduleSingleton, Name: "s", Version: 1}
			k.commit(schedules(bare))
			bare.History = []byte{}
			k.commit(schedules(bare))
		}),
		rule("OneOfRacingSchedulesWins", "of concurrent writes of one version exactly one succeeds", func(k *kit) {
			const racers = 8
			k.commit(schedules(schedule("tick", 1)))
			var errs [racers]error
			together(racers, func(i int) {
				mine := schedule("tick", 2)
				mine.Restarts = 100 + i
				_, errs[i] = k.s.Commit(k.ctx, []storage.Unit{schedules(mine)})
			})
			want, winners := schedule("tick", 2), 0
			for i, err := range errs {
				if err == nil {
					want.Restarts = 100 + i
					winners++
				} else {
					k.wantUnitError(err, 0, storage.ErrConflict)
				}
			}
			if winners != 1 {
				k.Fatalf("%d of %d writes of version 2 succeeded, want 1", winners, racers)
			}
			k.wantSchedule(want)
		}),
		rule("SchedulesAreListedByName", "Schedules returns all of one kind, by name in byte order; Schedule of an unknown one is ErrNotFound", func(k *kit) {
			var want []crustertype.Schedule
			for _, name := range []string{"", "B", "_", "a", "a-", "a.", "aB", "ab", "ä"} {
				want = append(want, schedule(name, 1))
			}
			single := schedule("a", 1)
			single.Kind = crustertype.ScheduleSingleton
			for i := range want {
				k.commit(schedules(want[len(want)-1-i]))
			}
			k.commit(schedules(single))
			got, err := k.s.Schedules(k.ctx, crustertype.ScheduleCron)
			k.must("Schedules", err)
			if d := diff(want, got); d != "" {
				k.Errorf("Schedules of crons differ:\n%s", d)
			}
			got, err = k.s.Schedules(k.ctx, crustertype.ScheduleSingleton)
			k.must("Schedules", err)
			if d := diff([]crustertype.Schedule{single}, got); d != "" {
				k.Errorf("Schedules of singletons differ:\n%s", d)
			}
			if _, err := k.s.Schedule(k.ctx, crustertype.ScheduleSingleton, "B"); !errors.Is(err, storage.ErrNotFound) {
				k.Errorf("Schedule of an unknown singleton = %v, want ErrNotFound", err)
			}
		}),
	}
}
