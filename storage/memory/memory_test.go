package memory_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(*testing.T) storagetest.Harness {
		return storagetest.Harness{Store: memory.New()}
	})
}

func open(t testing.TB) storage.Store {
	t.Helper()
	s := memory.New()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return s
}

// TestRecordsExpireInVirtualTime runs in a bubble: nothing in the store may
// wait on anything but its clock.
func TestRecordsExpireInVirtualTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, ctx := open(t), t.Context()
		inc, err := s.Register(ctx, storage.Runner{}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute - 1)
		if err := s.Renew(ctx, inc, false, time.Minute); err != nil {
			t.Errorf("Renew just before the end = %v", err)
		}
		<-time.After(time.Minute)
		if err := s.Renew(ctx, inc, false, time.Minute); !errors.Is(err, storage.ErrFenced) {
			t.Errorf("Renew at the end = %v, want ErrFenced", err)
		}
		if n, err := s.Purge(ctx, storage.Purge{}); n != 1 || err != nil {
			t.Errorf("Purge = %d, %v, want the dead runner", n, err)
		}
	})
}

func TestForeignCursorIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, c := range []storage.Cursor{"x", "1.2", "1.2/m", "1.2/m/00", "1.2/e/", "1.2/e/9/ab", "1.2/e/-1/ab", "1.2/q/1", "/m/00112233445566778899aabbccddeeff", "1/e/1/a"} {
		_, _, err := s.Messages(t.Context(), storage.MessageFilter{After: c})
		_, _, err2 := s.Executions(t.Context(), storage.ExecutionFilter{After: c})
		_, _, err3 := s.Runnable(t.Context(), nil, c, 1)
		_, _, err4 := s.Timers(t.Context(), storage.TimerQuery{Cursor: c})
		for _, err := range []error{err, err2, err3, err4} {
			if !errors.Is(err, crustertype.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "begin with the empty one") {
				t.Errorf("cursor %q = %v, want ErrInvalid with the way out", c, err)
			}
		}
	}
}

// TestListingLooksAtEveryItem walks more items than one step of a scan.
func TestListingLooksAtEveryItem(t *testing.T) {
	t.Parallel()
	const n = 12_000
	s := open(t)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	units := make([]storage.Unit, n)
	for i := range units {
		m := crustertype.Message{
			ID: crustertype.NewRequestID(), State: crustertype.MessagePending, CreatedAt: at.Add(time.Duration(i) * time.Microsecond),
			Address: crustertype.Address{Type: "t", ID: "i"}, Method: "M",
		}
		if i%5000 == 7 {
			m.Method = "Rare"
		}
		units[i] = storage.Unit{Accepts: []crustertype.Message{m}}
	}
	if _, err := s.Commit(t.Context(), units); err != nil {
		t.Fatal(err)
	}
	got, next, err := s.Messages(t.Context(), storage.MessageFilter{Method: "Rare"})
	if err != nil || len(got) != 3 || next != "" {
		t.Errorf("Messages found %d, cursor %q, %v, want all 3", len(got), next, err)
	}
}

func Benchmark(b *testing.B) {
	storagetest.Bench(b, func(*testing.B) storage.Store { return memory.New() })
}

// BenchmarkBacklog measures what must not depend on how much sleeps or waits:
// 1,000,000 sleeping executions, 100,000 pending messages.
func BenchmarkBacklog(b *testing.B) {
	s, ctx := open(b), b.Context()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	shards := make([]crustertype.Shard, 300)
	for i := range shards {
		shards[i] = crustertype.Shard{Group: "default", Index: i}
	}
	id := func() crustertype.RequestID { return crustertype.NewRequestID() }
	commit := func(units ...storage.Unit) {
		b.Helper()
		if _, err := s.Commit(ctx, units); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 1_000_000 {
		commit(storage.Unit{Starts: []crustertype.Execution{{
			ExecutionRef: crustertype.ExecutionRef{Type: "order", ID: fmt.Sprint(i)}, Shard: shards[i%300], Run: 1, Input: []byte("input"),
			Status: crustertype.StatusSuspended, WakeAt: at.Add(time.Duration(i*7919%1_000_000) * time.Second), CreatedAt: at,
		}}})
	}
	message := func(i int) crustertype.Message {
		return crustertype.Message{
			ID: id(), Shard: shards[i%300], Address: crustertype.Address{Type: "counter", ID: fmt.Sprint(i % 1000)}, Method: "Add",
			Payload: []byte("payload"), State: crustertype.MessagePending, Seq: int64(i + 1), CreatedAt: at,
		}
	}
	for i := range 100_000 {
		commit(storage.Unit{Accepts: []crustertype.Message{message(i)}})
	}
	b.Run("AcceptAndFinish", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			m := message(1_000_000 + i)
			commit(storage.Unit{Accepts: []crustertype.Message{m}})
			commit(storage.Unit{Finishes: []storage.Finish{{ID: m.ID, State: crustertype.MessageDone, At: at}}})
		}
	})
	b.Run("PendingOfOneAddress", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			got, err := s.Pending(ctx, storage.PendingQuery{Shards: shards[7:8], Address: crustertype.Address{Type: "counter", ID: "7"}, Now: at, Limit: 20})
			if err != nil || len(got) != 20 {
				b.Fatalf("%d messages, %v", len(got), err)
			}
		}
	})
	b.Run("PendingOfAllShards", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			got, err := s.Pending(ctx, storage.PendingQuery{Shards: shards, Now: at, Limit: 100})
			if err != nil || len(got) != 100 {
				b.Fatalf("%d messages, %v", len(got), err)
			}
		}
	})
	b.Run("TimersOfAllShards", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			from := at.Add(time.Duration(i*60%1_000_000) * time.Second)
			if _, _, err := s.Timers(ctx, storage.TimerQuery{Shards: shards, After: from, Until: from.Add(time.Minute), Limit: 1000}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("WakeAndSleep", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			u := storage.Update{ExecutionRef: crustertype.ExecutionRef{Type: "order", ID: fmt.Sprint(i * 7919 % 1_000_000)}, Run: 1, Status: crustertype.StatusRunning, At: at}
			commit(storage.Unit{Updates: []storage.Update{u}})
			u.Status, u.WakeAt = crustertype.StatusSuspended, at.Add(time.Duration(i)*time.Second)
			commit(storage.Unit{Updates: []storage.Update{u}})
		}
	})
	b.Run("Counts", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Counts(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}
