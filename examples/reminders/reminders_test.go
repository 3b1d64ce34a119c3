package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestThousandReminders lets 1,000 reminders become due while processes are
// killed, half of them scheduled messages, half workflows that sleep. Each is
// delivered once, and none before its time by the database's clock.
func TestThousandReminders(t *testing.T) {
	f := newFleet(t, "-suspend-after", "2s", "-digest", "0 0 * * * *", "-watch", "1s")
	const reminders, setters, over = 1000, 16, 15 * time.Second
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: setters}}
	defer client.CloseIdleConnections()
	begin := time.UnixMicro(f.now()).Add(12 * time.Second)
	var next atomic.Int64
	var all sync.WaitGroup
	for range setters {
		all.Go(func() {
			for i := int(next.Add(1)); i <= reminders; i = int(next.Add(1)) {
				due := begin.Add(over * time.Duration(i) / reminders)
				err := f.remind(client, i, Reminder{ID: fmt.Sprintf("r-%d", i), User: fmt.Sprintf("user-%d", i%100), Text: "now", Due: due, Nag: i%2 == 0})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	t.Logf("all are set %v before the first is due", time.Until(begin).Round(time.Millisecond))
	kills := 0
	for end := begin.Add(over); time.Now().Before(end); kills++ {
		n := f.nodes[kills%len(f.nodes)]
		n.kill()
		f.wait(f.below(500 * time.Millisecond))
		n.start()
		f.wait(f.below(time.Second))
	}
	f.eventually(30*time.Second, "every reminder is delivered", func() error {
		var n int
		f.scan(`SELECT count(DISTINCT reminder) FROM delivery`, &n)
		if n < reminders {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	f.wait(budget) // for what would come twice
	var rows, early, processes int
	var soonest, typical, latest int64
	f.scan(`SELECT count(*), count(*) FILTER (WHERE delivered < due), count(DISTINCT process), min(delivered - due),
		percentile_disc(.5) WITHIN GROUP (ORDER BY delivered - due), max(delivered - due) FROM delivery`, &rows, &early, &processes, &soonest, &typical, &latest)
	micros := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	t.Logf("%d deliveries by %d processes over %d kills, late by %v to %v, median %v", rows, processes, kills, micros(soonest), micros(latest), micros(typical))
	if rows != reminders {
		t.Errorf("%d deliveries of %d reminders: each is to be delivered once", rows, reminders)
	}
	if early > 0 { // all of them have the database's clock here
		t.Errorf("%d deliveries were early, by up to %v", early, micros(-soonest))
	}
	if processes != len(f.nodes) || kills < 3 {
		t.Errorf("%d processes delivered, and %d were killed: want all %d of them to", processes, kills, len(f.nodes))
	}
}

// TestOneProcess sets a reminder for several times in a process on SQLite, kills
// it in between, and finds each time delivered once.
func TestOneProcess(t *testing.T) {
	file, address := filepath.Join(t.TempDir(), "r.db"), freeAddress(t)
	f := &fleet{T: t}
	n := &node{f: f, name: "one", http: address, args: []string{"-db", file, "-http", address, "-digest", "* * * * * *"}}
	n.events = new(bytes.Buffer)
	f.nodes = []*node{n}
	t.Cleanup(n.kill)
	n.start()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	if err := f.remind(client, 0, Reminder{ID: "tea", User: "ann", Text: "tea", Due: time.Now().Add(time.Second)}); err != nil {
		t.Fatal(err)
	}
	if err := f.remind(client, 0, Reminder{ID: "tablets", User: "ann", Text: "tablets", Due: time.Now().Add(500 * time.Millisecond), Times: 3}); err != nil {
		t.Fatal(err)
	}
	n.kill()
	n.start()
	var got []struct {
		ID        string
		Number    int
		Delivered int64
	}
	f.eventually(20*time.Second, "four deliveries", func() error {
		got = nil
		res, err := client.Get("http://" + address + "/users/ann")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
			return err
		}
		for _, d := range got {
			if d.Delivered == 0 {
				return fmt.Errorf("%+v", got)
			}
		}
		if len(got) != 4 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	if err := f.remind(client, 0, Reminder{ID: "tea", User: "ann", Text: "coffee", Due: time.Now()}); err == nil {
		t.Error("another reminder with the same ID was taken")
	}
	n.stop()
}
