// Package journal compares what a workflow asks for with what it asked for the
// last time.
//
// A workflow execution records each step that its code requests: an activity, a
// sleep, a call. After a crash the code runs again from the top, and a [Cursor]
// over the recorded rows answers each request: with the recorded row, with
// nothing when the code has come further than the record, or with a [Mismatch]
// when the code asks for something else than it did before.
//
// The package is pure: it reads no clock, starts nothing and stores nothing, so
// it serves the engine, the test kit and tools alike. DESIGN.md says why the
// rules are as they are.
package journal
