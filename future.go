package cruster

import (
	"errors"
	"time"

	"github.com/cruster-go/cruster/internal/replay"
)

// Future is the result of a step that may still be under way. The zero Future is
// of no use.
type Future[T any] struct {
	f   *replay.Future
	err error // why there is no step
}

// Awaitable is a [Future] of any type.
type Awaitable interface {
	future() (*replay.Future, error)
}

func (f Future[T]) future() (*replay.Future, error) { return f.f, f.err }

// Get waits for the step and returns its result. It may be called again.
func (f Future[T]) Get(wf *WorkflowContext) (T, error) {
	var zero T
	if wf == nil || wf.run == nil {
		return zero, errNoWorkflow
	}
	if f.err != nil {
		return zero, f.err
	}
	outs, _, err := wf.run.Await(true, f.f)
	if err != nil {
		return zero, err
	}
	return stepResult[T](wf, outs[0])
}

// All waits for all futures and returns their results in the same order. The
// error joins those of the steps that failed, whose results are zero.
func All[T any](wf *WorkflowContext, fs ...Future[T]) ([]T, error) {
	list, err := awaited(wf, fs)
	if err != nil || len(fs) == 0 {
		return nil, err
	}
	outs, _, err := wf.run.Await(true, list...)
	if err != nil {
		return nil, err
	}
	results, errs := make([]T, len(outs)), make([]error, 0, len(outs))
	for i, o := range outs {
		var err error
		results[i], err = stepResult[T](wf, o)
		errs = append(errs, err)
	}
	return results, errors.Join(errs...)
}

// Any waits for the first of the futures to end, well or not, and returns its
// index and its result. At a replay it is the same one.
func Any[T any](wf *WorkflowContext, fs ...Future[T]) (int, T, error) {
	var zero T
	list, err := awaited(wf, fs)
	if err != nil {
		return -1, zero, err
	}
	outs, first, err := wf.run.Await(false, list...)
	if err != nil {
		return -1, zero, err
	}
	v, err := stepResult[T](wf, outs[0])
	return first, v, err
}

// Select is [Any] for futures of different types: it returns the index of the
// first that ends, which then has its result at once. With a [Timer] it bounds
// how long the workflow waits. The error says that nothing was waited for.
func Select(wf *WorkflowContext, fs ...Awaitable) (int, error) {
	list, err := awaited(wf, fs)
	if err != nil {
		return -1, err
	}
	_, first, err := wf.run.Await(false, list...)
	return first, err
}

// Timer is a [Sleep] that can be waited for together with other futures.
func Timer(wf *WorkflowContext, d time.Duration) Future[struct{}] {
	if wf == nil || wf.run == nil {
		return Future[struct{}]{err: errNoWorkflow}
	}
	return Future[struct{}]{f: wf.run.Timer(d)}
}

func awaited[F Awaitable](wf *WorkflowContext, fs []F) ([]*replay.Future, error) {
	if wf == nil || wf.run == nil {
		return nil, errNoWorkflow
	}
	list := make([]*replay.Future, len(fs))
	for i, f := range fs {
		var err error
		if list[i], err = f.future(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
