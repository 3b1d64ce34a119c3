package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// Register issues an incarnation. From then on the sessions of this store carry
// it in their application_name.
func (s *Store) Register(ctx context.Context, r storage.Runner, ttl time.Duration) (crustertype.Incarnation, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	weight, err := narrow("weight", r.Weight)
	if err != nil {
		return 0, invalid("postgres: %w", err)
	}
	groups := r.Groups
	if groups == nil {
		groups = []string{}
	}
	var inc int64
	s.statements.Add(1)
	err = s.control.QueryRow(ctx, s.q.Register, r.Address, groups, weight, r.Version, micros(ttl), r.Draining).Scan(&inc)
	if err != nil {
		return 0, classify(ctx, fmt.Errorf("postgres: register a runner: %w", err), true)
	}
	name := sessionOf(s.lockSpace, crustertype.Incarnation(inc))
	s.session.Store(&name)
	s.engine.Reset() // sessions take the name when they connect
	s.control.Reset()
	return crustertype.Incarnation(inc), nil
}

// Renew extends a record.
func (s *Store) Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.statements.Add(1)
	tag, err := s.control.Exec(ctx, s.q.Renew, int64(inc), draining, micros(ttl))
	if err != nil {
		return classify(ctx, fmt.Errorf("postgres: renew incarnation %d: %w", inc, err), true)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("postgres: the record of incarnation %d has expired, register again: %w", inc, storage.ErrFenced)
	}
	return nil
}

// Unregister removes a record.
func (s *Store) Unregister(ctx context.Context, inc crustertype.Incarnation) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.statements.Add(1)
	if _, err := s.control.Exec(ctx, s.q.Unregister, int64(inc)); err != nil {
		return classify(ctx, fmt.Errorf("postgres: unregister incarnation %d: %w", inc, err), true)
	}
	return nil
}

// Runners returns the records that live.
func (s *Store) Runners(ctx context.Context) ([]storage.Runner, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	out, err := query(ctx, s, s.control, scanRunner, s.q.Runners)
	if err != nil {
		return nil, fmt.Errorf("postgres: read runners: %w", err)
	}
	return out, nil
}

func scanRunner(rows pgx.Rows, r *storage.Runner) error {
	var inc int64
	var weight int32
	err := rows.Scan(&inc, &r.Address, &r.Groups, &weight, &r.Version, &r.LeaseUntil, &r.Draining)
	r.Incarnation, r.Weight, r.LeaseUntil = crustertype.Incarnation(inc), int(weight), r.LeaseUntil.UTC()
	if len(r.Groups) == 0 {
		r.Groups = nil
	}
	return err
}

// owned is one row of the shard table.
type owned struct {
	shard int32
	lease crustertype.Lease // without Shard
}

func scanOwned(rows pgx.Rows, o *owned) error {
	var owner int64
	var token pgtype.UUID
	err := rows.Scan(&o.shard, &owner, &o.lease.Epoch, &token)
	o.lease.Owner, o.lease.Token = crustertype.Incarnation(owner), token.Bytes
	return err
}

// scanPassed reads what take-over and hand-over return.
func scanPassed(rows pgx.Rows, o *owned) error {
	var token pgtype.UUID
	err := rows.Scan(&o.shard, &o.lease.Epoch, &token)
	o.lease.Token = token.Bytes
	return err
}

// Owners returns leases.
func (s *Store) Owners(ctx context.Context, shards []crustertype.Shard) ([]crustertype.Lease, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	numbers, err := s.numbersOf(ctx, shards)
	if err != nil {
		return nil, err
	}
	rows, err := query(ctx, s, s.control, scanOwned, s.q.Owners, numbers)
	if err != nil {
		return nil, fmt.Errorf("postgres: read shard owners: %w", err)
	}
	found := make(map[int32]crustertype.Lease, len(rows))
	for _, r := range rows {
		found[r.shard] = r.lease
	}
	out := make([]crustertype.Lease, len(shards))
	for i, shard := range shards {
		n, err := s.numberOf(ctx, shard)
		if err != nil {
			return nil, err
		}
		if l := found[n]; l.Epoch > 0 {
			out[i] = l
		}
		out[i].Shard = shard
	}
	return out, nil
}

// addShards makes rows for shards that nobody has owned yet.
func (s *Store) addShards(ctx context.Context, shards []int32) error {
	var missing []int32
	for _, n := range shards {
		if _, ok := s.known.Load(n); !ok {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	s.statements.Add(1)
	if _, err := s.control.Exec(ctx, s.q.ShardsAdd, missing); err != nil {
		return classify(ctx, fmt.Errorf("postgres: make %d shards: %w", len(missing), err), false)
	}
	for _, n := range missing {
		s.known.Store(n, true)
	}
	return nil
}

// HandOver gives shards away, in one round trip.
func (s *Store) HandOver(ctx context.Context, leases []crustertype.Lease, to crustertype.Incarnation) ([]crustertype.Lease, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	w := &writes{}
	if w.fences, err = s.fencesOf([]storage.Unit{{Leases: leases}}, s.numbers(ctx)); err != nil {
		return nil, err
	}
	if len(w.fences) == 0 {
		return nil, nil
	}
	conn, err := s.engine.Acquire(ctx) // it may wait for a take-over, as a commit may
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("postgres: connect for a hand-over: %w", err), false)
	}
	defer conn.Release()
	b := new(pgx.Batch)
	b.Queue(begin)
	var rows []owned
	for _, f := range w.fences {
		s.statements.Add(1)
		b.Queue(s.q.HandOver, s.lockSpace, int64(f.owner), f.shards, f.tokens, int64(to)).Query(appendPassed(&rows))
	}
	b.Queue(commitTx).Exec(committed)
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		rollback(ctx, conn)
		return nil, s.refusal(ctx, fmt.Errorf("postgres: hand over %d shards: %w", len(leases), err), w)
	}
	s.commits.Add(1)
	shards := make([]crustertype.Shard, len(leases))
	for i, l := range leases {
		shards[i] = l.Shard
	}
	return s.passed(ctx, rows, shards, to)
}

func appendPassed(out *[]owned) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			var o owned
			if err := scanPassed(rows, &o); err != nil {
				return err
			}
			*out = append(*out, o)
		}
		return rows.Err()
	}
}

// passed returns the new leases in the order in which the shards were named.
func (s *Store) passed(ctx context.Context, rows []owned, shards []crustertype.Shard, to crustertype.Incarnation) ([]crustertype.Lease, error) {
	var out []crustertype.Lease
	for _, shard := range shards {
		n, err := s.numberOf(ctx, shard)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(rows, func(o owned) bool { return o.shard == n })
		if i < 0 {
			continue
		}
		l := rows[i].lease
		l.Shard, l.Owner = shard, to
		out = append(out, l)
		rows = slices.Delete(rows, i, i+1)
	}
	return out, nil
}
