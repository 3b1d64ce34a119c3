// Package srctree finds the Go packages and the documents of this module, for
// the tests that hold the whole tree to a rule.
//
// It reads files and runs nothing, so a test that uses it costs milliseconds
// and sees every file whatever its build tags say. Nested modules, testdata
// and hidden folders are left out: other rules hold there.
package srctree

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Module is the import path of the root package.
const Module = "github.com/cruster-go/cruster"

// A Package is one folder with Go files.
type Package struct {
	Path  string // folder relative to the module's root, "." for the root itself
	Files []File // in order of their names
}

// A File is one parsed Go file.
type File struct {
	Path  string // relative to the module's root
	Test  bool   // its name ends in _test.go
	Lines int
	AST   *ast.File
}

// External reports whether f is a test file in a package of its own, the
// x_test beside x.
func (f File) External() bool {
	return f.Test && strings.HasSuffix(f.AST.Name.Name, "_test")
}

// Root returns the folder that holds the module's go.mod, looking from the
// working directory upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && isModule(mod) {
			return dir, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("srctree: no go.mod of %s above the working directory", Module)
		}
		dir = up
	}
}

func isModule(mod []byte) bool {
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "module" {
			return f[1] == Module
		}
	}
	return false
}

// Packages parses every Go file of the module rooted at fsys. The mode is
// parser's: [parser.ImportsOnly] is enough for an import graph.
func Packages(fsys fs.FS, mode parser.Mode) (*token.FileSet, []Package, error) {
	fset := token.NewFileSet()
	byDir := make(map[string][]File)
	var faults []error
	err := walk(fsys, func(name string) error {
		if path.Ext(name) != ".go" {
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(fset, name, src, mode|parser.SkipObjectResolution)
		if err != nil {
			faults = append(faults, fmt.Errorf("does not parse: %w", err))
			return nil
		}
		dir := path.Dir(name)
		byDir[dir] = append(byDir[dir], File{
			Path:  name,
			Test:  strings.HasSuffix(name, "_test.go"),
			Lines: strings.Count(string(src), "\n"),
			AST:   tree,
		})
		return nil
	})
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, nil, err
	}
	pkgs := make([]Package, 0, len(byDir))
	for dir, files := range byDir {
		pkgs = append(pkgs, Package{Path: dir, Files: files})
	}
	slices.SortFunc(pkgs, func(a, b Package) int { return strings.Compare(a.Path, b.Path) })
	return fset, pkgs, nil
}

// Documents returns the paths of the Markdown files of the module rooted at
// fsys, in order.
func Documents(fsys fs.FS) ([]string, error) {
	var docs []string
	err := walk(fsys, func(name string) error {
		if path.Ext(name) == ".md" {
			docs = append(docs, name)
		}
		return nil
	})
	return docs, err
}

// walk calls visit for each file of the module in lexical order. A file that
// vanishes on the way is no error: an editor or another test may own it.
func walk(fsys fs.FS, visit func(name string) error) error {
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && name != "." {
				return nil
			}
			return err
		}
		base := path.Base(name)
		hidden := name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_"))
		if d.IsDir() {
			if hidden || base == "testdata" || base == "vendor" || base == "node_modules" || nested(fsys, name) {
				return fs.SkipDir
			}
			return nil
		}
		if hidden || !d.Type().IsRegular() {
			return nil
		}
		if err := visit(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func nested(fsys fs.FS, dir string) bool {
	if dir == "." {
		return false
	}
	_, err := fs.Stat(fsys, path.Join(dir, "go.mod"))
	return err == nil
}
