package mdtest

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/cruster-go/cruster/internal/srctree"
)

var update = flag.Bool("update", false, "rewrite the blocks that name a source from that source")

func TestDocuments(t *testing.T) {
	t.Parallel()
	root, err := srctree.Root()
	if err != nil {
		t.Fatal(err)
	}
	fsys := os.DirFS(root)
	docs, err := srctree.Documents(fsys)
	if err != nil {
		t.Fatalf("reading the tree: %v", err)
	}
	for _, name := range docs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(root, filepath.FromSlash(name))
			doc, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			faults, updated := checkFences(fsys, name, string(doc))
			if *update && updated != string(doc) {
				if err := os.WriteFile(file, []byte(updated), 0o644); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s rewritten from the code", name)
				faults, _ = checkFences(fsys, name, updated)
			}
			for _, f := range append(faults, checkLinks(fsys, name, string(doc))...) {
				t.Errorf("%s:%s", name, f)
			}
		})
	}
	for _, name := range []string{README, "docs/README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Errorf("%s is missing: a reader looks for it at this place", name)
		}
	}
}
