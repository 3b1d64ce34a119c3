// Package etcd is a membership in an etcd cluster: runners find out about each
// other, and about shards that change hands, without asking.
//
// Each session has one lease. Under the prefix, "/cruster/" unless told
// otherwise, are:
//
//	runners/<incarnation>     the runner's record, on its lease
//	shards/<group>:<index>    the lock of a shard, on the lease of its holder;
//	                          the value is the holder's address, for people
//	generation                what makes revisions of a rebuilt etcd higher
//
// A lock is told by its lease and its revision, never by its value: a process
// that was started again on the same address inherits nothing. Nothing is
// written while nothing changes; the keepalive of the lease is the refresh.
//
// etcd counts leases in whole seconds, and has a least TTL, of 2 seconds with
// its default election timeout; shorter ones are rounded up. A member that has
// gone silent is noticed up to a second after its lease has run out.
//
// With etcd away for less than the TTL nothing happens. Away for longer, all
// sessions end, and the runners join anew when it is back.
//
// DESIGN.md says why.
package etcd
