package runner

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// What a handler sends in its own transaction comes before what the entity's
// next handler sends to the same target.
func TestSendsOfATransactionKeepTheirPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var got seen
		var r *Runner
		r = begin(t, store,
			echo("sender", one(1000), func(ctx context.Context, s string) (string, error) {
				var n int
				if _, err := fmt.Sscan(s, &n); err != nil {
					return "", err
				}
				if n%2 == 0 {
					if err := openTx(ctx); err != nil {
						return "", err
					}
				}
				invoke.From(ctx).Collect(invoke.Sends{Accepts: []crustertype.Message{r.message("target", "x", s)}})
				return "", nil
			}),
			echo("target", one(1000), func(_ context.Context, s string) (string, error) {
				got.add(s)
				return "", nil
			}))
		const n = 400
		for i := range n {
			m := r.message("sender", "a", fmt.Sprint(i))
			r.Send(storage.Unit{Accepts: []crustertype.Message{m}}, func(storage.Result, error) {})
		}
		synctest.Wait()
		if !slices.Equal(got.all(), numbers(n)) {
			t.Errorf("%d messages came as %v, want the order in which they were sent", len(got.all()), got.all())
		}
		if len(r.unplaced.ids) != 0 {
			t.Errorf("%d messages are kept from adoption for ever", len(r.unplaced.ids))
		}
		halt(t, r)
	})
}

// The loop that adopts what others have stored may have read a message that its
// sender gives a place: it is delivered once.
func TestAdoptedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &pages{Store: memory.New()}
		var got seen
		r := begin(t, g, echo("target", one(10), func(_ context.Context, s string) (string, error) {
			got.add(s)
			return "", nil
		}))
		synctest.Wait()
		m := r.message("target", "x", "1")
		sent := r.Sending([]crustertype.Message{m})
		storeAs(t, g.Store, m)
		g.read = make(chan chan struct{})
		r.NudgeAdopt()
		page := <-g.read // the loop has read the message
		g.read = nil
		sent([]storage.AcceptResult{{}}, nil)
		synctest.Wait()
		close(page)
		synctest.Wait()
		if !slices.Equal(got.all(), []string{"1"}) {
			t.Errorf("delivered %v, want it once", got.all())
		}
		if len(r.unplaced.ids) != 0 {
			t.Errorf("%d messages are kept from adoption for ever", len(r.unplaced.ids))
		}
		halt(t, r)
	})
}

// pages is a store whose adoption queries wait once they have their answer.
type pages struct {
	storage.Store
	read chan chan struct{}
}

func (p *pages) Pending(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
	page, err := p.Store.Pending(ctx, q)
	if q.Unadopted && p.read != nil {
		wait := make(chan struct{})
		p.read <- wait
		<-wait
	}
	return page, err
}
