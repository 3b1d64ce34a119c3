// Package replay runs workflow executions.
//
// It knows nothing of the user's types: package cruster wraps it in generics.
// An [Engine] keeps the runs of the executions whose shards its runner owns. A
// [Run] is one life of an execution in memory: workflow code on one goroutine,
// its parallel steps on others, its journal rows on their way to storage. See
// DESIGN.md for the order in which things become durable and visible.
package replay
