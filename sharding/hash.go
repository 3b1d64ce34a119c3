// Package sharding decides which shard an ID lives on, which runner a shard is
// assigned to, and what a runner does as its shards come and go.
//
// [ShardOf] and [Assign] are functions that every runner computes alike, so
// nobody has to tell another where something lives. [Ownership] is a state
// machine: events in, commands out. Everything is pure: no clock, no goroutine,
// no I/O. DESIGN.md says why the rules are as they are.
package sharding

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// ShardOf returns the shard, from 0 to shards-1, of an ID in a shard group. The
// result depends on the arguments alone, on every machine and in every version:
// it must never change. shards below 2 gives 0.
//
// It is the 64-bit xxHash, with seed 0, of the length of group (8 bytes, little
// endian), group and id, modulo shards. The length keeps ("ab", "c") and
// ("a", "bc") apart. It does not allocate.
func ShardOf(group, id string, shards int) int {
	if shards < 2 {
		return 0
	}
	var buf [128]byte // nearly all keys fit: one hash of one block is faster than a stream
	binary.LittleEndian.PutUint64(buf[:], uint64(len(group)))
	if n := 8 + len(group) + len(id); n <= len(buf) {
		copy(buf[8:], group)
		copy(buf[8+len(group):], id)
		return int(xxhash.Sum64(buf[:n]) % uint64(shards))
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(buf[:8])
	_, _ = d.WriteString(group)
	_, _ = d.WriteString(id)
	return int(d.Sum64() % uint64(shards))
}
