package importtest

import (
	"go/parser"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cruster-go/cruster/internal/srctree"
)

func TestTreeFollowsTheGraph(t *testing.T) {
	t.Parallel()
	root, err := srctree.Root()
	if err != nil {
		t.Fatal(err)
	}
	_, pkgs, err := srctree.Packages(os.DirFS(root), parser.ImportsOnly)
	if err != nil {
		t.Fatalf("reading the tree: %v", err)
	}
	for _, fault := range checkTree(graph, pkgs) {
		t.Error(fault)
	}
}

func TestGraphKeepsItsShape(t *testing.T) {
	t.Parallel()
	for _, fault := range checkTable(graph) {
		t.Errorf("internal/importtest/graph.go: %s", fault)
	}
}

// TestCheckTree gives one wrong import at a time to the real table.
func TestCheckTree(t *testing.T) {
	t.Parallel()
	const m = srctree.Module
	tests := []struct {
		name, file, pkg, imports string
		want                     string // part of the fault, "" for none
	}{
		{"standard library", "crustertype/a.go", "crustertype", "net/http", ""},
		{"allowed arrow", "storage/a.go", "storage", m + "/crustertype", ""},
		{"allowed module", "codec/a.go", "codec", msgpack + "/v5", ""},
		{"module name is no prefix", "codec/a.go", "codec", msgpack + "x/v5", "not in the row of codec"},
		{"leaf with a module", "crustertype/a.go", "crustertype", msgpack + "/v5", "not in the row of crustertype"},
		{"port to port", "mailbox/a.go", "mailbox", m + "/journal", "not in the row of mailbox"},
		{"port to adapter", "storage/a.go", "storage", m + "/storage/sqlite", "picked by the user's main"},
		{"root to adapter", "a.go", "cruster", m + "/storage/postgres", "picked by the user's main"},
		{"root to pgx", "a.go", "cruster", pgx + "/v5", "not in the row of ."},
		{"below to root", "internal/runner/a.go", "runner", m, "nobody below the root imports it"},
		{"cgo", "storage/sqlite/a.go", "sqlite", "C", "without a C compiler"},
		{"new package", "storage/mysql/a.go", "mysql", "fmt", "has no row"},
		{"example to public package", "examples/orders/a.go", "main", m + "/storage/postgres", ""},
		{"example to any module", "examples/orders/shop/a.go", "shop", "example.com/shop", ""},
		{"example to internal", "examples/orders/a.go", "main", m + "/internal/runner", "users cannot import internal"},

		{"test to its own package", "journal/a_test.go", "journal_test", m + "/journal", ""},
		{"test to its own internal", "internal/handler/a_test.go", "handler", m + "/internal/handler/internal/elsewhere", ""},
		{"test to kit", "storage/sqlite/a_test.go", "sqlite", m + "/storage/storagetest", ""},
		{"test to memory", "internal/commit/a_test.go", "commit", m + "/storage/memory", ""},
		{"test to go-cmp", "journal/a_test.go", "journal", cmp + "/cmp", ""},
		{"code to go-cmp", "journal/a.go", "journal", cmp + "/cmp", "not in the row"},
		{"code to kit", "journal/a.go", "journal", m + "/journal/journaltest", "not in the row"},
		{"external test to root", "sharding/a_test.go", "sharding_test", m, ""},
		{"internal test to root", "sharding/a_test.go", "sharding", m, "package sharding_test"},
		{"root test to adapter", "a_test.go", "cruster_test", m + "/storage/sqlite", ""},
		{"port test to adapter", "mailbox/a_test.go", "mailbox_test", m + "/storage/sqlite", "picked by the user's main"},
		{"test to testify", "mailbox/a_test.go", "mailbox", "github.com/stretchr/testify/require", "write the check with those"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := "package " + tt.pkg + "\n\nimport _ \"" + tt.imports + "\"\n"
			_, pkgs, err := srctree.Packages(fstest.MapFS{tt.file: {Data: []byte(src)}}, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			faults := checkTree(graph, pkgs)
			if tt.want == "" {
				if len(faults) > 0 {
					t.Errorf("%s importing %s is refused, want allowed: %q", tt.file, tt.imports, faults)
				}
				return
			}
			if len(faults) != 1 || !strings.Contains(faults[0], tt.want) {
				t.Errorf("%s importing %s: faults %q, want one with %q", tt.file, tt.imports, faults, tt.want)
			}
			if len(faults) > 0 && !strings.Contains(faults[0], strings.TrimSuffix(tt.file, "/a.go")) {
				t.Errorf("fault %q does not name the place", faults[0])
			}
		})
	}
}

// TestCheckTable breaks one row at a time.
func TestCheckTable(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, row string
		rule      rule
		want      string
	}{
		{"root below", "journal", rule{inside: []string{"."}}, "row journal allows the root"},
		{"program below", "internal/tool", rule{program: true}, "row internal/tool allows the root"},
		{"adapter in the engine", "internal/runner", rule{inside: []string{"storage/sqlite"}}, "allows the adapter"},
		{"kit in the engine", "internal/runner", rule{inside: []string{"storage/storagetest"}}, "allows the test kit"},
		{"port to port", "mailbox", rule{inside: []string{"journal"}}, "a port imports leaves only"},
		{"unknown name", "codec", rule{inside: []string{"crustertypes"}}, "names crustertypes, which has no row"},
		{"cycle", "crustertype", rule{inside: []string{"codec", "storage"}}, "rows form a cycle"},
		{"heavy module", "scheduler", rule{outside: []string{pgx}}, "the root would pull"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table := maps.Clone(graph)
			table[tt.row] = tt.rule
			faults := checkTable(table)
			if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, tt.want) }) {
				t.Errorf("row %s = %+v: faults %q, want one with %q", tt.row, tt.rule, faults, tt.want)
			}
		})
	}
}
