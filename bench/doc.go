// Package bench measures cruster beside other ways to do the same work: floors,
// which are the least that the work can cost, and peers. It is a module of its
// own, so that the library does not depend on its peers.
//
//	go test -run='^$' -bench=. ./...            everything, a few minutes
//	go test -run='^$' -bench=Local ./...        calls in memory
//	go test -run='^$' -bench=Persisted ./...    persisted calls
//	go test -run='^$' -bench=Workflow ./...     workflows
//	go test -run='^$' -bench=Postgres ./...     all of these on PostgreSQL
//	go test -run='^$' -bench=Remote ./...       calls between two processes
//	go test -run='^$' -bench='IdleEnt|Asleep|Cold|Binary' ./...
//
// PostgreSQL is started for the run, with commits that wait for the disk; with
// CRUSTER_TEST_POSTGRES_URL another server is used.
//
// The last part of a benchmark's name says what ran. Only figures of one run
// compare: what matters is how far a row is from the floor beside it.
package bench
