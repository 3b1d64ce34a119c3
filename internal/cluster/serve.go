package cluster

import (
	"context"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/transport"
)

// server answers other runners.
type server struct{ n *Node }

var _ transport.Handler = server{}

// Call answers a request.
func (s server) Call(ctx context.Context, from transport.Hello, op transport.Op, body []byte) ([]byte, error) {
	n := s.n
	switch op {
	case dispatch.OpPing:
		return nil, nil
	case dispatch.OpMembers:
		return encodeMembers(n.table.Load().members), nil
	case dispatch.OpNudge:
		notes, err := decodeNotes(body)
		if err != nil {
			return nil, err
		}
		for _, note := range notes {
			if !n.cfg.Run.Open(note.Shard) {
				return nil, crustertype.ErrNotOwner
			}
			n.noted(note)
		}
		return nil, nil
	case dispatch.OpGranted:
		n.inbox.change(func() { n.inbox.granted = true })
		return nil, nil
	case dispatch.OpDraining:
		n.inbox.change(func() {
			if n.inbox.drained == nil {
				n.inbox.drained = make(map[crustertype.Incarnation]bool)
			}
			n.inbox.drained[from.Incarnation] = true
		})
		n.refresh()
		return nil, nil
	case dispatch.OpGoodbye:
		n.refresh()
		return nil, nil
	}
	return n.cfg.Host.Serve(ctx, op, body)
}

// Stream answers a request with chunks.
func (s server) Stream(ctx context.Context, _ transport.Hello, op transport.Op, body []byte, send func([]byte) error) error {
	return s.n.cfg.Host.ServeStream(ctx, op, body, send)
}

// Connected hears of a peer: one that is not known yet is a reason to look.
func (s server) Connected(from transport.Hello) {
	n := s.n
	if from.Incarnation != 0 && !n.table.Load().knows(from.Incarnation) {
		n.refresh()
	}
}

func (n *Node) refresh() {
	if s := n.session.Load(); s != nil {
		s.Refresh()
	}
}

// grant tells a member that shards were handed over to it.
func (n *Node) grant(ctx context.Context, to crustertype.Incarnation) {
	m := n.table.Load().member(to)
	if m.Address == "" {
		return
	}
	if _, err := n.cfg.Transport.Call(ctx, m.Address, dispatch.OpGranted, nil); err != nil && n.ctx.Err() == nil {
		n.cfg.Logger.DebugContext(ctx, "the next owner does not answer, it finds its shards by itself", "address", m.Address, "error", err)
	}
}
