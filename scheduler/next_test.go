package scheduler_test

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // zones must not depend on the machine

	"github.com/cruster-go/cruster/scheduler"
)

func zone(tb testing.TB, name string) *time.Location {
	tb.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		tb.Fatal(err)
	}
	return loc
}

const layout = "2006-01-02 15:04:05 -0700"

func at(tb testing.TB, text string) time.Time {
	tb.Helper()
	t, err := time.Parse(layout, text)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// TestFires walks from one time to another, forwards and backwards.
func TestFires(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, zone, expr string
		from, to         string // both excluded
		want             []string
	}{
		{"plain", "UTC", "30 9 * * *", "2026-03-01 09:30:00 +0000", "2026-03-04 09:30:00 +0000", []string{
			"2026-03-02 09:30:00 +0000", "2026-03-03 09:30:00 +0000",
		}},
		{"seconds and year", "UTC", "58/1 59 23 31 12 * 2026", "2020-01-01 00:00:00 +0000", "2030-01-01 00:00:00 +0000", []string{
			"2026-12-31 23:59:58 +0000", "2026-12-31 23:59:59 +0000",
		}},
		{"Friday the 13th", "UTC", "0 0 13 * FRI", "2026-01-01 00:00:00 +0000", "2027-01-01 00:00:00 +0000", []string{
			"2026-02-13 00:00:00 +0000", "2026-03-13 00:00:00 +0000", "2026-11-13 00:00:00 +0000",
		}},
		{"leap day, not in 2100", "UTC", "0 0 29 2 *", "2093-01-01 00:00:00 +0000", "2109-01-01 00:00:00 +0000", []string{
			"2096-02-29 00:00:00 +0000", "2104-02-29 00:00:00 +0000", "2108-02-29 00:00:00 +0000",
		}},
		{"31st of the months that have one", "UTC", "0 0 31 * *", "2026-01-31 00:00:00 +0000", "2026-08-01 00:00:00 +0000", []string{
			"2026-03-31 00:00:00 +0000", "2026-05-31 00:00:00 +0000", "2026-07-31 00:00:00 +0000",
		}},
		{"zone east of UTC has its own date", "Asia/Tokyo", "0 0 1 1 *", "2025-12-01 00:00:00 +0000", "2026-02-01 00:00:00 +0000", []string{
			"2026-01-01 00:00:00 +0900",
		}},

		{"Berlin gap, once a day: after the gap", "Europe/Berlin", "30 2 * * *", "2026-03-28 03:00:00 +0100", "2026-03-30 03:00:00 +0200", []string{
			"2026-03-29 03:00:00 +0200", "2026-03-30 02:30:00 +0200",
		}},
		{"Berlin gap, several in it are one", "Europe/Berlin", "*/20 2 * * *", "2026-03-28 12:00:00 +0100", "2026-03-30 02:10:00 +0200", []string{
			"2026-03-29 03:00:00 +0200", "2026-03-30 02:00:00 +0200",
		}},
		{"Berlin gap, one in it and one at its end are one", "Europe/Berlin", "0 2,3 * * *", "2026-03-28 12:00:00 +0100", "2026-03-29 12:00:00 +0200", []string{
			"2026-03-29 03:00:00 +0200",
		}},
		{"Berlin gap, every hour", "Europe/Berlin", "30 * * * *", "2026-03-29 00:45:00 +0100", "2026-03-29 05:00:00 +0200", []string{
			"2026-03-29 01:30:00 +0100", "2026-03-29 03:30:00 +0200", "2026-03-29 04:30:00 +0200",
		}},
		{"Berlin gap, every 20 minutes", "Europe/Berlin", "*/20 * * * *", "2026-03-29 01:30:00 +0100", "2026-03-29 03:30:00 +0200", []string{
			"2026-03-29 01:40:00 +0100", "2026-03-29 03:00:00 +0200", "2026-03-29 03:20:00 +0200",
		}},
		{"Berlin repeat, once a day: the first time", "Europe/Berlin", "30 2 * * *", "2026-10-24 12:00:00 +0200", "2026-10-26 12:00:00 +0100", []string{
			"2026-10-25 02:30:00 +0200", "2026-10-26 02:30:00 +0100",
		}},
		{"Berlin repeat, asked in the second hour", "Europe/Berlin", "30 2 * * *", "2026-10-25 02:10:00 +0100", "2026-10-26 12:00:00 +0100", []string{
			"2026-10-26 02:30:00 +0100",
		}},
		{"Berlin repeat, its hour and the next", "Europe/Berlin", "0,30 2,3 * * *", "2026-10-25 00:00:00 +0200", "2026-10-25 12:00:00 +0100", []string{
			"2026-10-25 02:00:00 +0200", "2026-10-25 02:30:00 +0200", "2026-10-25 03:00:00 +0100", "2026-10-25 03:30:00 +0100",
		}},
		{"Berlin repeat, every hour", "Europe/Berlin", "30 * * * *", "2026-10-25 01:45:00 +0200", "2026-10-25 04:00:00 +0100", []string{
			"2026-10-25 02:30:00 +0200", "2026-10-25 02:30:00 +0100", "2026-10-25 03:30:00 +0100",
		}},

		{"New York gap", "America/New_York", "0 2 * * *", "2026-03-07 12:00:00 -0500", "2026-03-09 12:00:00 -0400", []string{
			"2026-03-08 03:00:00 -0400", "2026-03-09 02:00:00 -0400",
		}},
		{"New York repeat", "America/New_York", "15 1 * * SUN", "2026-10-31 12:00:00 -0400", "2026-11-02 12:00:00 -0500", []string{
			"2026-11-01 01:15:00 -0400",
		}},

		{"Lord Howe gap of 30 minutes", "Australia/Lord_Howe", "15,45 2 * * *", "2026-10-03 12:00:00 +1030", "2026-10-05 02:20:00 +1100", []string{
			"2026-10-04 02:30:00 +1100", "2026-10-04 02:45:00 +1100", "2026-10-05 02:15:00 +1100",
		}},
		{"Lord Howe repeat of 30 minutes", "Australia/Lord_Howe", "15,45 1 * * *", "2026-04-04 12:00:00 +1100", "2026-04-06 01:20:00 +1030", []string{
			"2026-04-05 01:15:00 +1100", "2026-04-05 01:45:00 +1100", "2026-04-06 01:15:00 +1030",
		}},
		{"Lord Howe repeat, every hour", "Australia/Lord_Howe", "45 * * * *", "2026-04-05 01:00:00 +1100", "2026-04-05 03:00:00 +1030", []string{
			"2026-04-05 01:45:00 +1100", "2026-04-05 01:45:00 +1030", "2026-04-05 02:45:00 +1030",
		}},

		{"gap at midnight belongs to the new day", "America/Sao_Paulo", "0 0 * * SUN", "2018-11-03 12:00:00 -0300", "2018-11-05 12:00:00 -0200", []string{
			"2018-11-04 01:00:00 -0200",
		}},
		{"a whole day was skipped", "Pacific/Apia", "0 12 30 12 *", "2011-12-01 12:00:00 -1000", "2012-12-31 00:00:00 +1400", []string{
			"2011-12-31 00:00:00 +1400", "2012-12-30 12:00:00 +1400",
		}},
		{"last day of a leap year far ahead", "America/New_York", "0 0,20 1 1 *", "2092-12-30 23:00:00 +0000", "2093-02-01 00:00:00 +0000", []string{
			"2093-01-01 00:00:00 -0500", "2093-01-01 20:00:00 -0500",
		}},
		{"every period ignores the zone", "Europe/Berlin", "@every 1h30m", "2026-03-29 00:00:00 +0000", "2026-03-29 04:30:00 +0000", []string{
			"2026-03-29 03:30:00 +0200", "2026-03-29 05:00:00 +0200",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, err := scheduler.ParseIn(tc.expr, zone(t, tc.zone))
			if err != nil {
				t.Fatal(err)
			}
			from, to := at(t, tc.from), at(t, tc.to)
			var got []string
			for next, ok := s.Next(from); ok && next.Before(to); next, ok = s.Next(next) {
				got = append(got, next.Format(layout))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%q from %s fires at\n%q, want\n%q", tc.expr, tc.from, got, tc.want)
			}
			got = got[:0]
			for prev, ok := s.Prev(to); ok && prev.After(from); prev, ok = s.Prev(prev) {
				got = append(got, prev.Format(layout))
			}
			slices.Reverse(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("%q back from %s fires at\n%q, want\n%q", tc.expr, tc.to, got, tc.want)
			}
		})
	}
}

