package main

import (
	"database/sql"
	"errors"
	"slices"
	"testing"
	"time"
)

// watch is a row of the table: one time that a process had the task.
type watch struct {
	id            int64
	process       string
	began, looked int64
	ended         sql.NullInt64
}

func (f *fleet) watches() (list []watch) {
	f.Helper()
	rows, err := f.db.sql.QueryContext(f.Context(), `SELECT id, process, began, looked, ended FROM watch ORDER BY id`)
	if err != nil {
		f.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var w watch
		if err := rows.Scan(&w.id, &w.process, &w.began, &w.looked, &w.ended); err != nil {
			f.Fatal(err)
		}
		list = append(list, w)
	}
	if err := rows.Err(); err != nil {
		f.Fatal(err)
	}
	return list
}

// holder waits until somebody has the task after the watch of the given number,
// and has looked once.
func (f *fleet) holder(after int64) (w watch) {
	f.Helper()
	f.eventually(30*time.Second, "a process has the task", func() error {
		list := f.watches()
		if len(list) == 0 {
			return errors.New("nobody ever had it")
		}
		w = list[len(list)-1]
		if w.id <= after || w.ended.Valid || w.looked == w.began {
			return errors.New("the last one to have it was " + w.process)
		}
		return nil
	})
	return w
}

// apart checks that no two processes ever had the task at the same time: what
// one of them has written, all of it autonomous commits by the database's
// clock, does not overlap what another one has. What is written after a process
// was killed is not its own, so this needs no fence.
func (f *fleet) apart() {
	f.Helper()
	list := f.watches()
	for i, w := range list {
		end := max(w.looked, w.ended.Int64)
		if i+1 < len(list) && list[i+1].began <= end {
			f.Errorf("watch %d of %s lasted until %d, and watch %d of %s began %d us before that",
				w.id, w.process, end, list[i+1].id, list[i+1].process, end-list[i+1].began)
		}
	}
}

// TestKilledHolders kills the process that has the singleton again and again.
// Another one takes it over in time, and never two have it.
func TestKilledHolders(t *testing.T) {
	f := newFleet(t, "-watch", "20ms")
	kills := int(number(t, envKills, 20))
	var took []time.Duration
	w := f.holder(0)
	for tries := 0; len(took) < kills; tries++ {
		if tries > 3*kills {
			t.Fatalf("only %d of %d kills hit the holder", len(took), tries)
		}
		f.wait(f.below(300 * time.Millisecond))
		n := f.named(w.process)
		at := f.now()
		n.kill()
		list := f.watches()
		last := list[len(list)-1]
		n.start()
		next := f.holder(w.id)
		if last.id == w.id && !last.ended.Valid { // it had not been moved before
			list := f.watches()
			i := slices.IndexFunc(list, func(x watch) bool { return x.id > w.id })
			took = append(took, time.Duration(list[i].began-at)*time.Microsecond)
		}
		w = next
	}
	f.apart()
	slices.Sort(took)
	median, most := took[len(took)/2], took[len(took)-1]
	t.Logf("%d takeovers: median %v, longest %v; the TTL is %v", len(took), median, most, ttl)
	if median > budget {
		t.Errorf("half of the takeovers took %v and more, want at most %v", median, budget)
	}
	if limit := 2 * budget; most > limit { // the machine may be busy
		t.Errorf("a takeover took %v, want at most %v", most, limit)
	}
}

// TestHolderSaysGoodbye stops the process that has the singleton in good order:
// it has written that it leaves before another one begins.
func TestHolderSaysGoodbye(t *testing.T) {
	f := newFleet(t, "-watch", "20ms")
	w := f.holder(0)
	for range 3 {
		at := f.now()
		n := f.named(w.process)
		n.stop()
		next := f.holder(w.id)
		list := f.watches()
		i := slices.IndexFunc(list, func(x watch) bool { return x.id == w.id })
		old, successor := list[i], list[i+1]
		if !old.ended.Valid {
			t.Errorf("%s did not say goodbye", old.process)
		}
		if successor.began <= old.ended.Int64 {
			t.Errorf("%s began at %d, before %s had left at %d", successor.process, successor.began, old.process, old.ended.Int64)
		}
		if gap := time.Duration(successor.began-at) * time.Microsecond; gap > 10*time.Second {
			t.Errorf("after SIGTERM the task was nobody's for %v", gap)
		} else {
			t.Logf("%s left %v after SIGTERM, and %s began %v after that", old.process, time.Duration(old.ended.Int64-at)*time.Microsecond,
				successor.process, time.Duration(successor.began-old.ended.Int64)*time.Microsecond)
		}
		n.start()
		w = f.holder(next.id - 1)
	}
	f.apart()
}
