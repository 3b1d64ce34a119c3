// Package testdb gives tests a real PostgreSQL.
//
// The first test of a binary that asks starts a throw-away server from the
// binaries found on the machine, in a temporary folder and on a free port of
// the loopback interface; all tests of the binary share it, each with a schema
// or a database of its own. [Main] stops it; when the test process is killed, a
// watchdog does. With CRUSTER_TEST_POSTGRES_URL set, that server is used
// instead, and nothing is started.
//
// Servers run without fsync, which is right for tests of behaviour; set
// CRUSTER_TEST_POSTGRES_FSYNC=on for measurements.
package testdb
