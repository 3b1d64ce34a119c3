package transport

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// unruly is a handler whose requests come late and twice.
type unruly struct {
	Handler
	link *memoryLink

	mu     sync.Mutex
	random *rand.Rand
}

func newUnruly(h Handler, l *memoryLink) *unruly {
	return &unruly{Handler: h, link: l, random: rand.New(rand.NewPCG(l.network.seed, hashSeed(l.network.seed, l.name, "handler", 0)))}
}

// Call implements [Handler].
func (u *unruly) Call(ctx context.Context, from Hello, op Op, body []byte) ([]byte, error) {
	u.link.network.mu.Lock()
	f := u.link.network.faults
	u.link.network.mu.Unlock()
	if f.Late == 0 && f.Duplicate == 0 {
		return u.Handler.Call(ctx, from, op, body)
	}
	u.mu.Lock()
	late, twice := u.random.Float64() < f.Late, u.random.Float64() < f.Duplicate
	first, second := time.Duration(u.random.Int64N(int64(f.Lateness))), time.Duration(u.random.Int64N(int64(f.Lateness)))
	u.mu.Unlock()
	var again sync.WaitGroup
	defer again.Wait()
	if twice {
		copied := bytes.Clone(body)
		again.Go(func() {
			if pause(ctx, second) {
				_, _ = u.Handler.Call(ctx, from, op, copied) // the sender waits for one reply only
			}
		})
	}
	if late && !pause(ctx, first) {
		return nil, ctx.Err()
	}
	return u.Handler.Call(ctx, from, op, body)
}

// pause waits for d and reports whether ctx lets it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
