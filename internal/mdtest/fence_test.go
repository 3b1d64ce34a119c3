package mdtest

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const program = `package main

func main() {
	// docs:begin start
	svc := start()
	// docs:begin inner
	if svc != nil {
		svc.Wait()
	}
	// docs:end inner

	// docs:end start
	// docs:begin open
}
`

var tree = fstest.MapFS{"examples/a/main.go": {Data: []byte(program)}}

func TestCheckFences(t *testing.T) {
	t.Parallel()
	const start = "svc := start()\nif svc != nil {\n\tsvc.Wait()\n}\n"
	tests := []struct {
		name, doc string
		in        string   // document's path, README.md when empty
		want      []string // part of each fault
		update    string   // the document after -update, doc when empty
	}{
		{name: "no block", doc: "# Title\n"},
		{name: "equal", doc: "```go file=examples/a/main.go#start\n" + start + "```\n"},
		{name: "equal but for white space", doc: "```go file=examples/a/main.go#start\n\n\tsvc := start()  \n\tif svc != nil {\n\t\tsvc.Wait()\n\t}\n```\n"},
		{name: "in a list", doc: "- one\n\n  ```go file=examples/a/main.go#inner\n  if svc != nil {\n  \tsvc.Wait()\n  }\n  ```\n"},
		{
			name:   "different",
			doc:    "before\n```go file=examples/a/main.go#inner\nif svc == nil {\n\tsvc.Wait()\n}\n```\nafter\n",
			want:   []string{"- if svc == nil {\n+ if svc != nil {\n  \tsvc.Wait()\n  }\n"},
			update: "before\n```go file=examples/a/main.go#inner\nif svc != nil {\n\tsvc.Wait()\n}\n```\nafter\n",
		},
		{
			name:   "empty ones are filled, the indent stays",
			doc:    "```go file=examples/a/main.go#start\n```\n\n  ```go file=examples/a/main.go#inner\n  ```\n",
			want:   []string{"+ svc := start()", "+ if svc != nil"},
			update: "```go file=examples/a/main.go#start\n" + start + "```\n\n  ```go file=examples/a/main.go#inner\n  if svc != nil {\n  \tsvc.Wait()\n  }\n  ```\n",
		},
		{name: "no source in the README", doc: "```go\nx := 1\n```\n", want: []string{"without its source"}},
		{name: "other languages are free", doc: "```sh\ngo run\n```\n\n~~~\nx\n~~~\n"},
		{name: "no file", doc: "```go file=examples/b/main.go\n```\n", want: []string{"examples/b/main.go does not exist"}},
		{name: "no region", doc: "```go file=examples/a/main.go#stop\n```\n", want: []string{`no region "stop"`}},
		{name: "open region", doc: "```go file=examples/a/main.go#open\n```\n", want: []string{"never ends"}},
		{name: "not compiled", doc: "```go file=a/testdata/x.go\n```\n", want: []string{"names no compiled file"}},
		{name: "out of the tree", doc: "```go file=../x.go\n```\n", want: []string{"names no compiled file"}},
		{name: "typing error", doc: "```go fiel=x.go\n```\n", want: []string{`unknown word "fiel=x.go"`}},
		{name: "never closed", doc: "```go\n", want: []string{"never ends"}},

		{name: "statements", in: "docs/a.md", doc: "```go\nx := 1\nuse(x)\n```\n"},
		{name: "left out", in: "docs/a.md", doc: "```go\nfunc F() error { ... }\nfunc G() {\n\t...\n}\n```\n"},
		{name: "mixed", in: "docs/a.md", doc: "```go\ntype T struct{}\n\nfunc (T) M() {\n\n}\n\nt := T{}\nt.M()\n```\n"},
		{name: "no Go", in: "docs/a.md", doc: "```go\nx := := 1\n```\n", want: []string{"this block is no Go"}},
		{name: "free elsewhere", in: "storage/DESIGN.md", doc: "```go\nx := := 1\n```\n"},
		{name: "named elsewhere", in: "storage/DESIGN.md", doc: "```go file=examples/a/main.go#stop\n```\n", want: []string{"no region"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := tt.in
			if in == "" {
				in = README
			}
			faults, updated := checkFences(tree, in, tt.doc)
			if len(faults) != len(tt.want) {
				t.Fatalf("faults %q, want %d", faults, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(faults[i].text, want) {
					t.Errorf("fault %q, want one with %q", faults[i].text, want)
				}
			}
			want := tt.update
			if want == "" {
				want = tt.doc
			}
			if d := cmp.Diff(want, updated); d != "" {
				t.Errorf("document after -update (-want +got):\n%s", d)
			}
			if tt.update != "" {
				if again, _ := checkFences(tree, in, updated); len(again) > 0 {
					t.Errorf("the updated document still has faults: %q", again)
				}
			}
		})
	}
}

func TestCheckFencesTakesAWholeFile(t *testing.T) {
	t.Parallel()
	_, updated := checkFences(tree, README, "```go file=examples/a/main.go\n```\n")
	if !strings.Contains(updated, "package main\n") || strings.Contains(updated, "docs:") {
		t.Errorf("updated document %q: want the whole file without the comments that mark regions", updated)
	}
}
