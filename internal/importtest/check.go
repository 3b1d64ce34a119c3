package importtest

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cruster-go/cruster/internal/srctree"
)

// checkTree returns one text for each import that the table does not allow and
// for each package that it does not know.
func checkTree(table map[string]rule, pkgs []srctree.Package) []string {
	var faults []string
	for _, p := range pkgs {
		r, ok := lookup(table, p.Path)
		if !ok {
			faults = append(faults, fmt.Sprintf(
				"package %s has no row in the import graph: add one to internal/importtest/graph.go, in the layer it belongs to, with the fewest imports that compile",
				p.Path))
			continue
		}
		for _, f := range p.Files {
			for _, spec := range f.AST.Imports {
				name, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					faults = append(faults, fmt.Sprintf("%s: import %s: %v", f.Path, spec.Path.Value, err))
					continue
				}
				if why := r.refuses(table, p.Path, f, name); why != "" {
					faults = append(faults, fmt.Sprintf("%s imports %s: %s", f.Path, name, why))
				}
			}
		}
	}
	return faults
}

// lookup returns the row of a package: its own, or that of the nearest folder
// above which has a "/*" row.
func lookup(table map[string]rule, pkg string) (rule, bool) {
	if r, ok := table[pkg]; ok {
		return r, true
	}
	for dir := path.Dir(pkg); dir != "."; dir = path.Dir(dir) {
		if r, ok := table[dir+"/*"]; ok {
			return r, true
		}
	}
	return rule{}, false
}

// refuses returns why file f of package pkg may not import name, or "".
func (r rule) refuses(table map[string]rule, pkg string, f srctree.File, name string) string {
	if folder, ok := inModule(name); ok {
		return r.refusesInside(pkg, f, folder)
	}
	if name == "C" {
		return "the library is pure Go and must build without a C compiler; find a Go package or write the code"
	}
	if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
		return "" // standard library
	}
	if r.program || within(r.outside, name) {
		return ""
	}
	if f.Test && (within(inTests, name) || within(r.testsOut, name)) {
		return ""
	}
	if f.Test && testsOnly(table, name) {
		return "test files use the testing package, go-cmp and goleak; write the check with those"
	}
	return fmt.Sprintf("this module is not in the row of %s; do without it, or add it in internal/importtest/graph.go and give the reason in the commit", pkg)
}

func (r rule) refusesInside(pkg string, f srctree.File, folder string) string {
	switch {
	case slices.Contains(r.inside, folder) || strings.HasPrefix(folder, pkg+"/internal/"):
		return "" // what lies under its own internal/ is part of a package
	case r.program && !isInternal(folder):
		return ""
	case f.Test && (folder == pkg || isKit(folder) || folder == "storage/memory" || slices.Contains(r.tests, folder)):
		return ""
	case f.External() && folder == ".":
		return ""
	case r.program:
		return "a program shows what users can write, and users cannot import internal packages; export what it needs or do without"
	case folder == "." && f.Test:
		return fmt.Sprintf("tests inside %s sit below the root; move this test to package %s_test", pkg, path.Base(pkg))
	case folder == ".":
		return "nobody below the root imports it; move what both need to crustertype, or take a func or a small interface in the constructor"
	case slices.Contains(adapters, folder):
		return "an adapter is picked by the user's main; depend on the port it implements"
	}
	return fmt.Sprintf("this arrow is not in the row of %s; if it points down, add it in internal/importtest/graph.go, otherwise move what both need to crustertype or take a func or a small interface in the constructor", pkg)
}

// checkTable returns one text for each row that breaks the shape of the graph,
// so that a wrong arrow cannot be made right by writing it into the table.
func checkTable(table map[string]rule) []string {
	var faults []string
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, pkg := range sortedKeys(table) {
		r := table[pkg]
		above := slices.Contains(aboveRoot, pkg)
		if !above && (r.program || slices.Contains(r.inside, ".")) {
			add("row %s allows the root: only %s are above it", pkg, strings.Join(aboveRoot, ", "))
		}
		for _, in := range append(slices.Clone(r.inside), r.tests...) {
			if _, ok := table[in]; !ok {
				add("row %s names %s, which has no row: a typing error, or a package that is gone", pkg, in)
			}
		}
		for _, in := range r.inside {
			if slices.Contains(adapters, in) && !above {
				add("row %s allows the adapter %s: only programs and test kits above the root may", pkg, in)
			}
			if isKit(in) {
				add("row %s allows the test kit %s outside of tests: test files may import kits without a row", pkg, in)
			}
			if slices.Contains(ports, pkg) && in != "crustertype" && in != "codec" {
				add("row %s allows %s: a port imports leaves only, ports do not know each other", pkg, in)
			}
		}
		if cycle := findCycle(table, pkg); cycle != nil {
			add("rows form a cycle: %s", strings.Join(cycle, " -> "))
		}
	}
	for _, pkg := range reach(table, ".") {
		for _, module := range table[pkg].outside {
			if !slices.Contains(rootModules, module) {
				add("the root would pull %s into every program, through %s: keep it in an adapter", module, pkg)
			}
		}
	}
	return faults
}

// reach returns every package that the table lets pkg import, directly or not,
// pkg itself included.
func reach(table map[string]rule, pkg string) []string {
	seen := map[string]bool{pkg: true}
	for todo := []string{pkg}; len(todo) > 0; {
		next := todo[0]
		todo = todo[1:]
		for _, in := range table[next].inside {
			if !seen[in] {
				seen[in] = true
				todo = append(todo, in)
			}
		}
	}
	return sortedKeys(seen)
}

// findCycle returns a path of rows from pkg back to pkg, or nil.
func findCycle(table map[string]rule, pkg string) []string {
	seen := make(map[string]bool)
	var visit func(at string, way []string) []string
	visit = func(at string, way []string) []string {
		way = append(slices.Clip(way), at)
		for _, in := range table[at].inside {
			if in == pkg {
				return append(way, pkg)
			}
			if !seen[in] {
				seen[in] = true
				if found := visit(in, way); found != nil {
					return found
				}
			}
		}
		return nil
	}
	return visit(pkg, nil)
}

func inModule(name string) (folder string, ok bool) {
	if name == srctree.Module {
		return ".", true
	}
	return strings.CutPrefix(name, srctree.Module+"/")
}

func within(modules []string, name string) bool {
	return slices.ContainsFunc(modules, func(m string) bool {
		return name == m || strings.HasPrefix(name, m+"/")
	})
}

func isInternal(folder string) bool {
	return slices.Contains(strings.Split(folder, "/"), "internal")
}

// isKit reports whether folder holds help for tests: its name says so, as in
// storage/storagetest or internal/testpg.
func isKit(folder string) bool {
	base := path.Base(folder)
	return strings.HasSuffix(base, "test") || isInternal(folder) && strings.HasPrefix(base, "test")
}

// testsOnly reports whether no row allows name, in which case asking for a row
// would be the wrong advice.
func testsOnly(table map[string]rule, name string) bool {
	for _, r := range table {
		if within(r.outside, name) || within(r.testsOut, name) {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
