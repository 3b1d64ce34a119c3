package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/dispatch"
	"github.com/cruster-go/cruster/transport"
)

// Drain gives all shards to others and returns when nothing of them runs here
// any more, or ctx ends. Requests are still answered, or sent on.
func (n *Node) Drain(ctx context.Context) error {
	if len(n.cfg.Seeds) > 0 {
		return nil
	}
	if s := n.session.Load(); s != nil {
		if err := s.Update(ctx, n.cfg.Weight, true); err != nil {
			n.cfg.Logger.WarnContext(ctx, "the others are not told that this runner leaves", "error", err)
		}
	}
	n.everyone(ctx, dispatch.OpDraining)
	n.inbox.change(func() { n.inbox.drain = true })
	select {
	case <-n.empty:
		return nil
	case <-n.ctx.Done():
		return nil
	case <-ctx.Done():
		return crustertype.Errorf(crustertype.CodeTimeout, "shards are not given away yet: %w", context.Cause(ctx))
	}
}

// Leave ends the membership and closes the transport. Call Drain first.
func (n *Node) Leave(ctx context.Context) error {
	n.end()
	n.quiet()
	err := n.leave(ctx)
	n.everyone(ctx, dispatch.OpGoodbye)
	return errors.Join(err, n.cfg.Transport.Close(ctx))
}

// quietTime is how long a runner that leaves waits for handlers that it has
// cancelled.
const quietTime = time.Second

// quiet ends what still runs on shards that were not given away, before others
// take them.
func (n *Node) quiet() {
	shards := n.cfg.Run.Shards()
	if len(shards) == 0 {
		return
	}
	idle := n.cfg.Run.Close(shards, crustertype.ErrShuttingDown)
	n.cfg.Run.CancelAll(shards, crustertype.ErrShuttingDown)
	n.cfg.Workflows.Drop(shards)
	limit := time.NewTimer(quietTime)
	defer limit.Stop()
	for _, done := range idle {
		select {
		case <-done:
		case <-limit.C:
			n.cfg.Logger.Warn("handlers or singletons still run: the runner leaves without them", "shards", len(shards))
			return
		}
	}
}

func (n *Node) leave(ctx context.Context) error {
	s := n.session.Load()
	if s == nil {
		return nil
	}
	var errs []error
	if err := s.Leave(ctx); err != nil {
		errs = append(errs, fmt.Errorf("leave the membership: %w", err))
	}
	if err := n.cfg.Store.Unregister(ctx, s.inc); err != nil && ctx.Err() == nil {
		errs = append(errs, fmt.Errorf("unregister: %w", err))
	}
	return errors.Join(errs...)
}

// everyone sends a request without a body to all other members and waits a
// moment for them.
func (n *Node) everyone(ctx context.Context, op transport.Op) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range n.table.Load().members {
		if m.Address == "" || m.Address == n.cfg.Transport.Address() {
			continue
		}
		wg.Go(func() {
			if _, err := n.cfg.Transport.Call(ctx, m.Address, op, nil); err != nil {
				n.cfg.Logger.DebugContext(ctx, "a member does not answer, it finds out by itself", "address", m.Address, "error", err)
			}
		})
	}
	wg.Wait()
}
