package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/membership"
)

// maxMembers bounds what a list of members may say.
const maxMembers = 10_000

// startClient begins to follow a cluster of which the node is no member: it has
// no storage, owns nothing, and learns from runners who the others are.
func (n *Node) startClient(ctx, base context.Context) error {
	n.ctx, n.stop = context.WithCancel(base)
	if err := n.cfg.Transport.Start(ctx, n.hello(0), server{n}); err != nil {
		n.stop()
		return fmt.Errorf("start the transport: %w", err)
	}
	wait := 50 * time.Millisecond
	for {
		err := n.learn(ctx)
		if err == nil {
			break
		}
		if !pause(ctx, wait) {
			return n.abort(crustertype.Errorf(crustertype.CodeUnavailable, "no seed of %v answers: %w", n.cfg.Seeds, err))
		}
		wait = min(2*wait, time.Second)
	}
	n.go1(n.followMembers)
	n.go1(n.tell)
	return nil
}

// followMembers asks again and again who the members are, at once when an owner
// was not found.
func (n *Node) followMembers() {
	tick := time.NewTicker(max(n.cfg.TTL/5, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.inbox.wake:
			if !pause(n.ctx, 20*time.Millisecond) { // those who ask meanwhile are served too
				return
			}
		case <-n.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.TTL)
		err := n.learn(ctx)
		cancel()
		if err != nil && n.ctx.Err() == nil {
			n.cfg.Logger.WarnContext(n.ctx, "no runner says who the members are", "error", err)
		}
	}
}

// learn asks a known member, or a seed, who the members are.
func (n *Node) learn(ctx context.Context) error {
	old := n.table.Load()
	var ask []string
	for _, m := range old.members {
		if m.Address != "" {
			ask = append(ask, m.Address)
		}
	}
	rand.Shuffle(len(ask), func(i, j int) { ask[i], ask[j] = ask[j], ask[i] })
	var last error
	for _, to := range append(ask, n.cfg.Seeds...) {
		members, err := n.membersOf(ctx, to)
		if err != nil {
			last = err
			continue
		}
		if !slices.EqualFunc(members, old.members, same) {
			t := newTable(members, n.cfg.ShardsPerGroup)
			t.follow(old)
			n.table.Store(t)
			close(old.changed)
		}
		return nil
	}
	return last
}

// membersOf asks one runner who the members are.
func (n *Node) membersOf(ctx context.Context, to string) ([]membership.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, max(n.cfg.TTL/5, 10*time.Millisecond))
	defer cancel()
	reply, err := n.cfg.Transport.Call(ctx, to, dispatch.OpMembers, nil)
	if err != nil {
		return nil, err
	}
	members, err := decodeMembers(reply)
	if err == nil && len(members) == 0 {
		err = crustertype.Errorf(crustertype.CodeNotStarted, "%s knows no members yet: it is starting", to)
	}
	return members, err
}

func encodeMembers(members []membership.Member) []byte {
	b := binary.AppendUvarint([]byte{1}, uint64(len(members)))
	for _, m := range members {
		b = binary.AppendUvarint(b, uint64(m.Incarnation))
		b = appendText(b, m.Address)
		b = binary.AppendUvarint(b, uint64(m.Weight))
		draining := uint64(0)
		if m.Draining {
			draining = 1
		}
		b = binary.AppendUvarint(b, draining)
		b = binary.AppendUvarint(b, uint64(len(m.Groups)))
		for _, g := range m.Groups {
			b = appendText(b, g)
		}
	}
	return b
}

func decodeMembers(b []byte) ([]membership.Member, error) {
	r := dispatch.ReadFields(b)
	var members []membership.Member
	for range r.Count(maxMembers) {
		m := membership.Member{
			Incarnation: crustertype.Incarnation(r.Count(1<<62 - 1)), Address: r.Text(crustertype.MaxIDLen), Weight: r.Count(1 << 20), Draining: r.Count(1) == 1,
		}
		for range r.Count(maxMembers) {
			m.Groups = append(m.Groups, r.Text(crustertype.MaxNameLen))
			if r.Err() != nil {
				break
			}
		}
		if r.Err() != nil {
			break
		}
		members = append(members, m)
	}
	return members, r.End()
}
