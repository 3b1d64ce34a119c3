package mdtest

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// README is the document in which every block of Go is compiled code.
const README = "README.md"

// A fence is one fenced block of a document.
type fence struct {
	info       string   // what follows the opening backquotes
	indent     string   // white space before the opening backquotes
	begin, end int      // line indices of the text, end excluded
	text       []string // with the indent of the fence removed
}

// fences returns the fenced blocks of a document given as lines.
func fences(lines []string) ([]fence, error) {
	var found []fence
	for i := 0; i < len(lines); i++ {
		body := strings.TrimLeft(lines[i], " \t")
		mark := opening(body)
		if mark == "" {
			continue
		}
		f := fence{
			info:   strings.TrimSpace(strings.TrimLeft(body, mark[:1])),
			indent: lines[i][:len(lines[i])-len(body)],
			begin:  i + 1,
		}
		for i++; i < len(lines) && !closes(lines[i], mark); i++ {
			f.text = append(f.text, strings.TrimPrefix(lines[i], f.indent))
		}
		if i == len(lines) {
			return nil, fmt.Errorf("line %d: the block that begins here never ends: close it with %s", f.begin, mark)
		}
		f.end = i
		found = append(found, f)
	}
	return found, nil
}

// opening returns the backquotes or tildes that open a block, or "".
func opening(body string) string {
	for _, c := range []string{"`", "~"} {
		if n := len(body) - len(strings.TrimLeft(body, c)); n >= 3 && !strings.Contains(body[n:], "`") {
			return body[:n]
		}
	}
	return ""
}

func closes(line, mark string) bool {
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), mark)
	return ok && strings.Trim(rest, mark[:1]) == ""
}

// source returns the file and the region that the info string of a block of Go
// names. ok is false when the block is not Go.
func (f fence) source() (file, region string, ok bool, err error) {
	words := strings.Fields(f.info)
	if len(words) == 0 || words[0] != "go" {
		return "", "", false, nil
	}
	for _, w := range words[1:] {
		value, found := strings.CutPrefix(w, "file=")
		if !found {
			return "", "", true, fmt.Errorf("unknown word %q after ```go: the only one is file=path/to/file.go#region", w)
		}
		file, region, _ = strings.Cut(value, "#")
		if file == "" || path.Ext(file) != ".go" || !fs.ValidPath(file) || strings.Contains("/"+file, "/testdata/") {
			return "", "", true, fmt.Errorf("%q names no compiled file: write the path of a .go file from the root of the repository, outside of testdata", w)
		}
	}
	return file, region, true, nil
}

// A fault is one block that differs from its source, or cannot be checked.
type fault struct {
	line int // where the block begins, from 1
	text string
}

func (f fault) String() string { return fmt.Sprintf("%d: %s", f.line, f.text) }

// checkFences compares the blocks of document name with the tree. It returns
// the faults found and the document as it should be.
func checkFences(fsys fs.FS, name, doc string) (faults []fault, updated string) {
	lines := strings.Split(doc, "\n")
	found, err := fences(lines)
	if err != nil {
		return []fault{{text: err.Error()}}, doc
	}
	var out []string
	from := 0
	for _, f := range found {
		add := func(format string, args ...any) {
			faults = append(faults, fault{f.begin, fmt.Sprintf(format, args...)})
		}
		file, region, isGo, err := f.source()
		switch {
		case !isGo:
			continue
		case err != nil:
			add("%v", err)
			continue
		case file == "" && name == README:
			add("a block of Go without its source: write ```go file=path/to/file.go#region and mark the region in that file with // docs:begin region and // docs:end region")
			continue
		case file == "" && strings.HasPrefix(name, "docs/"):
			if err := parses(strings.Join(f.text, "\n")); err != nil {
				add("this block is no Go: %v; correct it, or take compiled code with file=path/to/file.go#region", err)
			}
			continue
		case file == "":
			continue
		}
		want, err := regionOf(fsys, file, region)
		if err != nil {
			add("%v", err)
			continue
		}
		got := tidy(f.text)
		if strings.Join(got, "\n") == strings.Join(want, "\n") {
			continue
		}
		add("this block is not what %s says (- document, + code); run: go test ./internal/mdtest -update\n%s", target(file, region), diff(got, want))
		out = append(out, lines[from:f.begin]...)
		for _, l := range want {
			if l != "" {
				l = f.indent + l
			}
			out = append(out, l)
		}
		from = f.end
	}
	return faults, strings.Join(append(out, lines[from:]...), "\n")
}

