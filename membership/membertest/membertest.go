// Package membertest checks a [membership.Backend] against the rules of its
// contract.
package membertest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

// Service is one membership service, such as a database or an etcd cluster,
// without members. It is released by the cleanups of the test that opened it.
type Service struct {
	// TTL is what members join with. The suite waits for it in real time unless
	// it runs in virtual time.
	TTL time.Duration
	// Late is how much later than promised things may be seen: network, a busy
	// machine, and whole seconds where the service counts in those.
	Late time.Duration
	// Node returns a new process's way to the service.
	Node func(t *testing.T) *Node
	// Steal takes the lock of a shard from whoever has it, behind its back.
	Steal func(ctx context.Context, shard crustertype.Shard) error
	// Storage is nil when the service's locks are exclusive by themselves.
	Storage Storage
}

// Node is one process's way to the service.
type Node struct {
	Backend membership.Backend
	// Register issues an incarnation for m, as a runner's storage does.
	Register func(ctx context.Context, m membership.Member, ttl time.Duration) (crustertype.Incarnation, error)
	// Cut makes all calls of this process hang until their contexts end, as a
	// network does that has gone silent, until Heal.
	Cut, Heal func()
}

// Storage stands for the runner's storage where that, not the service, decides
// whose a shard is: granted locks have revision 0 there.
type Storage interface {
	// Take takes over the shards of locks that were granted, each from its From,
	// and returns those that it got or owns already.
	Take(ctx context.Context, by crustertype.Incarnation, locks []membership.Lock) ([]crustertype.Shard, error)
	// Give hands shards over, to 0: nobody.
	Give(ctx context.Context, from, to crustertype.Incarnation, shards []crustertype.Shard) error
}

// rules are the tests, by name. Those that wait for leases say so.
var rules = []struct {
	name  string
	test  func(t *testing.T, c *cluster)
	lease bool
}{
	{"MembersSeeEachOther", testMembersSeeEachOther, false},
	{"JoinRefusesNonsense", testJoinRefusesNonsense, false},
	{"LeaveIsSeenAndIdempotent", testLeave, false},
	{"NothingWorksAfterTheEnd", testAfterTheEnd, false},
	{"UpdateIsSeen", testUpdate, true},
	{"SilentMemberExpires", testSilentMemberExpires, true},
	{"KeptCountsFromSending", testKept, true},
	{"ShortOutageChangesNothing", testShortOutage, true},
	{"LongOutageEndsAndHeals", testLongOutage, true},
	{"RevokeEndsASession", testRevoke, false},
	{"RestartOnTheSameAddress", testRestart, false},
	{"TwoProcessesOnOneAddress", testAddressFight, false},
	{"ContextsAreHonoured", testContexts, true},
	{"LockIsExclusive", testLockExclusive, false},
	{"LockIsGrantedAgain", testLockAgain, false},
	{"UnlockFrees", testUnlock, false},
	{"LeaveFreesLocks", testLeaveFreesLocks, false},
	{"ExpiryFreesLocks", testExpiryFreesLocks, true},
	{"MovePasses", testMove, false},
	{"MoveToNobodyFrees", testMoveToNobody, false},
	{"StolenLockIsLost", testLost, false},
	{"RefusedLockWakes", testRefusedLockWakes, false},
	{"RevisionsGrow", testRevisionsGrow, false},
	{"ManyShards", testManyShards, false},
	{"RacesHaveOneWinner", testRaces, false},
}

// calm is by how much leases are longer in rules that do not wait for them, in
// real time: a busy machine must not let them run out.
const calm = 10

// Run checks the backends of the services that open returns, a fresh one per
// rule. The rules run in parallel, in real time.
func Run(t *testing.T, open func(t *testing.T) *Service) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, open(t))
			if !rule.lease {
				c.TTL, c.hints = c.TTL*calm, true
			}
			rule.test(t, c)
		})
	}
}

// RunVirtual is [Run] in virtual time, for a service that blocks on channels and
// timers only: each rule has a bubble of [synctest] to itself, open included.
func RunVirtual(t *testing.T, open func(t *testing.T) *Service) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { rule.test(t, newCluster(t, open(t))) })
		})
	}
}
