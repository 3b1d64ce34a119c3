// Package crustertest runs services in tests: in one process, in virtual time,
// with every value sent through the codec, and with processes that can be
// killed at any commit.
//
// [Run] gives a test a [Cluster] inside a testing/synctest bubble: sleeping for
// a month takes no time, and the bubble ends only when every goroutine has.
// [CrashEverywhere] kills the process at every commit of a scenario in turn and
// checks that the outcome is always the same.
//
// A service is made by a setup function, which is called again for each
// restart: it registers everything and keeps the clients where the test finds
// them.
package crustertest
