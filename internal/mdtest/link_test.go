package mdtest

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestCheckLinks(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{
		"README.md":    {Data: []byte("# The title, `code` & more\n## Twice\n## Twice\n```sh\n# no heading\n```\n## A [link](x)\n")},
		"docs/a.md":    {Data: []byte("# A\n")},
		"docs/img.png": {Data: []byte{1}},
	}
	tests := []struct {
		in, doc string
		want    string // part of the fault, "" for none
	}{
		{"README.md", "[a](docs/a.md) and [b](docs)", ""},
		{"README.md", "[a](docs/b.md)", "docs/b.md does not exist"},
		{"README.md", `![a](docs/img.png "title")`, ""},
		{"README.md", `<img src="docs/no.png">`, "docs/no.png does not exist"},
		{"README.md", "[a]: docs/b.md", "docs/b.md does not exist"},
		{"README.md", "[a](https://example.com/b.md), <mailto:a@example.com>", ""},
		{"README.md", "`[a](docs/b.md)`\n```\n[a](docs/b.md)\n```", ""},
		{"docs/a.md", "[r](../README.md) [r](/README.md)", ""},
		{"docs/a.md", "[r](../../README.md)", "leads out of the repository"},
		{"docs/a.md", "[r](../README.md#the-title-code--more)", ""},
		{"docs/a.md", "[r](../README.md#twice-1) [r](../README.md#a-link)", ""},
		{"docs/a.md", "[r](../README.md#twice-2)", "no heading for #twice-2"},
		{"docs/a.md", "[r](../README.md#no-heading)", "no heading"},
		{"docs/a.md", "[r](#a)", ""},
		{"docs/a.md", "[r](#b)", "no heading for #b"},
	}
	for _, tt := range tests {
		t.Run(tt.doc, func(t *testing.T) {
			t.Parallel()
			faults := checkLinks(fsys, tt.in, "\n"+tt.doc)
			if tt.want == "" {
				if len(faults) > 0 {
					t.Errorf("in %s: faults %q, want none", tt.in, faults)
				}
				return
			}
			if len(faults) != 1 || faults[0].line != 2 || !strings.Contains(faults[0].text, tt.want) {
				t.Errorf("in %s: faults %q, want one on line 2 with %q", tt.in, faults, tt.want)
			}
		})
	}
}
