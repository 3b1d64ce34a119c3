package scheduler

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Describe says in English when the schedule fires, such as "at 09:00 on Monday
// through Friday, Europe/Berlin time". The text is for people and may be worded
// better in later versions. The zero value gives "never".
func (s Schedule) Describe() string {
	switch {
	case s.IsZero():
		return "never"
	case s.every > 0:
		return "every " + describeDuration(s.every)
	}
	text, clock := s.set.describeTime()
	if date := s.set.describeDate(clock); date != "" {
		text += " " + date
	}
	if loc := s.Location(); loc != time.UTC {
		text += ", " + loc.String() + " time"
	}
	return text
}

// mostListed is how many values are still read best as a list.
const mostListed = 6

// describeTime says at what times of day; clock reports that it named them.
func (f *fields) describeTime() (text string, clock bool) {
	seconds, minutes, hours := values(f.second), values(f.minute), values(f.hour)
	if len(seconds) == 1 && len(minutes) == 1 && len(hours) <= mostListed {
		var times []string
		for _, h := range hours {
			t := fmt.Sprintf("%02d:%02d", h, minutes[0])
			if seconds[0] != 0 {
				t += fmt.Sprintf(":%02d", seconds[0])
			}
			times = append(times, t)
		}
		return "at " + list(times), true
	}
	// From the smallest unit that says something to the largest, such as "at
	// second 5" + "of every 2nd minute" + "of hours 9 through 17".
	units := []unit{{"second", 60, seconds}, {"minute", 60, minutes}, {"hour", 24, hours}}
	for len(units) > 1 && len(units[0].values) == 1 && units[0].values[0] == 0 {
		units = units[1:]
	}
	last := len(units)
	for last > 1 && units[last-1].step() == 1 && units[last-2].cycle() {
		last-- // "every 5 minutes" needs no "of every hour"
	}
	if u := units[0]; u.name == "hour" && u.step() == 0 && u.values[len(u.values)-1]-u.values[0] == len(u.values)-1 {
		return fmt.Sprintf("every hour from %02d:00 through %02d:00", u.values[0], u.values[len(u.values)-1]), false
	}
	text = units[0].lead()
	for _, u := range units[1:last] {
		text += " of " + u.part()
	}
	return text, false
}

// unit is a field of the time of day.
type unit struct {
	name   string
	size   int
	values []int
}

// step returns the distance between the values if they start at 0 and go on to
// the end of the unit; otherwise 0. 1 means all.
func (u unit) step() int {
	n := progression(u.values)
	if n > 0 && u.values[0] == 0 && u.values[len(u.values)-1]+n >= u.size {
		return n
	}
	if len(u.values) == 2 && u.values[0] == 0 && u.values[1]*2 == u.size {
		return u.values[1]
	}
	return 0
}

// cycle reports whether the values are equally far apart over the border, too.
func (u unit) cycle() bool {
	n := u.step()
	return n > 0 && u.size%n == 0
}

// lead names the unit as the one that fires.
func (u unit) lead() string {
	switch {
	case u.step() == 1:
		return "every " + u.name
	case u.cycle():
		return fmt.Sprintf("every %d %ss", u.step(), u.name)
	}
	return "at " + u.part()
}

// part names the unit as the place of a smaller one.
func (u unit) part() string {
	switch n := u.step(); {
	case n == 1:
		return "every " + u.name
	case n > 0:
		return fmt.Sprintf("every %s %s from 0", ordinal(n), u.name)
	case len(u.values) == 1:
		return fmt.Sprintf("%s %d", u.name, u.values[0])
	}
	return u.name + "s " + ranges(u.values, strconv.Itoa)
}

// describeDate says on what days; for all of them "", or "every day" if asked.
func (f *fields) describeDate(daily bool) string {
	var parts []string
	doms, dows, months, years := values(f.dom), values(f.dow), values(f.month), f.year.values()
	if f.dow&1 != 0 && f.dow>>6 != 0 && len(dows) < 7 {
		dows = append(dows[1:], 7) // "Friday through Sunday"
	}
	weekday := func(n int) string { return time.Weekday(n % 7).String() }
	anyDay, anyWeekday := len(doms) == 31, len(dows) == 7
	if !anyDay {
		text := "on day " + ranges(doms, strconv.Itoa) + " of the month"
		if n := progression(doms); n > 1 && len(doms) > mostListed {
			text = fmt.Sprintf("on every %s day of the month from %d through %d", ordinal(n), doms[0], doms[len(doms)-1])
		} else if len(doms) > 1 {
			text = "on days " + ranges(doms, strconv.Itoa) + " of the month"
		}
		if !anyWeekday {
			text += " if it is " + orRanges(dows, weekday)
		}
		parts = append(parts, text)
	} else if !anyWeekday {
		parts = append(parts, "on "+ranges(dows, weekday))
	} else if daily {
		parts = append(parts, "every day")
	}
	if len(months) < 12 {
		parts = append(parts, "in "+ranges(months, func(n int) string { return time.Month(n).String() }))
	}
	if !f.year.full() {
		noun := "the year "
		if len(years) > 1 {
			noun = "the years "
		}
		parts = append(parts, "in "+noun+ranges(years, strconv.Itoa))
	}
	return strings.Join(parts, " ")
}

// ranges lists values, three and more in a row as a range.
func ranges(vs []int, name func(int) string) string { return list(rangeTexts(vs, name)) }

func orRanges(vs []int, name func(int) string) string { return join(rangeTexts(vs, name), "or") }

func rangeTexts(vs []int, name func(int) string) []string {
	if n := progression(vs); n > 1 && len(vs) > mostListed {
		return []string{fmt.Sprintf("%s through %s in steps of %d", name(vs[0]), name(vs[len(vs)-1]), n)}
	}
	var texts []string
	for from, to := range runs(vs) {
		switch to - from {
		case 0:
			texts = append(texts, name(from))
		case 1:
			texts = append(texts, name(from), name(to))
		default:
			texts = append(texts, name(from)+" through "+name(to))
		}
	}
	return texts
}

func list(texts []string) string { return join(texts, "and") }

func join(texts []string, word string) string {
	last := len(texts) - 1
	if last < 1 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:last], ", ") + " " + word + " " + texts[last]
}

func ordinal(n int) string {
	suffix := "th"
	if n%100/10 != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}

// describeDuration spells a number of seconds, "hour" for one of a kind alone.
func describeDuration(seconds int64) string {
	units := []struct {
		name string
		n    int64
	}{{"day", seconds / day}, {"hour", seconds / 3600 % 24}, {"minute", seconds / 60 % 60}, {"second", seconds % 60}}
	var texts []string
	for _, u := range units {
		switch {
		case u.n == 1:
			texts = append(texts, "1 "+u.name)
		case u.n > 1:
			texts = append(texts, fmt.Sprintf("%d %ss", u.n, u.name))
		}
	}
	if len(texts) == 1 {
		return strings.TrimPrefix(texts[0], "1 ")
	}
	return list(texts)
}
