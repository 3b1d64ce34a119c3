package main

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// second is a tick of the cron, in microseconds.
const second = int64(time.Second / time.Microsecond)

// ticks returns all digests by tick, with how often each was written.
func (f *fleet) ticks() (all []int64, times map[int64]int) {
	f.Helper()
	rows, err := f.db.sql.QueryContext(f.Context(), `SELECT tick FROM digest ORDER BY tick`)
	if err != nil {
		f.Fatal(err)
	}
	defer rows.Close()
	times = make(map[int64]int)
	for rows.Next() {
		var tick int64
		if err := rows.Scan(&tick); err != nil {
			f.Fatal(err)
		}
		if times[tick]++; times[tick] == 1 {
			all = append(all, tick)
		}
	}
	if err := rows.Err(); err != nil {
		f.Fatal(err)
	}
	return all, times
}

// written waits until all ticks of a time are.
func (f *fleet) written(from, to int64) {
	f.Helper()
	f.eventually(20*time.Second, "every tick is written", func() error {
		_, times := f.ticks()
		for tick := from; tick <= to; tick += second {
			if times[tick] == 0 {
				return fmt.Errorf("the tick of %v is not", time.UnixMicro(tick))
			}
		}
		return nil
	})
}

// TestTicks kills random processes while a cron ticks each second. With one of
// them up, no tick is lost; after an outage of all, the newest ones are made up,
// as many as -catch-up says. None is ever written twice.
func TestTicks(t *testing.T) {
	const catchUp = 8
	f := newFleet(t, "-digest", "* * * * * *", "-catch-up", fmt.Sprint(catchUp), "-watch", "10s")
	var first int64
	f.eventually(20*time.Second, "the first tick", func() error {
		all, _ := f.ticks()
		if len(all) == 0 {
			return fmt.Errorf("there is none")
		}
		first = all[0]
		return nil
	})
	until := first + number(t, envTicks, 25)*second
	kills := 0
	for f.now() < until {
		n := f.nodes[f.rand.IntN(len(f.nodes))]
		n.kill()
		kills++
		f.wait(f.below(time.Second))
		n.start()
		f.wait(time.Second + f.below(time.Second))
	}
	last := until - until%second
	f.written(first, last)
	t.Logf("%d ticks in order over %d kills", (last-first)/second+1, kills)

	for _, n := range f.nodes {
		n.kill()
	}
	dead := f.now()
	f.wait((catchUp + 7) * time.Second)
	back := f.now()
	f.startAll()
	up := f.now()
	f.written(up-up%second+second, up-up%second+3*second)
	all, times := f.ticks()
	for tick, n := range times {
		if n != 1 {
			t.Errorf("the tick of %v was written %d times", time.UnixMicro(tick), n)
		}
	}
	// The decision is made when the first of them has the cron's shard: what was
	// missed until then, but for the newest ticks, is skipped. Behind that there is
	// no gap.
	i := slices.IndexFunc(all, func(tick int64) bool { return tick > dead })
	if i < 1 {
		t.Fatalf("of %d ticks none is older than the outage, or none newer", len(all))
	}
	skipped := (all[i]-all[i-1])/second - 1
	t.Logf("an outage of %v: %d ticks skipped", time.Duration(back-dead)*time.Microsecond, skipped)
	if skipped < 3 || all[i] < back-catchUp*second {
		t.Errorf("the first tick after the outage is %v, the last before it %v: at most %d before the start at %v are to be made up",
			time.UnixMicro(all[i]), time.UnixMicro(all[i-1]), catchUp, time.UnixMicro(back))
	}
	decided := all[i] + (catchUp-1)*second
	if decided < back-second {
		t.Errorf("%d ticks from %v on end before the start at %v", catchUp, time.UnixMicro(all[i]), time.UnixMicro(back))
	}
	for k := i + 1; k < len(all); k++ {
		if all[k]-all[k-1] != second && all[k] <= up {
			t.Errorf("a tick is missing between %v and %v, after the outage", time.UnixMicro(all[k-1]), time.UnixMicro(all[k]))
		}
	}
}
