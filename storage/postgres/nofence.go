//go:build cruster_nofence

package postgres

import "github.com/jackc/pgx/v5"

// fenced: this build is broken on purpose. A runner that has lost its shards can
// still commit, which tests of the whole must notice. See examples/bank. Nor
// does a take-over end the sessions of the dead, which would hide it mostly.
const fenced = false

// queueFence adds nothing.
func (s *Store) queueFence(*pgx.Batch, fence) {}
