package transporttest

import (
	"context"
	"errors"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
)

func streamInOrder(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{Window: 10_000}), start(t, h, 2, transport.Options{})
	for _, n := range []int{0, 1, 4000} {
		i := 0
		for chunk, err := range a.Stream(t.Context(), b.address, opCount, number(n)) {
			if err != nil {
				t.Fatalf("chunk %d of %d = %v", i, n, err)
			}
			if fromNumber(chunk) != i || len(chunk) != 8+i%3000 {
				t.Fatalf("chunk %d has number %d and %d bytes, want %d bytes: chunks are in order, without gaps", i, fromNumber(chunk), len(chunk), 8+i%3000)
			}
			i++
		}
		if i != n {
			t.Errorf("stream had %d chunks, want %d", i, n)
		}
	}
}

// settled waits until a counter stands still, and returns it.
func settled(get func() int64) int64 {
	last, same := int64(-1), 0
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for same < 10 {
		<-ticker.C
		if now := get(); now != last {
			last, same = now, 0
		} else {
			same++
		}
	}
	return last
}

func slowConsumerStopsProducer(t TB, h Harness) {
	const window, size = 100_000, 1000
	a, b := start(t, h, 1, transport.Options{Window: window}), start(t, h, 2, transport.Options{})
	taken := 0
	for _, err := range a.Stream(t.Context(), b.address, opEndless, number(size)) {
		if err != nil {
			t.Fatalf("Stream = %v", err)
		}
		taken++
		if taken%50 != 0 {
			continue
		}
		sent := int(settled(b.handler.sent.Load))
		if ahead := sent - taken; ahead*size > window+size {
			t.Fatalf("the producer is %d chunks of %d bytes ahead, the window has %d bytes", ahead, size, window)
		}
		if _, err := a.Call(t.Context(), b.address, opEcho, nil); err != nil {
			t.Fatalf("Call beside a stream that stands still = %v", err)
		}
		if taken == 200 {
			break
		}
	}
	if err := wait(t, b.handler.ended, "the producer is told"); !errors.Is(err, context.Canceled) {
		t.Errorf("send = %v, want context.Canceled", err)
	}
}

func stoppedConsumerCancelsProducer(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	for chunk, err := range a.Stream(t.Context(), b.address, opEndless, number(10)) {
		if err != nil || len(chunk) != 10 {
			t.Fatalf("chunk of %d bytes, %v", len(chunk), err)
		}
		break
	}
	if err := wait(t, b.handler.ended, "the producer is cancelled"); !errors.Is(err, context.Canceled) {
		t.Errorf("send after the consumer has stopped = %v, want context.Canceled", err)
	}
}

func endedContextCancelsStream(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range a.Stream(ctx, b.address, opBroken, nil) {
		if last != nil {
			t.Fatalf("after the error %v came another element", last)
		}
		last = err
		cancel()
	}
	wantError(t, "a stream whose context has ended", last, crustertype.CodeCancelled, true)
	_ = wait(t, b.handler.ended, "the producer's context ends")
}

func streamErrorComesLast(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	i := 0
	for chunk, err := range a.Stream(t.Context(), b.address, opFailures, nil) {
		switch {
		case i < 3 && (err != nil || fromNumber(chunk) != i):
			t.Fatalf("chunk %d = %v, %v", i, chunk, err)
		case i == 3:
			checkTyped(t, err)
		case i > 3:
			t.Fatalf("an element came after the error")
		}
		i++
	}
	if i != 4 {
		t.Errorf("%d elements, want three chunks and an error", i)
	}
}

func streamOfPeerThatDies(t TB, h Harness) {
	a, b := start(t, h, 1, transport.Options{}), start(t, h, 2, transport.Options{})
	var last error
	for _, err := range a.Stream(t.Context(), b.address, opBroken, nil) {
		last = err
		if err == nil {
			b.kill(t)
		}
	}
	wantError(t, "a stream whose peer has died", last, crustertype.CodeUnavailable, true)
}
