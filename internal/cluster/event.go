package cluster

import (
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

// EventKind says what happened in the cluster.
type EventKind uint8

// The events of a Node.
const (
	MemberJoined   EventKind = iota + 1 // Member
	MemberLeft                          // Member
	ShardsAcquired                      // Shards
	ShardsLost                          // Shards: without having been given away
	ShardsMoved                         // Shards, To: given away
	TookOver                            // Shards, From: of a runner that is gone
	Detached                            // the lease has ended
	Fenced                              // Shards: a commit found them lost
)

// Event is something that happened in the cluster, as one runner sees it.
type Event struct {
	Kind     EventKind
	Member   membership.Member
	Shards   []crustertype.Shard
	From, To crustertype.Incarnation
}
