package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// chunkCost is what a chunk costs of its stream's window beyond its bytes, so
// that small ones are bounded too.
const chunkCost = 64

// errEnd is what a complete stream ends with.
var errEnd = errors.New("end of stream")

// inflow is what waits for the consumer of a stream. The producer may send
// while any of the window is left, so one chunk may exceed it.
type inflow struct {
	ready chan struct{} // one value: look again

	mu     sync.Mutex
	chunks [][]byte
	window int
	left   int // of the window, as the producer sees it
	owed   int // taken by the consumer, not yet given back
	got    bool
	err    error // what comes after the chunks
	lost   bool  // err is the connection's
}

func newInflow(window int) *inflow {
	return &inflow{ready: make(chan struct{}, 1), window: window, left: window}
}

// push adds a chunk. It fails when the producer had no credit for it.
func (i *inflow) push(b []byte) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.left <= 0 {
		return fmt.Errorf("%w: chunk of %d bytes beyond the window of %d", ErrMalformed, len(b), i.window)
	}
	i.left -= len(b) + chunkCost
	i.got = true
	i.chunks = append(i.chunks, b)
	i.wake()
	return nil
}

func (i *inflow) finish(err error) {
	if err == nil {
		err = errEnd
	}
	i.mu.Lock()
	i.err = err
	i.wake()
	i.mu.Unlock()
}

func (i *inflow) lose(err error) {
	i.mu.Lock()
	i.err, i.lost = err, true
	i.wake()
	i.mu.Unlock()
}

func (i *inflow) lostWith(err error) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.lost && i.err == err //nolint:errorlint // the very value, not its like
}

func (i *inflow) begun() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.got
}

func (i *inflow) wake() {
	select {
	case i.ready <- struct{}{}:
	default:
	}
}

// next waits for the next chunk and takes it. credit is what the producer is to
// be given, once the consumer is done with the chunk.
func (i *inflow) next(ctx context.Context) (chunk []byte, credit int, err error) {
	for {
		i.mu.Lock()
		if len(i.chunks) > 0 {
			chunk = i.chunks[0]
			i.chunks[0] = nil
			i.chunks = i.chunks[1:]
			i.owed += len(chunk) + chunkCost
			if i.owed >= i.window/2 {
				credit = i.owed
				i.left += credit
				i.owed = 0
			}
			i.mu.Unlock()
			return chunk, credit, nil
		}
		err = i.err
		i.mu.Unlock()
		if err != nil {
			return nil, 0, err
		}
		select {
		case <-i.ready:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// outflow is the credit that the producer of a stream has.
type outflow struct {
	ready chan struct{}

	mu   sync.Mutex
	left int
}

func newOutflow(window int) *outflow {
	return &outflow{ready: make(chan struct{}, 1), left: window}
}

// give adds credit. It fails when that is more than was ever taken.
func (o *outflow) give(n, window int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left+n > window {
		return fmt.Errorf("%w: credit of %d bytes, more than was used", ErrMalformed, n)
	}
	o.left += n
	select {
	case o.ready <- struct{}{}:
	default:
	}
	return nil
}

// spend waits for credit and takes what a chunk of n bytes costs.
func (o *outflow) spend(ctx context.Context, n int) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		o.mu.Lock()
		if o.left > 0 {
			o.left -= n + chunkCost
			o.mu.Unlock()
			return nil
		}
		o.mu.Unlock()
		select {
		case <-o.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
