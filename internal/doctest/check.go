package doctest

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"

	"github.com/cruster-go/cruster/internal/srctree"
)

// Budgets in lines, tests and generated files not counted.
const (
	maxFile = 500
	maxRoot = 3000
)

// smallInterface is how many methods the comment of an interface can explain.
const smallInterface = 4

// checkSizes returns one text for each file, and for the root package, over
// its budget.
func checkSizes(pkgs []srctree.Package) []string {
	var faults []string
	for _, p := range pkgs {
		sum := 0
		for _, f := range p.Files {
			if f.Test || ast.IsGenerated(f.AST) {
				continue
			}
			sum += f.Lines
			if f.Lines > maxFile {
				faults = append(faults, fmt.Sprintf(
					"%s has %d lines, more than %d: split it by concept, one main type a file", f.Path, f.Lines, maxFile))
			}
		}
		if p.Path == "." && sum > maxRoot {
			faults = append(faults, fmt.Sprintf(
				"the root package has %d lines, more than %d: it is a table of contents; move what users do not type into internal/", sum, maxRoot))
		}
	}
	return faults
}

// checkSleeps returns one text for each test file that waits for real time to
// pass. In a bubble of testing/synctest, of which every crustertest cluster is
// one, sleeping takes no time and ends for certain.
func checkSleeps(fset *token.FileSet, pkgs []srctree.Package) []string {
	var faults []string
	for _, p := range pkgs {
		for _, f := range p.Files {
			if !f.Test || imports(f.AST, "testing/synctest") || imports(f.AST, srctree.Module+"/crustertest") || !imports(f.AST, "time") {
				continue
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != "Sleep" {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					faults = append(faults, fmt.Sprintf(
						"%s:%d: time.Sleep in real time is slow and still not certain: wait on a channel, or run the test in testing/synctest",
						f.Path, fset.Position(sel.Pos()).Line))
				}
				return true
			})
		}
	}
	return faults
}

func imports(f *ast.File, name string) bool {
	return slices.ContainsFunc(f.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == strconv.Quote(name) })
}

// checkPackageDocs returns one text for each package without a comment that
// says what it is for. A folder of tests alone needs none.
func checkPackageDocs(pkgs []srctree.Package) []string {
	var faults []string
	for _, p := range pkgs {
		code, documented := false, false
		for _, f := range p.Files {
			if !f.Test {
				code = true
				documented = documented || hasText(f.AST.Doc)
			}
		}
		if code && !documented {
			name := p.Files[0].AST.Name.Name
			faults = append(faults, fmt.Sprintf(
				"package %s has no comment: write \"// Package %s ...\" above the package clause of its main file, or in doc.go when it is longer than 15 lines",
				p.Path, name))
		}
	}
	return faults
}

// checkExports returns one text for each exported name without a comment in
// the packages that users can import.
func checkExports(fset *token.FileSet, pkgs []srctree.Package) []string {
	var faults []string
	for _, p := range pkgs {
		if !public(p.Path) {
			continue
		}
		for _, f := range p.Files {
			if f.Test || f.AST.Name.Name == "main" || ast.IsGenerated(f.AST) {
				continue
			}
			c := checker{fset: fset, add: func(pos token.Pos, what string) {
				faults = append(faults, fmt.Sprintf(
					"%s:%d: %s has no comment: say what a caller must know, or make it unexported", f.Path, fset.Position(pos).Line, what))
			}}
			for _, d := range f.AST.Decls {
				c.decl(d)
			}
		}
	}
	return faults
}

// public reports whether users meet the package in its documentation.
func public(pkg string) bool {
	parts := strings.Split(pkg, "/")
	return !slices.Contains(parts, "internal") && parts[0] != "examples" && parts[0] != "cmd"
}

type checker struct {
	fset *token.FileSet
	add  func(pos token.Pos, what string)
}

func (c checker) decl(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		c.fn(d)
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				c.values(d, s)
			case *ast.TypeSpec:
				c.typ(d, s)
			}
		}
	}
}

func (c checker) fn(d *ast.FuncDecl) {
	if !d.Name.IsExported() || hasText(d.Doc) {
		return
	}
	if d.Recv == nil {
		c.add(d.Pos(), "func "+d.Name.Name)
		return
	}
	if recv := receiver(d.Recv.List[0].Type); ast.IsExported(recv) {
		c.add(d.Pos(), fmt.Sprintf("method (%s).%s", recv, d.Name.Name))
	}
}

// values accepts a comment on the name, beside it, or on its group.
func (c checker) values(d *ast.GenDecl, s *ast.ValueSpec) {
	if hasText(d.Doc) || hasText(s.Doc) || hasText(s.Comment) {
		return
	}
	for _, n := range s.Names {
		if n.IsExported() {
			c.add(n.Pos(), d.Tok.String()+" "+n.Name)
		}
	}
}

func (c checker) typ(d *ast.GenDecl, s *ast.TypeSpec) {
	if !s.Name.IsExported() {
		return
	}
	// In a group of types the comment of the group describes none of them.
	if !hasText(s.Doc) && !hasText(s.Comment) && (d.Lparen.IsValid() || !hasText(d.Doc)) {
		c.add(s.Pos(), "type "+s.Name.Name)
	}
	switch t := s.Type.(type) {
	case *ast.StructType:
		// The comment of a type speaks for its fields. Settings are read one
		// by one, each with its default.
		if strings.HasSuffix(s.Name.Name, "Config") || strings.HasSuffix(s.Name.Name, "Options") {
			c.members(s.Name.Name, "setting", t.Fields)
		}
	case *ast.InterfaceType:
		// So it does for the few methods of a small interface.
		if t.Methods.NumFields() > smallInterface {
			c.members(s.Name.Name, "method", t.Methods)
		}
	}
}

// members accepts a comment on the name or beside it. Names that follow
// without a blank line share the comment above the first of them.
func (c checker) members(typ, kind string, list *ast.FieldList) {
	shared, last := false, 0
	for _, f := range list.List {
		start := f.Pos()
		if f.Doc != nil {
			start = f.Doc.Pos()
		}
		if c.fset.Position(start).Line > last+1 {
			shared = false
		}
		last = c.fset.Position(f.End()).Line
		shared = shared || hasText(f.Doc)
		if shared || hasText(f.Comment) {
			continue
		}
		for _, n := range f.Names {
			if n.IsExported() {
				c.add(n.Pos(), fmt.Sprintf("%s %s.%s", kind, typ, n.Name))
			}
		}
	}
}

// receiver returns the type name of a method's receiver.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.ParenExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// hasText reports whether a comment says something to a reader; a directive
// such as //go:noinline does not.
func hasText(c *ast.CommentGroup) bool {
	return strings.TrimSpace(c.Text()) != ""
}
