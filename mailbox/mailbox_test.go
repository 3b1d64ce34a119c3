package mailbox_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/mailbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type job struct {
	mailbox.Entry
	run func()
}

func (j *job) Run() { j.run() }

func newJob(durable bool, run func()) *job {
	j := &job{run: run}
	j.Entry.Job, j.Durable = j, durable
	return j
}

func spawn(f func()) { go f() }

func TestOneAtATimeInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m mailbox.Mailbox
		o := &mailbox.Options{Capacity: 100, Concurrency: 1}
		var mu sync.Mutex
		var order []int
		running, most := 0, 0
		for i := range 20 {
			err := m.Push(&newJob(i%3 == 0, func() {
				mu.Lock()
				running++
				most = max(most, running)
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				running--
				mu.Unlock()
			}).Entry, o, spawn)
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if most != 1 {
			t.Errorf("%d requests ran at a time, want 1", most)
		}
		for i, got := range order {
			if got != i {
				t.Fatalf("order %v: requests run as admitted, durable or not", order)
			}
		}
		if len(order) != 20 {
			t.Errorf("%d requests ran, want 20", len(order))
		}
	})
}

func TestConcurrencyOverlaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m mailbox.Mailbox
		o := &mailbox.Options{Capacity: 100, Concurrency: 4}
		begin := time.Now()
		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			if err := m.Push(&newJob(false, func() { defer wg.Done(); time.Sleep(time.Second) }).Entry, o, spawn); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		if got := time.Since(begin); got != 2*time.Second {
			t.Errorf("8 requests of 1s at concurrency 4 took %v, want 2s", got)
		}
	})
}

func TestFullRefusesBestEffortOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m mailbox.Mailbox
		o := &mailbox.Options{Capacity: 2, Concurrency: 1}
		block := make(chan struct{})
		for i := range 3 { // one runs, two wait
			if err := m.Push(&newJob(false, func() { <-block }).Entry, o, spawn); err != nil {
				t.Fatalf("push %d: %v", i, err)
			}
		}
		if err := m.Push(&newJob(false, func() {}).Entry, o, spawn); !errors.Is(err, crustertype.ErrMailboxFull) {
			t.Errorf("push into a full mailbox = %v, want ErrMailboxFull", err)
		}
		if err := m.Push(&newJob(true, func() {}).Entry, o, spawn); err != nil {
			t.Errorf("durable push into a full mailbox = %v: nothing persisted is refused", err)
		}
		close(block)
		synctest.Wait()
	})
}

func TestTurnSurvivesGoexit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m mailbox.Mailbox
		o := &mailbox.Options{Capacity: 10, Concurrency: 1}
		ran := false
		for _, run := range []func(){runtime.Goexit, func() { ran = true }} {
			if err := m.Push(&newJob(false, run).Entry, o, spawn); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if !ran {
			t.Error("the request behind one that called Goexit did not run: the turn was lost")
		}
		if r, w := m.Load(); r != 0 || w != 0 {
			t.Errorf("running %d, waiting %d, want none", r, w)
		}
	})
}

func TestPauseHoldsDurableOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m mailbox.Mailbox
		o := &mailbox.Options{Capacity: 10, Concurrency: 1}
		var got []string
		add := func(name string, durable bool) *job { return newJob(durable, func() { got = append(got, name) }) }
		m.Pause()
		for _, j := range []*job{add("d1", true), add("v1", false)} {
			if err := m.Push(&j.Entry, o, spawn); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.PushFront(&add("d0", true).Entry, o, spawn); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(got) != 1 || got[0] != "v1" {
			t.Fatalf("while paused %v ran, want [v1]", got)
		}
		m.Resume(o, spawn)
		synctest.Wait()
		if len(got) != 3 || got[1] != "d0" || got[2] != "d1" {
			t.Errorf("%v ran, want [v1 d0 d1]: what is run again comes first", got)
		}
	})
}

func TestRemoveAndClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m mailbox.Mailbox
		o := &mailbox.Options{Capacity: 10, Concurrency: 1}
		block := make(chan struct{})
		first, second, third := newJob(false, func() { <-block }), newJob(false, func() {}), newJob(true, func() {})
		for _, j := range []*job{first, second, third} {
			if err := m.Push(&j.Entry, o, spawn); err != nil {
				t.Fatal(err)
			}
		}
		if m.Remove(&first.Entry) {
			t.Error("Remove took out a running request")
		}
		if !m.Remove(&second.Entry) || m.Remove(&second.Entry) {
			t.Error("Remove must take a waiting request out exactly once")
		}
		if m.CloseIdle() {
			t.Error("CloseIdle closed a mailbox at work")
		}
		waiting, idle := m.Close()
		if len(waiting) != 1 || waiting[0] != &third.Entry {
			t.Errorf("Close returned %d entries, want the durable one", len(waiting))
		}
		if err := m.Push(&newJob(false, func() {}).Entry, o, spawn); !errors.Is(err, crustertype.ErrNotOwner) {
			t.Errorf("push after Close = %v, want ErrNotOwner", err)
		}
		select {
		case <-idle:
			t.Error("idle is closed while a request runs")
		default:
		}
		close(block)
		<-idle
	})
}

func TestIdleMailboxIsSmall(t *testing.T) {
	t.Parallel()
	if n := unsafe.Sizeof(mailbox.Mailbox{}); n > 48 {
		t.Errorf("an idle mailbox takes %d bytes, want at most 48", n)
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	b.ReportAllocs()
	var m mailbox.Mailbox
	o := &mailbox.Options{Capacity: 100, Concurrency: 1}
	for b.Loop() {
		ok, err := m.Enter(o)
		if !ok || err != nil {
			b.Fatal(ok, err)
		}
		m.Leave(spawn)
	}
}

// TestQuickTurns mixes callers that take the idle mailbox without the lock with
// all that needs the lock: never more run than the concurrency allows, and at
// the end the mailbox is idle again.
func TestQuickTurns(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 2, 0} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			t.Parallel()
			const callers, calls = 4, 5000
			o := &mailbox.Options{Capacity: 1 << 20, Concurrency: concurrency}
			var m mailbox.Mailbox
			var inside, ran atomic.Int32
			turn := func() {
				if n := inside.Add(1); concurrency > 0 && int(n) > concurrency {
					t.Errorf("%d run at once, want at most %d", n, concurrency)
				}
				ran.Add(1)
				inside.Add(-1)
			}
			var wg, queued sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					for i := range calls {
						if (c+i)%7 == 0 {
							m.Load()
						}
						free, err := m.Enter(o)
						if err != nil {
							t.Error(err)
							return
						}
						if free {
							turn()
							m.Leave(spawn)
							continue
						}
						queued.Add(1)
						if err := m.Push(&newJob(false, func() { turn(); queued.Done() }).Entry, o, spawn); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			queued.Wait()
			if got := int(ran.Load()); got != callers*calls {
				t.Errorf("%d requests ran, want %d", got, callers*calls)
			}
			for !m.CloseIdle() { // the last worker gives its turn back
				runtime.Gosched()
			}
			if free, err := m.Enter(o); free || !errors.Is(err, crustertype.ErrNotOwner) {
				t.Errorf("Enter of a closed mailbox = %v, %v, want ErrNotOwner", free, err)
			}
		})
	}
}

// TestCloseWaitsForQuickTurn closes a mailbox while a caller has the turn that
// it took without the lock.
func TestCloseWaitsForQuickTurn(t *testing.T) {
	t.Parallel()
	o := &mailbox.Options{Capacity: 1, Concurrency: 1}
	var m mailbox.Mailbox
	if free, err := m.Enter(o); !free || err != nil {
		t.Fatalf("Enter = %v, %v", free, err)
	}
	if m.CloseIdle() {
		t.Fatal("CloseIdle closed a mailbox whose turn is taken")
	}
	_, idle := m.Close()
	select {
	case <-idle:
		t.Fatal("idle is closed while a request runs")
	default:
	}
	m.Leave(spawn)
	<-idle
}
