// Package importtest holds the import graph of the module: which package may
// import which, inside the module and outside of it.
//
// The graph is the table in graph.go. Arrows point down: leaf types, ports,
// engine, root; adapters hang off the ports beside them, and nobody below
// imports the root. A package without a row fails the test, so a new package
// is a decision somebody made in review.
package importtest
