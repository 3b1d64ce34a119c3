package dispatch

import (
	"context"
	"errors"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/runner"
	"github.com/cruster-go/cruster/internal/userror"
	"github.com/cruster-go/cruster/mailbox"
	"github.com/cruster-go/cruster/observe"
)

// Volatile is a best-effort request that waits for its turn.
type Volatile struct {
	mailbox.Entry
	ctx  context.Context
	t    *Target
	act  *runner.Activation
	m    *Method
	up   *invoke.Context
	info *invoke.Info // of a request from another runner
	run  func(context.Context) error
	done chan error // nil: nobody waits
}

// Run runs the request on a worker.
func (v *Volatile) Run() {
	answered := false
	answer := func(err error) {
		answered = true
		if v.done != nil {
			v.done <- err
		} else if err != nil {
			v.t.Logger.Warn("notified handler failed", "type", v.t.Name, "method", v.m.M.Name, "error", err)
		}
	}
	ctx := v.ctx
	if v.m.M.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, v.m.M.Timeout, crustertype.ErrTimeout)
		defer cancel()
	}
	var ictx *invoke.Context
	if v.info != nil {
		ictx = invoke.New(ctx, v.act.Lifetime(), v.info)
	} else {
		ictx = invoke.NewLight(ctx, v.act.Lifetime(), &v.m.What, v.act.Address().ID, v.up)
	}
	end := v.t.Probe.Begin(ictx, observe.BestEffort, v.meta(), 1)
	defer func() {
		ictx.End()
		if answered {
			return
		}
		err := error(crustertype.Errorf(crustertype.CodePanic, "the handler called runtime.Goexit"))
		if p := recover(); p != nil {
			err = invoke.PanicError(p)
		}
		end(err)
		answer(v.t.Failed("call", v.m, v.act.Address().ID, err))
	}()
	err := v.run(ictx)
	end(err)
	if err != nil {
		answer(Travelled(err))
		return
	}
	if ictx.Collected() {
		err = v.t.CommitSends(ctx, ictx)
	}
	answer(err)
}

// meta returns what travelled with the request.
func (v *Volatile) meta() (m crustertype.Meta) {
	if v.info != nil {
		return v.info.Meta
	}
	v.t.Probe.Inject(v.ctx, &m)
	return m
}

// Probed begins to follow a best-effort request of this process.
func (h *Host) Probed(caller context.Context, ictx *invoke.Context) func(error) {
	var m crustertype.Meta
	h.Probe.Inject(caller, &m)
	return h.Probe.Begin(ictx, observe.BestEffort, m, 1)
}

// ProbedStream begins to follow a stream of this process.
func (h *Host) ProbedStream(caller context.Context, ictx *invoke.Context) func(error) {
	var m crustertype.Meta
	h.Probe.Inject(caller, &m)
	return h.Probe.Begin(ictx, observe.Stream, m, 1)
}

// EnterStream counts a stream of an entity as running until leave is called: its
// shard goes when it has ended, or was cancelled. life ends when it is to stop.
func (t *Target) EnterStream(id string) (life context.Context, leave func(), err error) {
	if t.Type == nil || !t.Run.Working() {
		return nil, nil, crustertype.ErrNotOwner
	}
	done, err := t.Streams.Enter()
	if err != nil {
		return nil, nil, err
	}
	life, left, ok := t.Run.EnterShard(t.Run.ShardOf(t.Group, id))
	if !ok {
		done()
		return nil, nil, crustertype.ErrNotOwner
	}
	return life, func() { left(); done() }, nil
}

// Abandon answers a request that still waits when its entity is closed.
func (v *Volatile) Abandon(err error) {
	if v.done != nil {
		v.done <- v.t.Failed("call", v.m, v.act.Address().ID, err)
	}
}

// Travelled returns err as a caller on another runner would get it, so that
// nothing works only because the handler is local.
func Travelled(err error) error {
	if err == nil {
		return nil
	}
	return userror.Decode(userror.Encode(err))
}

// Queue runs a request when the entity's turn comes, and waits for it.
func (t *Target) Queue(ctx context.Context, act *runner.Activation, m *Method, up *invoke.Context, run func(context.Context) error) error {
	return t.queue(ctx, &Volatile{act: act, m: m, up: up, run: run})
}

func (t *Target) queue(ctx context.Context, v *Volatile) error {
	addr := v.act.Address()
	if t.Type.Options.Concurrency == 1 && v.awaited(addr) {
		return reentrant(v.up, addr).At("call "+t.Name+"."+v.m.M.Name, addr)
	}
	v.ctx, v.t, v.done = ctx, t, make(chan error, 1)
	v.Job = v
	err := v.act.Push(&v.Entry, &t.Type.Options, t.Run.Spawn)
	if errors.Is(err, crustertype.ErrNotOwner) { // evicted since it was found
		if v.act, err = t.Type.Activate(addr.ID); err == nil {
			err = v.act.Push(&v.Entry, &t.Type.Options, t.Run.Spawn)
		}
	}
	if err != nil {
		return t.Failed("call", v.m, addr.ID, err)
	}
	select {
	case err := <-v.done:
		return err
	case <-ctx.Done():
	}
	if v.act.Remove(&v.Entry) {
		return t.Failed("call", v.m, addr.ID, StoppedWaiting(ctx, false))
	}
	select {
	case err := <-v.done:
		return err
	default: // it runs, and is told to stop
		return t.Failed("call", v.m, addr.ID, StoppedWaiting(ctx, true))
	}
}

// awaited reports whether the entity is one that waits for this request.
func (v *Volatile) awaited(a crustertype.Address) bool {
	if v.up != nil {
		return v.up.Awaits(a)
	}
	if v.info != nil {
		for _, c := range v.info.Chain {
			if c == a {
				return true
			}
		}
	}
	return false
}

func reentrant(up *invoke.Context, target crustertype.Address) *crustertype.Error {
	chain := ""
	if up != nil {
		for _, a := range up.Callers() {
			chain += a.String() + " -> "
		}
	}
	return crustertype.Errorf(crustertype.CodeReentrant,
		"%s%s would wait for itself: use Notify, give the type concurrency, or pass what is needed along", chain, target)
}

// Enter finds the entity, or brings it into memory, and takes its turn if that is
// free. An entity that is evicted meanwhile is brought in again.
func (t *Target) Enter(id string) (*runner.Activation, bool, error) {
	if !t.Run.Working() {
		return nil, false, crustertype.ErrNotOwner
	}
	if act := t.Type.Find(id); act != nil {
		if free, err := act.Enter(&t.Type.Options); err == nil {
			return act, free, nil
		}
	}
	act, err := t.Type.Activate(id)
	if err != nil {
		return nil, false, err
	}
	free, err := act.Enter(&t.Type.Options)
	return act, free, err
}
