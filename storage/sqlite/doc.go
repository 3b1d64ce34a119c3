// Package sqlite is the durable storage for one machine: a SQLite file, driven
// without cgo.
//
// [Open] opens or creates a file; [OpenMemory] makes a database that lives in
// the process, with the same SQL, for tests. cruster's tables have names that
// begin with "cruster_" and share the file with the tables of the program, so
// that a handler's changes and cruster's records commit together.
//
// # Writing
//
// SQLite has one writer at a time. The store keeps one connection for it;
// whoever wants to write waits in Go, in order, and stops waiting when its
// context ends. A transaction begins (BEGIN IMMEDIATE) at its first statement,
// so code that never asks for it holds up nobody; while one is open all other
// writes wait. Keep transactions short.
//
// In a persisted handler or an activity, cruster.Tx(ctx) is the transaction;
// [Tx] gives the same one with the methods of database/sql, for libraries that
// want those. [InTx] is for the rest of the program: what it sends through
// cruster inside the function is delivered if and only if the transaction
// commits. [Store.DB] is for reading; it never waits for the writer of a file.
//
// Foreign keys are enforced. Parameters are written $1, $2 and may be used again; ? works too. A time.Time
// is stored as text in UTC, which sorts as the times do, and is read back into a
// time.Time from any column.
//
// # The file
//
// The file is in WAL mode, and commits reach the disk before they are
// acknowledged unless [Options] says otherwise. One process opens it at a time:
// a lock on the file beside it, NAME.lock, keeps others out and ends with the
// process however it ends. Other programs may read the database meanwhile.
// Never open and close the database file itself (to copy it, say) in the
// process that uses it: the operating system then drops SQLite's locks. Use
// VACUUM INTO through [Store.DB] for a copy.
//
// A file that is not SQLite's, is damaged, or was written by a newer cruster is
// refused and left as it is.
package sqlite
