package stored

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/storage"
)

// maxFights is how often a process takes its address back from another one
// that lives, before it believes that two are configured with it.
const maxFights = 3

// fightWindow is for how many TTLs a lost fight counts.
const fightWindow = 20

// Options are what [New] can be told.
type Options struct {
	// Logger gets what an operator should know. Default: slog.Default().
	Logger *slog.Logger
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

	mu     sync.Mutex
	ended  map[crustertype.Incarnation]bool // sessions of ours that are over, whose records may live
	fenced map[string]bool                  // addresses whose last session was ended by somebody else
	fights map[string][]time.Time           // by address: when another live runner was found on it after that
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
	return &Backend{
		store: store, log: o.Logger, ended: make(map[crustertype.Incarnation]bool),
		fenced: make(map[string]bool), fights: make(map[string][]time.Time),
	}
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

// claim returns which of the live records self replaces.
func (b *Backend) claim(self membership.Member, runners []storage.Runner, ttl time.Duration) ([]crustertype.Incarnation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var replaced []crustertype.Incarnation
	var other crustertype.Incarnation // that lives on our address, and is not ours
	stale := make(map[crustertype.Incarnation]bool)
	for _, r := range runners {
		switch {
		case r.Incarnation == self.Incarnation:
		case b.ended[r.Incarnation]:
			stale[r.Incarnation] = true
			replaced = append(replaced, r.Incarnation)
		case self.Address != "" && r.Address == self.Address:
			other = r.Incarnation
			replaced = append(replaced, r.Incarnation)
		}
	}
	b.ended = stale // the others have expired
	if other == 0 {
		delete(b.fenced, self.Address)
		delete(b.fights, self.Address)
		return replaced, nil
	}
	if !b.fenced[self.Address] && other < self.Incarnation {
		return replaced, nil // the process before us
	}
	now := time.Now()
	fights := append(b.fights[self.Address], now)
	for now.Sub(fights[0]) > fightWindow*ttl {
		fights = fights[1:]
	}
	b.fights[self.Address] = fights
	b.log.Warn("another live runner uses this address", "address", self.Address, "incarnation", int64(self.Incarnation), "other", int64(other), "times", len(fights))
	if len(fights) >= maxFights {
		return nil, fmt.Errorf("%w: %q is incarnation %d, which has ended our sessions %d times: give each runner an address of its own",
			membership.ErrAddressTaken, self.Address, other, len(fights))
	}
	if other > self.Incarnation {
		return nil, fmt.Errorf("%w: a newer incarnation, %d, has registered with the address %q: register again", membership.ErrExpired, other, self.Address)
	}
	return replaced, nil
}

// over notes the end of a session.
func (b *Backend) over(s *session, fenced bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended[s.inc] = true
	if s.address != "" {
		b.fenced[s.address] = fenced
	}
}

// forget notes that a record is gone.
func (b *Backend) forget(inc crustertype.Incarnation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.ended, inc)
}
