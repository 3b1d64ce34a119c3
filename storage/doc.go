// Package storage is the contract between cruster's engine and a database.
//
// A [Store] keeps persisted requests, workflow executions with their journals,
// schedules, and the ownership of shards, and commits changes to all of them
// together. The owner of a shard is the only writer of its work and keeps that
// work in memory: storage is its log and its hand-over, so reads happen at
// recovery, at wake-ups and for people, not on the path of a call.
//
// Writes come as [Unit] values. A unit commits or fails as a whole. The engine
// hands several units to one [Store.Commit], which applies all of them in one
// transaction or none; the engine above isolates a unit that was refused and
// sends the rest again. Every unit may be sent twice (after a lost answer), so
// applying one again must succeed and change nothing.
//
// Package memory is the implementation for tests and for programs that need no
// durability; storage/sqlite and storage/postgres are the durable ones. Package
// storagetest checks an implementation against the rules stated here, one by
// one.
package storage
