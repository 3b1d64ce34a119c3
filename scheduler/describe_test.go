package scheduler_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/scheduler"
)

var update = flag.Bool("update", false, "write the texts in testdata")

// TestDescribe compares texts with testdata/describe.txt: after each expression
// follow its canonical form and its description, or what is wrong with it. A
// line "in ZONE" sets the zone from there on.
func TestDescribe(t *testing.T) {
	t.Parallel()
	const file = "testdata/describe.txt"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	loc := time.UTC
	var b strings.Builder
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		zone, isZone := strings.CutPrefix(line, "in ")
		switch {
		case isZone:
			if loc, err = time.LoadLocation(zone); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, line)
		case line == "" || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&b, line)
		case !strings.HasPrefix(line, "\t"):
			fmt.Fprintln(&b, line)
			s, err := scheduler.ParseIn(strings.Trim(line, "|"), loc)
			if err != nil {
				fmt.Fprintf(&b, "\terror: %v\n", err)
				continue
			}
			fmt.Fprintf(&b, "\t%s\n\t%s\n", s, s.Describe())
			if again, err := scheduler.ParseIn(s.String(), loc); err != nil || !again.Equal(s) {
				t.Errorf("%q is written as %q, which reads as %q, %v", line, s, again, err)
			}
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(raw), b.String()); diff != "" {
		t.Errorf("%s is out of date; look at the difference, then run the tests with -update:\n%s", file, diff)
	}
}
