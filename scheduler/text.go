package scheduler

import (
	"fmt"
	"iter"
	"math/bits"
	"strings"
	"time"
)

// String returns the expression in its canonical form, which Parse reads back:
// equal sets of times have equal texts, with as few fields as they need. The
// time zone is not part of it. The zero value gives "".
func (s Schedule) String() string {
	switch {
	case s.IsZero():
		return ""
	case s.every > 0:
		d := (time.Duration(s.every) * time.Second).String()
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(d, zero) {
				d = d[:len(d)-2]
			}
		}
		return everyPrefix + " " + d
	}
	var texts []string
	if s.set.second != 1 || !s.set.year.full() {
		texts = append(texts, layout[secondField].format(values(s.set.second)))
	}
	for i, set := range []uint64{s.set.minute, s.set.hour, s.set.dom, s.set.month, s.set.dow} {
		texts = append(texts, layout[minuteField+i].format(values(set)))
	}
	if !s.set.year.full() {
		texts = append(texts, layout[yearField].format(s.set.year.values()))
	}
	return strings.Join(texts, " ")
}

// format writes a set of values as a field.
func (f *field) format(vs []int) string {
	if len(vs) == f.max-f.min+1 {
		return "*"
	}
	if step := progression(vs); step > 1 {
		last := vs[len(vs)-1]
		if vs[0] == f.min && last+step > f.max {
			return fmt.Sprintf("*/%d", step)
		}
		return fmt.Sprintf("%d-%d/%d", vs[0], last, step)
	}
	var b strings.Builder
	for from, to := range runs(vs) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		switch to - from {
		case 0:
			fmt.Fprintf(&b, "%d", from)
		case 1:
			fmt.Fprintf(&b, "%d,%d", from, to)
		default:
			fmt.Fprintf(&b, "%d-%d", from, to)
		}
	}
	return b.String()
}

// progression returns the step between values that are equally far apart, from
// three values on; otherwise 0.
func progression(vs []int) int {
	if len(vs) < 3 {
		return 0
	}
	step := vs[1] - vs[0]
	for i := 2; i < len(vs); i++ {
		if vs[i]-vs[i-1] != step {
			return 0
		}
	}
	return step
}

// runs yields the first and the last of each row of consecutive values.
func runs(vs []int) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		for i := 0; i < len(vs); {
			j := i
			for j+1 < len(vs) && vs[j+1] == vs[j]+1 {
				j++
			}
			if !yield(vs[i], vs[j]) {
				return
			}
			i = j + 1
		}
	}
}

func values(set uint64) []int {
	var vs []int
	for ; set != 0; set &= set - 1 {
		vs = append(vs, bits.TrailingZeros64(set))
	}
	return vs
}

func (y *years) values() []int {
	var vs []int
	for year := MinYear; year <= MaxYear; year++ {
		if y.has(year) {
			vs = append(vs, year)
		}
	}
	return vs
}

func (y *years) full() bool {
	return *y == years{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<(MaxYear-MinYear+1-3*64) - 1}
}
