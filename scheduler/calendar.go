package scheduler

import "math/bits"

// fields is a set of times on the wall. Such a time is counted in seconds since
// 1970-01-01 00:00 on that wall, as if no clock were ever changed.
type fields struct {
	second, minute, hour uint64 // bit n: value n
	dom, month           uint64 // bit n: value n, from 1
	dow                  uint64 // bit 0: Sunday
	year                 years
}

// years has a bit for each year from MinYear.
type years [4]uint64

func (y *years) add(year int)      { y[(year-MinYear)/64] |= 1 << ((year - MinYear) % 64) }
func (y *years) has(year int) bool { return y[(year-MinYear)/64]>>((year-MinYear)%64)&1 != 0 }

const day = 24 * 60 * 60

// everyHour reports whether the schedule follows the clock on the wall.
func (f *fields) everyHour() bool { return f.hour == 1<<24-1 }

// next returns the first time of the set at wall or after.
func (f *fields) next(wall int64) (int64, bool) {
	wall = max(wall, 0)
	days, rest := wall/day, int(wall%day)
	y, m, d := civil(days)
	if y > MaxYear {
		return 0, false
	}
	if f.year.has(y) && f.days(y, m)>>d&1 != 0 {
		if t, ok := f.timeFrom(rest); ok {
			return days*day + int64(t), true
		}
	}
	// The rest of this day is done with, matching or not.
	for from := d + 1; ; from = 1 {
		if f.year.has(y) {
			if mask := f.days(y, m) >> from; mask != 0 {
				first := bits.TrailingZeros64(f.hour)*3600 + bits.TrailingZeros64(f.minute)*60 + bits.TrailingZeros64(f.second)
				return daysOf(y, m, from+bits.TrailingZeros64(mask))*day + int64(first), true
			}
			m++
		} else {
			m = 13
		}
		if m > 12 {
			if y, m = y+1, 1; y > MaxYear {
				return 0, false
			}
		}
	}
}

// prev returns the last time of the set at wall or before.
func (f *fields) prev(wall int64) (int64, bool) {
	if wall < 0 {
		return 0, false
	}
	wall = min(wall, daysOf(MaxYear+1, 1, 1)*day-1)
	days, rest := wall/day, int(wall%day)
	y, m, d := civil(days)
	if f.year.has(y) && f.days(y, m)>>d&1 != 0 {
		if t, ok := f.timeUpTo(rest); ok {
			return days*day + int64(t), true
		}
	}
	for below := d; ; below = 32 { // days before the one that is done with
		if f.year.has(y) {
			if mask := f.days(y, m) & (1<<below - 1); mask != 0 {
				last := top(f.hour)*3600 + top(f.minute)*60 + top(f.second)
				return daysOf(y, m, top(mask))*day + int64(last), true
			}
			m--
		} else {
			m = 0
		}
		if m < 1 {
			if y, m = y-1, 12; y < MinYear {
				return 0, false
			}
		}
	}
}

// timeFrom returns the first time of day in the set from the given second on.
func (f *fields) timeFrom(of int) (int, bool) {
	h, m, s := of/3600, of/60%60, of%60
	first := bits.TrailingZeros64(f.second)
	if f.hour>>h&1 != 0 {
		if f.minute>>m&1 != 0 {
			if mask := f.second >> s; mask != 0 {
				return h*3600 + m*60 + s + bits.TrailingZeros64(mask), true
			}
		}
		if mask := f.minute >> (m + 1); mask != 0 {
			return h*3600 + (m+1+bits.TrailingZeros64(mask))*60 + first, true
		}
	}
	if mask := f.hour >> (h + 1); mask != 0 {
		return (h+1+bits.TrailingZeros64(mask))*3600 + bits.TrailingZeros64(f.minute)*60 + first, true
	}
	return 0, false
}

// timeUpTo returns the last time of day in the set up to the given second.
func (f *fields) timeUpTo(of int) (int, bool) {
	h, m, s := of/3600, of/60%60, of%60
	if f.hour>>h&1 != 0 {
		if f.minute>>m&1 != 0 {
			if mask := f.second & (2<<s - 1); mask != 0 {
				return h*3600 + m*60 + top(mask), true
			}
		}
		if mask := f.minute & (1<<m - 1); mask != 0 {
			return h*3600 + top(mask)*60 + top(f.second), true
		}
	}
	if mask := f.hour & (1<<h - 1); mask != 0 {
		return top(mask)*3600 + top(f.minute)*60 + top(f.second), true
	}
	return 0, false
}

// days returns the days of a month that match, the year left out.
func (f *fields) days(y, m int) uint64 {
	if f.month>>m&1 == 0 {
		return 0
	}
	mask := f.dom & (2<<monthLen(y, m) - 1)
	if f.dow == 1<<7-1 {
		return mask
	}
	weekday := int((daysOf(y, m, 1) + 4) % 7)            // of the first; 1970-01-01 was a Thursday
	week := (f.dow>>weekday | f.dow<<(7-weekday)) & 0x7f // bit 0: weekday of the first
	return mask & ((week | week<<7 | week<<14 | week<<21 | week<<28) << 1)
}

func top(mask uint64) int { return bits.Len64(mask) - 1 }

func monthLen(y, m int) int {
	switch m {
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysOf returns the days from 1970-01-01 to a date from then on. Years begin
// in March here, so that the leap day is the last of its year.
func daysOf(y, m, d int) int64 {
	if m < 3 {
		y, m = y-1, m+12
	}
	return int64(y*365 + y/4 - y/100 + y/400 + (153*(m-3)+2)/5 + d - 1 - 719468)
}

// civil is the reverse of daysOf.
func civil(days int64) (y, m, d int) {
	z := days + 719468
	era := z / 146097 // 400 years
	doe := z % 146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := int(doe - (365*yoe + yoe/4 - yoe/100))
	mp := (5*doy + 2) / 153
	y, m, d = int(yoe+era*400), mp+3, doy-(153*mp+2)/5+1
	if m > 12 {
		y, m = y+1, m-12
	}
	return y, m, d
}
