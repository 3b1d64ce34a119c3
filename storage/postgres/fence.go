//go:build !cruster_nofence

package postgres

import "github.com/jackc/pgx/v5"

// fenced says that this build is a sound one.
const fenced = true

// queueFence adds the check that the writer still owns the shards of f.
func (s *Store) queueFence(b *pgx.Batch, f fence) {
	b.Queue(s.q.Fence, s.lockSpace, int64(f.owner), f.shards, f.tokens)
}
