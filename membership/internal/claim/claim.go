// Package claim decides who may have an address, for the backends that keep
// records of members.
//
// An address can be bound by one process only. So whoever joins ends the session
// of an earlier incarnation on its address: a process that is started again does
// not wait until the record of the one before has expired. Two processes that
// are configured with one address end each other's sessions, until one of them
// notices.
package claim

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

// maxFights is how often a process takes its address back from another one
// that lives, before it believes that two are configured with it.
const maxFights = 3

// fightWindow is for how many TTLs a lost fight counts.
const fightWindow = 20

// Desk is what one process remembers of its sessions. The zero Desk is ready.
type Desk struct {
	mu     sync.Mutex
	ended  map[crustertype.Incarnation]bool // sessions of ours that are over, whose records may live
	robbed map[string]bool                  // addresses whose last session was ended by somebody else
	fights map[string][]time.Time           // by address: when another live runner was found on it after that
}

// Join returns which of the live records self replaces, or why it may not join.
func (d *Desk) Join(log *slog.Logger, self membership.Member, live []membership.Member, ttl time.Duration) ([]crustertype.Incarnation, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var replaced []crustertype.Incarnation
	var other crustertype.Incarnation // that lives on our address, and is not ours
	stale := make(map[crustertype.Incarnation]bool)
	for _, m := range live {
		switch {
		case m.Incarnation == self.Incarnation:
		case d.ended[m.Incarnation]:
			stale[m.Incarnation] = true
			replaced = append(replaced, m.Incarnation)
		case self.Address != "" && m.Address == self.Address:
			other = max(other, m.Incarnation)
			replaced = append(replaced, m.Incarnation)
		}
	}
	d.ended = stale // the others have expired
	if other == 0 {
		delete(d.robbed, self.Address)
		delete(d.fights, self.Address)
		return replaced, nil
	}
	if !d.robbed[self.Address] && other < self.Incarnation {
		return replaced, nil // the process before us
	}
	now := time.Now()
	fights := append(d.fights[self.Address], now)
	for now.Sub(fights[0]) > fightWindow*ttl {
		fights = fights[1:]
	}
	if d.fights == nil {
		d.fights = make(map[string][]time.Time)
	}
	d.fights[self.Address] = fights
	log.Warn("another live runner uses this address", "address", self.Address, "incarnation", int64(self.Incarnation), "other", int64(other), "times", len(fights))
	if len(fights) >= maxFights {
		return nil, fmt.Errorf("%w: %q is incarnation %d, and such have ended our sessions %d times: give each runner an address of its own",
			membership.ErrAddressTaken, self.Address, other, len(fights))
	}
	if other > self.Incarnation {
		return nil, fmt.Errorf("%w: a newer incarnation, %d, has registered with the address %q: register again", membership.ErrExpired, other, self.Address)
	}
	return replaced, nil
}

// Over notes the end of a session, and whether somebody else ended it.
func (d *Desk) Over(inc crustertype.Incarnation, address string, robbed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.robbed == nil {
		d.robbed = make(map[string]bool)
	}
	if d.ended == nil {
		d.ended = make(map[crustertype.Incarnation]bool)
	}
	d.ended[inc] = true
	if address != "" {
		d.robbed[address] = robbed
	}
}

// Forget notes that the record of a session is gone.
func (d *Desk) Forget(inc crustertype.Incarnation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ended, inc)
}
