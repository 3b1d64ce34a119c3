// Package postgres keeps everything of a cluster in one schema of a PostgreSQL
// database, version 14 or newer.
//
//	pool, err := pgxpool.New(ctx, "postgres://app@db/app")
//	store, err := postgres.New(pool, nil)
//	err = store.Migrate(ctx)
//
// # User code
//
// A handler or an activity reaches its transaction by cruster.Tx, or, as pgx
// has it, by [Tx]. What it writes there commits together with its outcome, or
// not at all. Code that owns a transaction of its own sends and starts as part
// of it with [InTx] and [Join].
//
// User transactions run on the user's pool. Commits, reads, leases and
// take-over have connections of their own, so that an exhausted pool stops
// none of them.
//
// # Guarantees
//
// A commit is durable when it returns: the store refuses a server whose
// synchronous_commit is off. A commit of a runner that has lost its shard is
// refused by the database; DESIGN.md in this folder says how. An error for
// which storage.IsTransient holds is one of the infrastructure: a lost
// connection, a restart, a deadlock, a serialization failure. The statement's
// own *pgconn.PgError is there for errors.As.
//
// # Names, sessions, poolers
//
// All names are qualified with the schema. No state is kept in a session, so a
// pooler in transaction mode may stand in between. Prepared statements are
// pgx's default; with a pooler that does not know them, add
// default_query_exec_mode=exec to the connection string. docs/postgres.md has
// the rest: tables, privileges, migrations by a DBA, sizing.
package postgres
