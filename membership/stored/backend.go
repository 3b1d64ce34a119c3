package stored

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/membership/internal/claim"
	"github.com/cruster-go/cruster/storage"
)

// Options are what [New] can be told.
type Options struct {
	// Logger gets what an operator should know. Default: slog.Default().
	Logger *slog.Logger
	// Sole says that no other process can use the store, as with SQLite. What
	// other records it has were left behind, and are removed by Join.
	Sole bool
}

// Backend is a membership over the runner records of a store.
//
// An address can be bound by one process only. So whoever joins ends the session
// of an earlier incarnation on its address: a process that is started again does
// not wait until the record of the one before has expired. Two processes that
// are configured with one address end each other's sessions; after three times
// one of them gets [membership.ErrAddressTaken], for as long as the other lives.
type Backend struct {
	store storage.Ownership
	log   *slog.Logger
	sole  bool
	desk  claim.Desk
}

var _ membership.Backend = (*Backend)(nil)

// New returns a backend over store, which is the one that the runner itself
// uses. nil options mean the defaults.
func New(store storage.Ownership, opts *Options) *Backend {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Backend{store: store, log: o.Logger, sole: o.Sole}
}

// Join makes self, which has registered with the store, a member.
func (b *Backend) Join(ctx context.Context, self membership.Member, ttl time.Duration) (membership.Session, error) {
	switch {
	case self.Incarnation <= 0:
		return nil, fmt.Errorf("membership: incarnation %d cannot join: register it with the store first", self.Incarnation)
	case ttl < time.Millisecond:
		return nil, fmt.Errorf("membership: TTL %s is too short: use seconds", ttl)
	}
	runners, err := b.store.Runners(ctx)
	if err != nil {
		return nil, fmt.Errorf("membership: read the runners: %w", err)
	}
	replaced, err := b.claim(self, runners, ttl)
	if err != nil {
		return nil, err
	}
	for _, inc := range replaced {
		if err := b.store.Unregister(ctx, inc); err != nil {
			return nil, fmt.Errorf("membership: remove incarnation %d, which had this address: %w", inc, err)
		}
	}
	s := newSession(ctx, b, self, ttl)
	if err = s.renew(ctx); err == nil {
		err = s.look(ctx)
	}
	if err == nil {
		err = s.live()
	}
	if err != nil {
		s.end(err)
		if errors.Is(err, storage.ErrFenced) {
			err = fmt.Errorf("%w: the record of incarnation %d is gone: %w", membership.ErrExpired, self.Incarnation, err)
		}
		return nil, fmt.Errorf("membership: join: %w", err)
	}
	go s.run()
	return s, nil
}

// claim returns the records that self replaces.
func (b *Backend) claim(self membership.Member, runners []storage.Runner, ttl time.Duration) ([]crustertype.Incarnation, error) {
	var live []membership.Member
	var others []crustertype.Incarnation
	for _, r := range runners {
		live = append(live, memberOf(r))
		if r.Incarnation != self.Incarnation {
			others = append(others, r.Incarnation)
		}
	}
	if b.sole {
		return others, nil
	}
	return b.desk.Join(b.log, self, live, ttl)
}

func memberOf(r storage.Runner) membership.Member {
	return membership.Member{
		Incarnation: r.Incarnation, Address: r.Address, Groups: r.Groups, Weight: r.Weight, Version: r.Version, Draining: r.Draining,
	}
}
