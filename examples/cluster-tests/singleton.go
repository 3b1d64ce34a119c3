package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

const (
	singletonName = "cluster-tests.singleton-test"
	tickEvery     = time.Second
	// markerStays is how long the marker of a graceful stop can be seen, whoever
	// runs the singleton next.
	markerStays = 3 * time.Second
)

// SingletonTest counts seconds in a row of a table, on one node at a time.
type SingletonTest struct {
	db   *pgxpool.Pool
	node string
}

// SingletonState is the row.
type SingletonState struct {
	RunnerID           string `json:"runner_id"`
	TickCount          int64  `json:"tick_count"`
	LastTickAt         Time   `json:"last_tick_at"`
	BecameLeaderAt     Time   `json:"became_leader_at"`
	GracefulShutdownAt *Time  `json:"graceful_shutdown_at"`
}

// Run ticks until the node stops or the singleton moves. It asks for
// Cancellation, so its context still works when it leaves its marker.
func (s *SingletonTest) Run(ctx cruster.SingletonContext) error {
	stop := ctx.Cancellation()
	if err := s.begin(ctx); err != nil {
		return err
	}
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := s.tick(ctx); err != nil {
				return err
			}
		case <-stop:
			return s.leave(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A successor begins milliseconds after its predecessor has left. It keeps the
// marker of that until it is old enough, by the clock of the database.
const keepMarker = `CASE WHEN s.graceful_shutdown_at > clock_timestamp() - $2 * interval '1 microsecond' THEN s.graceful_shutdown_at END`

func (s *SingletonTest) begin(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `INSERT INTO cluster_tests.singleton AS s (runner_id, tick_count, last_tick_at, became_leader_at)
		VALUES ($1, 0, clock_timestamp(), clock_timestamp())
		ON CONFLICT (one) DO UPDATE SET runner_id = excluded.runner_id, last_tick_at = excluded.last_tick_at,
			became_leader_at = excluded.became_leader_at, graceful_shutdown_at = `+keepMarker, s.node, markerStays.Microseconds())
	return err
}

// tick counts in the row, so that the count begins anew when the row is gone.
// The row of another node is left alone.
func (s *SingletonTest) tick(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `INSERT INTO cluster_tests.singleton AS s (runner_id, tick_count, last_tick_at, became_leader_at)
		VALUES ($1, 1, clock_timestamp(), clock_timestamp())
		ON CONFLICT (one) DO UPDATE SET tick_count = s.tick_count + 1, last_tick_at = excluded.last_tick_at,
			graceful_shutdown_at = `+keepMarker+` WHERE s.runner_id = excluded.runner_id`, s.node, markerStays.Microseconds())
	return err
}

func (s *SingletonTest) leave(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `UPDATE cluster_tests.singleton SET graceful_shutdown_at = clock_timestamp() WHERE runner_id = $1`, s.node)
	return err
}

// State returns the row, nil when there is none. It asks the database and
// nobody else, so every node answers at any time.
func (s *SingletonTest) State(ctx context.Context) (*SingletonState, error) {
	var st SingletonState
	err := s.db.QueryRow(ctx, `SELECT runner_id, tick_count, last_tick_at, became_leader_at, graceful_shutdown_at
		FROM cluster_tests.singleton`).Scan(&st.RunnerID, &st.TickCount, &st.LastTickAt, &st.BecameLeaderAt, &st.GracefulShutdownAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &st, err
}

// Reset deletes the row.
func (s *SingletonTest) Reset(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `DELETE FROM cluster_tests.singleton`)
	return err
}
