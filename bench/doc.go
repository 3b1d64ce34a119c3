// Package bench measures cruster beside other ways to do the same work: floors,
// which are the least that the work can cost, and peers. It is a module of its
// own, so that the library does not depend on its peers.
//
//	go test -run='^$' -bench=. ./...            everything, a few minutes
//	go test -run='^$' -bench=Local ./...        calls in memory
//	go test -run='^$' -bench=Persisted ./...    persisted calls
//	go test -run='^$' -bench=Workflow ./...     workflows
//	go test -run='^$' -bench='Idle|Asleep|Cold|Binary' ./...
//
// The last part of a benchmark's name says what ran. Only figures of one run
// compare: what matters is how far a row is from the floor beside it.
package bench
