// Package sharding decides which shard an ID lives on and which runner owns a
// shard. Everything in it is pure: no clock, no goroutine, no I/O.
package sharding

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// ShardOf returns the shard, from 0 to shards-1, of an ID in a shard group. The
// result depends on the arguments alone, on every machine and in every version:
// it must never change. shards below 2 gives 0.
func ShardOf(group, id string, shards int) int {
	if shards < 2 {
		return 0
	}
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(group))) // keeps ("ab","c") and ("a","bc") apart
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(n[:])
	_, _ = d.WriteString(group)
	_, _ = d.WriteString(id)
	return int(d.Sum64() % uint64(shards))
}