func target(file, region string) string {
	if region == "" {
		return file
	}
	return file + "#" + region
}

// regionOf returns the lines of a region of a file, or of the whole file when
// region is empty, without the comments that mark regions.
func regionOf(fsys fs.FS, file, region string) ([]string, error) {
	src, err := fs.ReadFile(fsys, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: correct the path after file=, which starts at the root of the repository", file)
	}
	if err != nil {
		return nil, err
	}
	var text []string
	inside, seen := region == "", region == ""
	for i, line := range strings.Split(string(src), "\n") {
		verb, name, marked := marker(line)
		switch {
		case !marked:
			if inside {
				text = append(text, line)
			}
		case region == "" || name != region:
		case verb == "begin" && seen:
			return nil, fmt.Errorf("%s:%d: region %q begins twice: give each region a name of its own", file, i+1, region)
		case verb == "begin":
			inside, seen = true, true
		case !inside:
			return nil, fmt.Errorf("%s:%d: region %q ends before it begins", file, i+1, region)
		default:
			inside = false
		}
	}
	if !seen {
		return nil, fmt.Errorf("%s has no region %q: mark it with // docs:begin %s and // docs:end %s", file, region, region, region)
	}
	if inside && region != "" {
		return nil, fmt.Errorf("%s: region %q never ends: add // docs:end %s", file, region, region)
	}
	return tidy(text), nil
}

func marker(line string) (verb, name string, ok bool) {
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "//" {
		return "", "", false
	}
	verb, ok = strings.CutPrefix(f[1], "docs:")
	return verb, f[2], ok && (verb == "begin" || verb == "end")
}

// tidy removes white space at the ends of lines, blank lines at both ends, and
// the indentation that all lines share.
func tidy(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		out = append(out, strings.TrimRight(l, " \t\r"))
	}
	for len(out) > 0 && out[0] == "" {
		out = out[1:]
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	shared, first := "", true
	for _, l := range out {
		if l == "" {
			continue
		}
		lead := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		if first {
			shared, first = lead, false
		}
		for !strings.HasPrefix(lead, shared) {
			shared = shared[:len(shared)-1]
		}
	}
	for i, l := range out {
		out[i] = strings.TrimPrefix(l, shared)
	}
	return out
}

// An ellipsis on a line of its own, or as a whole body, stands for code that
// is left out.
var (
	ellipsisLine = regexp.MustCompile(`(?m)^\s*(\.\.\.|…)\s*$`)
	ellipsisBody = regexp.MustCompile(`\{\s*(\.\.\.|…)\s*\}`)
)

// parses reports whether text is a file, declarations, statements, or blank
// line separated pieces of those.
func parses(text string) error {
	text = ellipsisBody.ReplaceAllString(ellipsisLine.ReplaceAllString(text, ""), "{}")
	whole := piece(text)
	if whole == nil {
		return nil
	}
	// Declarations and statements together: read on from blank line to blank
	// line until what was read makes sense.
	var held []string
	for part := range strings.SplitSeq(text, "\n\n") {
		held = append(held, part)
		if piece(strings.Join(held, "\n\n")) == nil {
			held = nil
		}
	}
	if len(held) == 0 {
		return nil
	}
	return whole
}

func piece(text string) error {
	try := func(src string) error {
		_, err := parser.ParseFile(token.NewFileSet(), "", src, parser.SkipObjectResolution)
		return err
	}
	if try(text) == nil || try("package p; "+text) == nil {
		return nil
	}
	return try("package p; func _() { " + text + "\n}")
}

// diff shows the lines that lead from a to b, with the longest common part
// kept as it is.
func diff(a, b []string) string {
	// same[i][j] is the length of the longest common part of a[i:] and b[j:].
	same := make([][]int, len(a)+1)
	for i := range same {
		same[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				same[i][j] = same[i+1][j+1] + 1
			} else {
				same[i][j] = max(same[i+1][j], same[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out.WriteString("  " + a[i] + "\n")
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && same[i+1][j] >= same[i][j+1]:
			out.WriteString("- " + a[i] + "\n")
			i++
		default:
			out.WriteString("+ " + b[j] + "\n")
			j++
		}
	}
	return out.String()
}
