//go:build cruster_nofence

package postgres

import "github.com/jackc/pgx/v5"

// queueFence adds nothing: this build is broken on purpose. A runner that has
// lost its shards can still commit, which tests of the whole must notice. See
// examples/bank.
func (s *Store) queueFence(*pgx.Batch, fence) {}
