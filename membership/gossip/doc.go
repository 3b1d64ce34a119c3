// Package gossip notices dead runners faster than their leases run out. It wraps
// another membership, to which members and locks belong as before.
//
// Runners probe each other (memberlist, the SWIM protocol). When they agree that
// one is dead, and a second opinion does too, a runner whose own lease is in good
// health revokes the lease of the dead one, so that its shards are free at once,
// about a second and a half after it died. A wrong accusation costs the victim
// its shards and a rejoin, never data: storage refuses what it writes from then
// on, as it would after a pause.
//
// What keeps the remedy from being worse than the disease:
//
//   - No more than half of the members are revoked by one accuser within a TTL.
//   - Accusers wait in the order of their incarnations, so that mostly one acts,
//     and two that accuse each other do not both succeed.
//   - Only a node that was seen alive in gossip, and then dead, is accused. One
//     that never showed up, because gossip cannot reach it, is left to its lease.
//   - A member that hosts no shard group takes no part, and accuses nobody.
//
// Traffic is encrypted with a key that all runners share; off the loopback
// interface that is required unless waived.
package gossip