// TestEveryFiveMinutesIsRealTime walks a whole year of each zone.
func TestEveryFiveMinutesIsRealTime(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"} {
		s := scheduler.MustParse("*/5 * * * *").In(zone(t, name))
		last := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for range 365 * 24 * 12 {
			next, ok := s.Next(last)
			if !ok || next.Sub(last) != 5*time.Minute {
				t.Fatalf("%s: Next(%v) = %v, %v, want 5 minutes of real time later", name, last, next, ok)
			}
			last = next
		}
	}
}

// TestOnceADayIsOnceADay checks every time of day over years with many clock
// changes: as many fires as days.
func TestOnceADayIsOnceADay(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Casablanca"} {
		loc := zone(t, name)
		for _, expr := range []string{"0 0 * * *", "30 0 * * *", "0 1 * * *", "45 1 * * *", "0 2 * * *", "15 2 * * *", "59 59 2 * * *", "0 3 * * *"} {
			s, err := scheduler.ParseIn(expr, loc)
			if err != nil {
				t.Fatal(err)
			}
			from, to := time.Date(2010, 1, 1, 12, 0, 0, 0, loc), time.Date(2030, 1, 1, 12, 0, 0, 0, loc)
			n, day := 0, from
			for next, ok := s.Next(from); ok && !next.After(to); next, ok = s.Next(next) {
				n++
				if want := day.AddDate(0, 0, n); next.YearDay() != want.YearDay() {
					t.Fatalf("%s %q: fire %d is at %v, want one each day", name, expr, n, next)
				}
			}
			if n != 20*365+5 {
				t.Errorf("%s %q: %d fires in 20 years, want one each day", name, expr, n)
			}
		}
	}
}

