package postgres_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

// watched tells when a commit has failed in a way that is tried again.
type watched struct {
	*postgres.Store
	failures chan error
}

func (w watched) Commit(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
	res, err := w.Store.Commit(ctx, units)
	if storage.IsTransient(err) {
		select {
		case w.failures <- err:
		default:
		}
	}
	return res, err
}

// TestServiceOnAFullDisk calls until the disk is full and beyond. Calls then
// wait; when there is room they return, each handled once and stored.
func TestServiceOnAFullDisk(t *testing.T) {
	t.Parallel()
	f, _, fill, free := underLimit(t)
	w := watched{f.Store, make(chan error)}
	var handled, answered atomic.Int64
	p := serve(t, f, &Desk{do: func(context.Context, string) (string, error) {
		handled.Add(1)
		return "ok", nil
	}}, nil, func(c *cruster.Config) { c.Storage = w })
	fill()
	room := make(chan struct{}) // closed when there is room again
	var calls sync.WaitGroup
	for i := range 8 {
		calls.Go(func() {
			for last := false; !last; {
				select {
				case <-room:
					last = true // one more, which has to succeed
				default:
				}
				body := make([]byte, 150_000)
				rand.Read(body)
				got, err := cruster.Call(t.Context(), p.desks.Entity(string(rune('a'+i))), (*Desk).Write, hex.EncodeToString(body))
				if err != nil || got != "ok" {
					t.Errorf("call = %q, %v: a full disk is waited for", got, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for range 3 { // it is tried again and again
		select {
		case err := <-w.failures:
			t.Logf("after %d calls: %v", answered.Load(), err)
		case <-t.Context().Done():
			t.Fatal("the disk was never full")
		}
	}
	before := answered.Load()
	free()
	close(room)
	calls.Wait()
	if answered.Load() < before+8 {
		t.Errorf("%d calls were answered, %d of them before there was room: want 8 more", answered.Load(), before)
	}
	if handled.Load() != answered.Load() {
		t.Errorf("%d calls were answered, %d handled", answered.Load(), handled.Load())
	}
	if n := f.number(t, f.in("SELECT count(*) FROM @.messages WHERE state = $1"), crustertype.MessageDone.String()); n != answered.Load() {
		t.Errorf("%d calls were answered, %d are stored", answered.Load(), n)
	}
}
