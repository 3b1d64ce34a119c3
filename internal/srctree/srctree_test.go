package srctree

import (
	"go/parser"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func file(src string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(src)} }

func TestPackagesLeavesOutOtherRules(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{
		"go.mod":              file("module " + Module + "\n"),
		"a.go":                file("package a\n\nimport \"fmt\"\n"),
		"a_test.go":           file("package a_test\n"),
		"b/b.go":              file("//go:build never\n\npackage b\n"),
		"b/b_test.go":         file("package b\n"),
		"b/testdata/bad.go":   file("not Go"),
		"bench/go.mod":        file("module bench\n"),
		"bench/bench.go":      file("package bench\n"),
		".hidden/x.go":        file("package x\n"),
		"_old/x.go":           file("package x\n"),
		"b/_draft.go":         file("not Go"),
		"docs/README.md":      file("# Docs\n"),
		"bench/README.md":     file("# Bench\n"),
		"docs/testdata/no.md": file("# no\n"),
	}
	_, pkgs, err := Packages(fsys, parser.ImportsOnly)
	if err != nil {
		t.Fatalf("Packages = %v", err)
	}
	var got []string
	for _, p := range pkgs {
		for _, f := range p.Files {
			kind := ""
			if f.Test {
				kind = " test"
			}
			if f.External() {
				kind = " external"
			}
			got = append(got, p.Path+": "+f.Path+kind)
		}
	}
	want := []string{".: a.go", ".: a_test.go external", "b: b/b.go", "b: b/b_test.go test"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files found (-want +got); nested modules, testdata and hidden names must be left out, tagged files must not:\n%s", diff)
	}

	docs, err := Documents(fsys)
	if err != nil {
		t.Fatalf("Documents = %v", err)
	}
	if diff := cmp.Diff([]string{"docs/README.md"}, docs); diff != "" {
		t.Errorf("documents found (-want +got):\n%s", diff)
	}
}

func TestPackagesNamesEveryBrokenFile(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{"a/a.go": file("pakage a"), "b/b.go": file("package")}
	_, _, err := Packages(fsys, parser.ImportsOnly)
	if err == nil {
		t.Fatal("Packages of a tree with broken files succeeded")
	}
	for _, want := range []string{"a/a.go", "b/b.go"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

func TestRootIsThisModule(t *testing.T) {
	t.Parallel()
	root, err := Root()
	if err != nil {
		t.Fatalf("Root = %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "internal", "srctree", "srctree.go")); err != nil {
		t.Errorf("Root = %q does not hold this package: %v", root, err)
	}
}
