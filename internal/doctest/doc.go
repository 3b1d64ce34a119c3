// Package doctest holds the tree to what a reader may expect of it: each
// package says what it is for, each exported name says what it does, no
// file is too long to be reviewed, and no test sleeps.
package doctest
