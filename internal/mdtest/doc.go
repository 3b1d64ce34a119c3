// Package mdtest holds the Markdown documents to the code: what they show is
// compiled, and what they link to exists.
//
// A fence may name the code it shows:
//
//	```go file=examples/quickstart/main.go#register
//
// Its text must then equal what stands in that file between the comments
// "// docs:begin register" and "// docs:end register", white space at the
// edges and common indentation aside; without "#register", the whole file. In
// README.md every block of Go does so. Elsewhere under docs a block may stand
// alone, but must parse.
//
// After changing the code, rewrite the documents from it:
//
//	go test ./internal/mdtest -update
package mdtest
