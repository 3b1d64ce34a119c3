package runner

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/storage/storagetest"
)

// shared is a store that several processes could use.
type shared struct{ storage.Store }

func (s shared) Info() storage.Info {
	i := s.Store.Info()
	i.Shared = true
	return i
}

// A runner whose start fails does not keep the next one waiting.
func TestFailedStartLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		r := setUp(t, shared{store}, echo("e", one(4), nil))
		r.cfg.Recover = func(context.Context, []crustertype.Shard) error { return errors.New("not today") }
		if err := r.Start(t.Context(), t.Context()); err == nil {
			t.Fatal("the start succeeded")
		}
		live, err := store.Runners(t.Context())
		if err != nil || len(live) != 0 {
			t.Errorf("the runner's record is still there: %v, %v", live, err)
		}
	})
}

// A lease that is short against what a renewal takes is kept: slow renewals get
// the time there is, and one that fails is repeated at once.
func TestSlowRenewalsKeepTheLease(t *testing.T) {
	t.Parallel()
	for name, renew := range map[string]func(n int) (time.Duration, error){
		"slow":                  func(int) (time.Duration, error) { return 400 * time.Millisecond, nil },
		"the first one is slow": func(n int) (time.Duration, error) { return 600 * time.Millisecond / time.Duration(n*n), nil },
		"every other one fails": func(n int) (time.Duration, error) {
			if n%2 == 0 {
				return 100 * time.Millisecond, &storage.TransientError{Err: errors.New("connection lost")}
			}
			return 100 * time.Millisecond, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				r := setUp(t, &slowRenewals{Store: shared{store}, renew: renew}, echo("e", one(4), nil))
				r.cfg.LeaseTTL = time.Second
				start(t, r)
				for range 600 {
					time.Sleep(100 * time.Millisecond)
					if live, err := store.Runners(t.Context()); err != nil || len(live) != 1 {
						t.Errorf("the lease was lost: %v, %v", live, err)
						break
					}
				}
				if err := r.LostErr(); err != nil {
					t.Error(err)
				}
				halt(t, r)
			})
		})
	}
}

type slowRenewals struct {
	storage.Store
	n     int
	renew func(n int) (time.Duration, error)
}

func (s *slowRenewals) Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
	s.n++
	d, err := s.renew(s.n)
	if e := sleep(ctx, d); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	return s.Store.Renew(ctx, inc, draining, ttl)
}

// A handler checks the key of what it sends; when another body takes the key
// before it commits, somebody has to hear of it.
func TestDroppedNotificationIsReported(t *testing.T) {
	t.Parallel()
	for _, tx := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			dropped := 0
			store := storagetest.Faulty(memory.New(), storagetest.Script{})
			var r *Runner
			r = setUp(t, store,
				echo("e", one(4), func(ctx context.Context, s string) (string, error) {
					if tx {
						if err := openTx(ctx); err != nil {
							return "", err
						}
					}
					mine := keyed(r, s)
					storeAs(t, store.Unwrap(), keyed(r, "another body"))
					invoke.From(ctx).Collect(invoke.Sends{Accepts: []crustertype.Message{mine}})
					return s, nil
				}),
				echo("other", one(4), func(context.Context, string) (string, error) { return "", nil }))
			r.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			r.cfg.Probe = invoke.NewProbe(observe.Func(func(e observe.Event) {
				if _, ok := e.(observe.NotificationDropped); ok {
					dropped++
				}
			}), nil)
			start(t, r)
			if _, err := r.Call(t.Context(), r.message("e", "a", "x")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if dropped != 1 || !strings.Contains(log.String(), "level=ERROR") {
				t.Errorf("tx %v: %d events, and the log is:\n%s", tx, dropped, log.String())
			}
			halt(t, r)
		})
	}
}

func keyed(r *Runner, text string) crustertype.Message {
	m := r.message("other", "b", text)
	m.Key = "k"
	m.ID = crustertype.KeyedRequestID(m.Address, m.Method, m.Key)
	copy(m.Digest[:], text)
	return m
}
