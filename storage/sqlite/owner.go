package sqlite

import (
	"context"
	"crypto/rand"
	_ "embed" // the statement
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

//go:embed query/take_over.sql
var takeOver string

const (
	insertRunner = `INSERT INTO cruster_runner (address, shard_groups, weight, version, lease_until, draining)
	VALUES (?, ?, ?, ?, ?, ?) RETURNING incarnation`
	renewRunner  = `UPDATE cruster_runner SET lease_until = ?, draining = ? WHERE incarnation = ? AND lease_until > ?`
	deleteRunner = `DELETE FROM cruster_runner WHERE incarnation = ?`
	liveRunners  = `SELECT incarnation, address, shard_groups, weight, version, lease_until, draining
	FROM cruster_runner WHERE lease_until > ? ORDER BY incarnation`
	ownShard = `INSERT INTO cruster_shard (owner, token, lock_rev, shard, epoch) VALUES (?, ?, ?, ?, 1)
	ON CONFLICT (shard) DO NOTHING RETURNING epoch`
	passShard = `UPDATE cruster_shard SET owner = ?, epoch = epoch + 1, token = ? WHERE shard = ? RETURNING epoch`
)

// change runs f in a transaction of its own, as a call.
func (s *Store) change(ctx context.Context, f func(ctx context.Context, c *conn) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.write(ctx, func(c *conn) error { return f(context.WithoutCancel(ctx), c) })
}

// Register issues an incarnation.
func (s *Store) Register(ctx context.Context, r storage.Runner, ttl time.Duration) (inc crustertype.Incarnation, err error) {
	groups, err := json.Marshal(r.Groups)
	if err != nil {
		return 0, err
	}
	err = s.change(ctx, func(ctx context.Context, c *conn) error {
		return c.query(ctx, insertRunner, func(r *row) error {
			inc = crustertype.Incarnation(r.int64())
			return nil
		}, r.Address, string(groups), r.Weight, r.Version, micros(time.Now().Add(ttl)), r.Draining)
	})
	return inc, err
}

// Renew extends a record.
func (s *Store) Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
	return s.change(ctx, func(ctx context.Context, c *conn) error {
		now := time.Now()
		n, err := c.exec(ctx, renewRunner, micros(now.Add(ttl)), draining, int64(inc), micros(now))
		if err == nil && n == 0 {
			err = fmt.Errorf("the record of incarnation %d has expired, register again: %w", inc, storage.ErrFenced)
		}
		return err
	})
}

// Unregister removes a record.
func (s *Store) Unregister(ctx context.Context, inc crustertype.Incarnation) error {
	return s.change(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, deleteRunner, int64(inc))
		return err
	})
}

// Runners returns the records that live.
func (s *Store) Runners(ctx context.Context) ([]storage.Runner, error) {
	return read(ctx, s, func(ctx context.Context, c *conn) (out []storage.Runner, err error) {
		err = c.query(ctx, liveRunners, func(r *row) error {
			ru := storage.Runner{Incarnation: crustertype.Incarnation(r.int64()), Address: r.text()}
			groups := r.text()
			ru.Weight, ru.Version, ru.LeaseUntil, ru.Draining = r.int(), r.text(), r.time(), r.bool()
			if err := json.Unmarshal([]byte(groups), &ru.Groups); err != nil {
				return fmt.Errorf("runner %d has shard groups %q: %w", ru.Incarnation, groups, err)
			}
			out = append(out, ru)
			return nil
		}, micros(time.Now()))
		return out, err
	})
}

// Owners returns leases.
func (s *Store) Owners(ctx context.Context, shards []crustertype.Shard) ([]crustertype.Lease, error) {
	return read(ctx, s, func(ctx context.Context, c *conn) ([]crustertype.Lease, error) {
		out := make([]crustertype.Lease, len(shards))
		for i, sh := range shards {
			l, _, err := currentLease(ctx, c, sh)
			if err != nil {
				return nil, err
			}
			out[i] = l
		}
		return out, nil
	})
}

// errCutOff ends a handler's transaction that keeps a take-over waiting.
var errCutOff = errors.New("the transaction was rolled back: it was open for too long while ownership of shards changed")

// TakeOver gives the shards of one incarnation to another. There is one writer,
// so when it has its turn no commit is under way; a handler that keeps the turn
// loses it.
func (s *Store) TakeOver(ctx context.Context, t storage.TakeOver) ([]crustertype.Lease, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := s.w.acquireFrom(ctx, transient(errCutOff, false)); err != nil {
		return nil, err
	}
	defer s.w.release()
	var out []crustertype.Lease
	err := s.writeNow(ctx, func(c *conn) error {
		ctx := context.WithoutCancel(ctx)
		taken := make(map[crustertype.Shard]bool, len(t.Shards))
		for _, sh := range t.Shards {
			if taken[sh] {
				continue
			}
			l := crustertype.Lease{Shard: sh, Owner: t.By, Token: newToken()}
			got := func(r *row) error {
				l.Epoch = r.int64()
				taken[sh] = true
				return nil
			}
			err := c.query(ctx, takeOver, got, int64(t.By), l.Token[:], t.LockRev, sh.String(), int64(t.From), t.LockRev, t.LockRev)
			if err == nil && !taken[sh] && t.From == 0 {
				err = c.query(ctx, ownShard, got, int64(t.By), l.Token[:], t.LockRev, sh.String())
			}
			if err != nil {
				return err
			}
			if taken[sh] {
				out = append(out, l)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// HandOver gives shards away.
func (s *Store) HandOver(ctx context.Context, leases []crustertype.Lease, to crustertype.Incarnation) ([]crustertype.Lease, error) {
	var out []crustertype.Lease
	err := s.change(ctx, func(ctx context.Context, c *conn) error {
		a := &applier{ctx: ctx, c: c, units: []storage.Unit{{Leases: leases}}}
		if err := a.fence(); err != nil {
			return err
		}
		given := make(map[crustertype.Shard]bool, len(leases))
		for _, old := range leases {
			if given[old.Shard] {
				continue
			}
			given[old.Shard] = true
			l := crustertype.Lease{Shard: old.Shard, Owner: to, Token: newToken()}
			if err := c.query(ctx, passShard, func(r *row) error {
				l.Epoch = r.int64()
				return nil
			}, int64(to), l.Token[:], l.Shard.String()); err != nil {
				return err
			}
			out = append(out, l)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func newToken() (t crustertype.Token) {
	rand.Read(t[:]) // never fails: crypto/rand documents it
	return t
}
