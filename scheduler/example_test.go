package scheduler_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/cruster-go/cruster/scheduler"
)

func ExampleParseIn() {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := scheduler.ParseIn("30 2 * * *", berlin)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Describe())
	t := time.Date(2026, 3, 28, 0, 0, 0, 0, berlin) // the clock skips 02:30 on the 29th
	for range 3 {
		t, _ = s.Next(t)
		fmt.Println(t)
	}
	// Output:
	// at 02:30 every day, Europe/Berlin time
	// 2026-03-28 02:30:00 +0100 CET
	// 2026-03-29 03:00:00 +0200 CEST
	// 2026-03-30 02:30:00 +0200 CEST
}

func ExampleSyntaxError() {
	_, err := scheduler.Parse("0 25 * * *")
	fmt.Println(err)
	var bad *scheduler.SyntaxError
	if errors.As(err, &bad) {
		fmt.Println("look at field", bad.Field)
	}
	// Output:
	// cron expression "0 25 * * *": field 2 (hour) is "25": 25 is out of range: use 0-23
	// look at field 2
}

func ExampleSchedule_Prev() {
	s := scheduler.MustParse("0 9 * * MON-FRI")
	last, ok := s.Prev(time.Date(2026, 3, 8, 12, 0, 0, 0, time.UTC)) // a Sunday
	fmt.Println(last, ok)
	// Output: 2026-03-06 09:00:00 +0000 UTC true
}

// After an outage of an hour only the newest tick fires.
func ExampleCron_Decide() {
	cron := scheduler.Cron{Name: "cleanup", Schedule: scheduler.MustParse("*/20 * * * *")}
	state := scheduler.State{Last: time.Date(2026, 3, 10, 9, 0, 0, 0, time.UTC)} // as stored
	d := cron.Decide(state, time.Date(2026, 3, 10, 10, 5, 0, 0, time.UTC))
	for _, tick := range d.Due {
		fmt.Println("fire", tick.Key)
	}
	fmt.Println("skipped", d.Skipped.Count, "and wake at", d.Wake.Format(time.TimeOnly))
	// Output:
	// fire cleanup@2026-03-10T10:00:00Z
	// skipped 2 and wake at 10:20:00
}

func ExamplePolicy_Delay() {
	p := scheduler.Policy{Initial: time.Second, Max: 10 * time.Second}
	for attempt := 1; attempt <= 6; attempt++ {
		fmt.Print(p.Delay(attempt, nil), " ")
	}
	fmt.Println()
	// Output: 1s 2s 4s 8s 10s 10s
}

func ExampleHeap() {
	var h scheduler.Heap[string]
	noon := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	h.Add("lunch", noon)
	h.Add("coffee", noon.Add(-2*time.Hour))
	h.Add("nap", noon.Add(time.Hour))
	h.Remove("nap")
	h.Update("coffee", noon)
	for {
		key, due, ok := h.PopDue(noon)
		if !ok {
			break
		}
		fmt.Println(due.Format(time.TimeOnly), key)
	}
	// Output:
	// 12:00:00 lunch
	// 12:00:00 coffee
}
