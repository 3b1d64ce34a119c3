package runner

import (
	"sync"
	"time"
)

// workerIdle is how long a worker goroutine waits for more work.
const workerIdle = time.Second

// pool runs functions on goroutines that it keeps for a while. Its goroutines
// end when it is closed.
type pool struct {
	work chan func()
	stop chan struct{}
	wg   sync.WaitGroup
}

func newPool() *pool { return &pool{work: make(chan func()), stop: make(chan struct{})} }

// spawn runs f on another goroutine.
func (p *pool) spawn(f func()) {
	select {
	case p.work <- f:
	default:
		p.wg.Add(1)
		go p.worker(f)
	}
}

func (p *pool) worker(f func()) {
	defer p.wg.Done()
	f()
	t := time.NewTimer(workerIdle)
	defer t.Stop()
	for {
		select {
		case f := <-p.work:
			f()
			t.Reset(workerIdle)
		case <-t.C:
			return
		case <-p.stop:
			return
		}
	}
}

// close ends idle workers and waits for busy ones.
func (p *pool) close() {
	close(p.stop)
	p.wg.Wait()
}

// abandon ends idle workers and does not wait for busy ones, which end after
// their present work.
func (p *pool) abandon() { close(p.stop) }
