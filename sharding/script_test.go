package sharding_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/sharding"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into the scripts in testdata")

// TestScripts plays testdata/*.txt. A line such as
//
//	3s acquired a/1 runner=7 epoch=4
//
// is an event: its time, its kind, its shard, and the fields that are not zero.
// Below it stand, indented, the commands that follow and what became of the
// shards. A line "ttl=10s margin=2s" begins a runner, "#" a comment.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(raw))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(raw), got); diff != "" {
				t.Errorf("%s does not happen as written; look at the difference, then run the tests with -rewrite:\n%s", file, diff)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	t.Helper()
	var b strings.Builder
	o := newOwnership(t, nil)
	phases := map[crustertype.Shard]sharding.Phase{}
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "\t"):
			continue // the last result
		case line == "" || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&b, line)
			continue
		}
		fmt.Fprintln(&b, line)
		if strings.HasPrefix(line, "ttl=") {
			var opts sharding.LeaseOptions
			for i, word := range strings.Fields(line) {
				_, value, _ := strings.Cut(word, "=")
				*[]*time.Duration{&opts.TTL, &opts.Margin}[i] = duration(t, value)
			}
			o = newOwnership(t, &opts)
			clear(phases)
			continue
		}
		now, e := event(t, line)
		for _, c := range o.Step(now, e) {
			fmt.Fprintf(&b, "\t%s\n", c)
		}
		for _, id := range []crustertype.Shard{{Group: "a", Index: 1}, {Group: "a", Index: 2}, {Group: "b", Index: 1}} {
			if p := o.Phase(id); p != phases[id] {
				fmt.Fprintf(&b, "\t%s: %s to %s\n", id, phases[id], p)
				phases[id] = p
			}
		}
	}
	return b.String()
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newOwnership(tb testing.TB, opts *sharding.LeaseOptions) *sharding.Ownership {
	tb.Helper()
	o, err := sharding.NewOwnership(opts)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func event(t *testing.T, line string) (time.Time, sharding.Event) {
	t.Helper()
	words := strings.Fields(line)
	now := start.Add(duration(t, words[0]))
	var e sharding.Event
	for e.Kind.String() != words[1] {
		if e.Kind++; e.Kind > sharding.Released {
			t.Fatalf("%q: there is no event %q", line, words[1])
		}
	}
	e.Sent = now
	for _, word := range words[2:] {
		if group, index, ok := strings.Cut(word, "/"); ok {
			e.Shard = crustertype.Shard{Group: group, Index: int(number(t, index))}
			continue
		}
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "runner":
			e.Runner = crustertype.Incarnation(number(t, value))
		case "epoch":
			e.Epoch = number(t, value)
		case "sent":
			e.Sent = start.Add(duration(t, value))
		default:
			t.Fatalf("%q: there is no field %q", line, name)
		}
	}
	return now, e
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
