package replay

import (
	"context"
	"slices"

	"github.com/cruster-go/cruster/crustertype"
)

// answer is what a waiter gets: an outcome, or why there is none.
type answer struct {
	outcome crustertype.Outcome
	err     error
}

// answerOf returns what those who wait for x get; nil: x goes on.
func answerOf(x *crustertype.Execution) *answer {
	switch {
	case x.Status.Final():
		return &answer{outcome: x.Outcome}
	case x.Status == crustertype.StatusParked:
		return &answer{err: aside(crustertype.CodeParked, x)}
	case x.Status == crustertype.StatusDead:
		return &answer{err: aside(crustertype.CodeDeadLettered, x)}
	}
	return nil
}

// aside reports an execution that waits for a person.
func aside(code crustertype.Code, x *crustertype.Execution) error {
	msg := "the execution is " + x.Status.String() + ": fix the cause and retry it"
	if f := x.Outcome.Failure; f != nil {
		return crustertype.Errorf(code, "%s: %w", msg, &crustertype.Error{Code: f.Code, Message: f.Message}).At("workflow", x.Address())
	}
	return crustertype.Errorf(code, "%s", msg).At("workflow", x.Address())
}

// Wait returns the outcome of an execution, or ErrParked, ErrDeadLettered,
// ErrNotFound, ErrNotOwner or ErrShuttingDown. The outcome is durable by then.
// Any number of callers may wait.
func (e *Engine) Wait(ctx context.Context, ref crustertype.ExecutionRef) (crustertype.Outcome, error) {
	run, err := e.ready()
	if err != nil {
		return crustertype.Outcome{}, err
	}
	ch := e.expect(ref)
	if !e.resident(ref) {
		x, err := e.cfg.Store.Execution(ctx, ref)
		if err != nil {
			e.forget(ref, ch)
			return crustertype.Outcome{}, err
		}
		if a := answerOf(&x); a != nil {
			e.forget(ref, ch)
			return a.outcome, a.err
		}
		if _, ok := e.cfg.Lease(x.Shard); !ok {
			e.forget(ref, ch)
			return crustertype.Outcome{}, crustertype.ErrNotOwner
		}
		if x.Status == crustertype.StatusRunning {
			e.activate(ref, x.Shard, nil, false)
		}
	}
	select {
	case a := <-ch:
		return a.outcome, a.err
	case <-ctx.Done():
		e.forget(ref, ch)
		return crustertype.Outcome{}, uncertain(ctx)
	case <-run.Done():
		e.forget(ref, ch)
		return crustertype.Outcome{}, crustertype.ErrShuttingDown
	}
}

// Poll returns the outcome of an execution if it has one, else whatever Wait
// would return at once.
func (e *Engine) Poll(ctx context.Context, ref crustertype.ExecutionRef) (out crustertype.Outcome, done bool, err error) {
	x, err := e.cfg.Store.Execution(ctx, ref)
	if err != nil {
		return crustertype.Outcome{}, false, err
	}
	a := answerOf(&x)
	if a == nil {
		return crustertype.Outcome{}, false, nil
	}
	return a.outcome, a.err == nil, a.err
}

// expect registers a waiter before it looks whether there is an outcome, so
// that none is missed.
func (e *Engine) expect(ref crustertype.ExecutionRef) chan answer {
	ch := make(chan answer, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing != nil {
		ch <- answer{err: e.closing}
		return ch
	}
	e.waiters[ref] = append(e.waiters[ref], ch)
	return ch
}

func (e *Engine) forget(ref crustertype.ExecutionRef, ch chan answer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := slices.DeleteFunc(e.waiters[ref], func(c chan answer) bool { return c == ch })
	if len(list) == 0 {
		delete(e.waiters, ref)
		return
	}
	e.waiters[ref] = list
}

// answer gives all who wait for ref an answer.
func (e *Engine) answer(ref crustertype.ExecutionRef, a answer) {
	e.lockAndTake(ref, func() {})(a)
}

// lockAndTake does f and takes the waiters of ref in one step. The function it
// returns answers them.
func (e *Engine) lockAndTake(ref crustertype.ExecutionRef, f func()) func(answer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
	list := e.waiters[ref]
	delete(e.waiters, ref)
	return func(a answer) {
		for _, ch := range list {
			ch <- a
		}
	}
}

// resident reports whether a run, or one that is about to begin, will answer the
// execution's waiters.
func (e *Engine) resident(ref crustertype.ExecutionRef) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.slots[ref]
	return s != nil && s.stopped == nil
}
