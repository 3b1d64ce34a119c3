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

// rules are the tests, by name.
var rules = []struct {
	name string
	test func(t *testing.T, c *cluster)
}{
	{"MembersSeeEachOther", testMembersSeeEachOther},
	{"JoinRefusesNonsense", testJoinRefusesNonsense},
	{"LeaveIsSeenAndIdempotent", testLeave},
	{"NothingWorksAfterTheEnd", testAfterTheEnd},
	{"UpdateIsSeen", testUpdate},
	{"SilentMemberExpires", testSilentMemberExpires},
	{"KeptCountsFromSending", testKept},
	{"ShortOutageChangesNothing", testShortOutage},
	{"LongOutageEndsAndHeals", testLongOutage},
	{"RevokeEndsASession", testRevoke},
	{"RestartOnTheSameAddress", testRestart},
	{"TwoProcessesOnOneAddress", testAddressFight},
	{"ContextsAreHonoured", testContexts},
	{"LockIsExclusive", testLockExclusive},
	{"LockIsGrantedAgain", testLockAgain},
	{"UnlockFrees", testUnlock},
	{"LeaveFreesLocks", testLeaveFreesLocks},
	{"ExpiryFreesLocks", testExpiryFreesLocks},
	{"MovePasses", testMove},
	{"MoveToNobodyFrees", testMoveToNobody},
	{"StolenLockIsLost", testLost},
	{"RefusedLockWakes", testRefusedLockWakes},
	{"RevisionsGrow", testRevisionsGrow},
	{"ManyShards", testManyShards},
	{"RacesHaveOneWinner", testRaces},
}

// Run checks the backends of the services that open returns, a fresh one per
// rule. The rules run in parallel, in real time.
func Run(t *testing.T, open func(t *testing.T) *Service) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			rule.test(t, newCluster(t, open(t)))
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
