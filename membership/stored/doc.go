// Package stored is the membership of runners that share a database: nothing
// but storage is needed. It is the default with PostgreSQL.
//
// A member is a runner record with a lease by the database's clock, which each
// member renews every half TTL; it reads the others' records along with that,
// and once more when one of them is about to expire. That is two statements per
// half TTL for an idle runner.
//
// A lock is granted when storage knows no owner of the shard, or one that is
// dead. Two members can be granted the same free shard; which of them gets it is
// decided when they take it over in storage, where the first one wins. That is
// why [membership.Lock.Rev] is 0 here.
//
// DESIGN.md says why.
package stored