func TestSchedulesEnd(t *testing.T) {
	t.Parallel()
	far := []time.Time{
		{},
		time.Unix(-1<<62, 0), time.Unix(1<<62, 999),
		time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(99999, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for _, expr := range []string{"* * * * * *", "0 0 1 1 *", "0 0 29 2 *", "0 0 0 1 1 * 2027", "@every 1s", "@every 8784h", "30 2 * * *"} {
		for _, name := range []string{"UTC", "Europe/Berlin", "Pacific/Kiritimati", "Pacific/Pago_Pago"} {
			s := scheduler.MustParse(expr).In(zone(t, name))
			first, ok1 := s.Next(time.Time{})
			last, ok2 := s.Prev(far[len(far)-1])
			if !ok1 || !ok2 || last.Before(first) {
				t.Fatalf("%s %q: first fire %v, %v, last %v, %v", name, expr, first, ok1, last, ok2)
			}
			for _, when := range far {
				if !when.Before(first) && !when.After(last) {
					continue
				}
				if next, ok := s.Next(when); ok != when.Before(first) || ok && !next.Equal(first) {
					t.Errorf("%s %q: Next(%v) = %v, %v, first fire is %v", name, expr, when, next, ok, first)
				}
				if prev, ok := s.Prev(when); ok != when.After(last) || ok && !prev.Equal(last) {
					t.Errorf("%s %q: Prev(%v) = %v, %v, last fire is %v", name, expr, when, prev, ok, last)
				}
			}
			if prev, ok := s.Prev(first); ok {
				t.Errorf("%s %q: a fire at %v before the first", name, expr, prev)
			}
			if next, ok := s.Next(last); ok {
				t.Errorf("%s %q: a fire at %v after the last", name, expr, next)
			}
			if _, ok := s.Next(time.Unix(1<<63-1, 999)); ok {
				t.Errorf("%s %q: a fire after the end of time", name, expr)
			}
			if _, ok := s.Prev(time.Unix(-1<<63, 0)); ok {
				t.Errorf("%s %q: a fire before the beginning of time", name, expr)
			}
			if expr != "@every 1s" && expr != "@every 8784h" && (first.Year() < scheduler.MinYear || last.Year() > scheduler.MaxYear) {
				t.Errorf("%s %q: fires from %v to %v", name, expr, first, last)
			}
		}
	}
}

func TestNextTakesFractionsOfASecond(t *testing.T) {
	t.Parallel()
	s := scheduler.MustParse("* * * * * *")
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		when       time.Time
		prev, next int // seconds from noon
	}{
		{noon, -1, 1},
		{noon.Add(1), 0, 1},
		{noon.Add(-1), -1, 0},
		{noon.Add(time.Second - 1), 0, 1},
	} {
		prev, _ := s.Prev(tc.when)
		next, _ := s.Next(tc.when)
		if !prev.Equal(noon.Add(time.Duration(tc.prev)*time.Second)) || !next.Equal(noon.Add(time.Duration(tc.next)*time.Second)) {
			t.Errorf("around %v: %v and %v, want %+d and %+d seconds from noon", tc.when, prev, next, tc.prev, tc.next)
		}
	}
}

func TestScheduleValue(t *testing.T) {
	t.Parallel()
	var zero scheduler.Schedule
	if _, ok := zero.Next(epoch); ok || !zero.IsZero() || zero.String() != "" || zero.Describe() != "never" || zero.Location() != time.UTC {
		t.Errorf("the zero value is %q, %q, in %v", zero.String(), zero.Describe(), zero.Location())
	}
	if _, ok := zero.Prev(epoch); ok {
		t.Error("the zero value has fired")
	}
	berlin := zone(t, "Europe/Berlin")
	s := scheduler.MustParse("0 9 * * *")
	if s.In(nil) != s || s.Equal(s.In(berlin)) || !s.In(berlin).Equal(s.In(zone(t, "Europe/Berlin"))) {
		t.Error("Equal or In mix up zones")
	}
	if next, _ := s.In(berlin).Next(epoch); next.Location() != berlin || next.Hour() != 9 {
		t.Errorf("Next = %v, want 9 o'clock in the zone of the schedule", next)
	}
	if in, err := scheduler.ParseIn("0 9 * * *", nil); err != nil || in != s {
		t.Errorf("ParseIn without a zone = %v, %v, want UTC", in, err)
	}
	defer func() {
		if recover() == nil {
			t.Error("MustParse accepted nonsense")
		}
	}()
	scheduler.MustParse("nonsense")
}

func BenchmarkNext(b *testing.B) {
	for _, bc := range []struct{ name, expr, zone string }{
		{"EveryFiveMinutes/UTC", "*/5 * * * *", "UTC"},
		{"EveryFiveMinutes/Berlin", "*/5 * * * *", "Europe/Berlin"},
		{"Daily/Berlin", "30 2 * * *", "Europe/Berlin"},
		{"Friday13/UTC", "0 0 13 * FRI", "UTC"},
		{"LeapDay/Berlin", "0 0 29 2 *", "Europe/Berlin"},
		{"Year2199/Berlin", "0 0 0 1 6 * 2199", "Europe/Berlin"},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s := scheduler.MustParse(bc.expr).In(zone(b, bc.zone))
			b.ReportAllocs()
			for b.Loop() {
				s.Next(epoch)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		scheduler.MustParse("*/5 9-17 * * MON-FRI")
	}
}
