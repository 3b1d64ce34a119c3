package handler_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the texts in testdata")

// golden is a set of error texts by case.
type golden map[string]string

var (
	place   = regexp.MustCompile(`[^ (]*/(\w+\.go):\d+`)
	closure = regexp.MustCompile(`\S+\.func\d+ `) // depends on inlining
)

func (g golden) add(name string, err error) {
	text := "no error"
	if err != nil {
		text = closure.ReplaceAllString(place.ReplaceAllString(err.Error(), "$1:N"), "x.func1 ")
	}
	g[name] = text
}

// compare compares the texts with testdata/name.txt, or writes it.
func (g golden) compare(t *testing.T, name string) {
	t.Helper()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(g)) {
		fmt.Fprintf(&b, "== %s\n%s\n", k, g[k])
	}
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")); diff != "" {
		t.Errorf("texts differ from %s; run with -update if they should (-want +got):\n%s", file, diff)
	}
}
