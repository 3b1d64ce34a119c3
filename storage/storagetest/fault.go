package storagetest

import (
	"context"
	"errors"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// faults makes k's store meet faults and returns the function that orders one.
func (k *kit) faults() func(Fault) {
	if k.h.Inject != nil {
		return k.h.Inject
	}
	f := Faulty(k.s, Script{})
	k.s = f
	return f.Inject
}

func faultRules() []Rule {
	return []Rule{
		rule("LostAnswerIsTransient", "after a transient error the units may have been applied: sending them again succeeds and changes nothing", func(k *kit) {
			inject := k.faults()
			units := k.everyMutation()
			inject(FailAfter)
			_, err := k.s.Commit(k.ctx, units)
			k.wantTransient(FailAfter, err)
			before := k.dump()
			k.commit(units...)
			if after := k.dump(); after != before {
				k.Errorf("sent again after the answer was lost, the units changed the store:\n%s", lineDiff(before, after))
			}
		}),
		rule("FaultsAreTransient", "an error of the infrastructure is one for which IsTransient holds, and the units can be sent again", func(k *kit) {
			inject := k.faults()
			for _, f := range []Fault{FailBefore, Serialization, ConnectionLost, FailAfter} {
				m := k.message()
				inject(f)
				_, err := k.s.Commit(k.ctx, []storage.Unit{accepts(m)})
				k.wantTransient(f, err)
				if f == FailBefore || f == Serialization {
					k.noMessage(m.ID)
				}
				k.commit(accepts(m))
				k.wantMessage(m)
			}
		}),
		rule("TxFaultsAreTransient", "a transaction that meets a fault is over; the work can be done again in a new one", func(k *kit) {
			inject := k.faults()
			for _, f := range []Fault{FailBefore, Serialization, ConnectionLost, FailAfter} {
				m := k.message()
				tx, err := k.s.Begin(k.ctx)
				k.must("Begin", err)
				inject(f)
				_, err = tx.Commit(k.ctx, accepts(m))
				k.wantTransient(f, err)
				if _, err := tx.Commit(k.ctx, storage.Unit{}); !errors.Is(err, storage.ErrTxDone) {
					k.Errorf("Commit after a Commit that met %q = %v, want ErrTxDone", f, err)
				}
				tx, err = k.s.Begin(k.ctx)
				k.must("Begin", err)
				if _, err := tx.Commit(k.ctx, accepts(m)); err != nil {
					k.Fatalf("Commit after a fault = %v", err)
				}
				k.wantMessage(m)
			}
		}),
		rule("StalledCommitEndsWithItsContext", "methods honour the context: when it ends they return its error", func(k *kit) {
			inject := k.faults()
			ctx, cancel := context.WithCancel(k.ctx)
			m := k.message()
			inject(Stall)
			answer := make(chan error, 1)
			go func() {
				_, err := k.s.Commit(ctx, []storage.Unit{accepts(m)})
				answer <- err
			}()
			cancel()
			select {
			case err := <-answer:
				if err == nil || !errors.Is(err, context.Canceled) && !storage.IsTransient(err) {
					k.Errorf("Commit whose context ended = %v, want context.Canceled", err)
				}
			case <-k.ctx.Done():
				k.Fatalf("Commit does not return although its context has ended")
			}
			k.commit(accepts(m), accepts(crustertype.Message{ID: m.ID, Shard: home, State: crustertype.MessagePending, CreatedAt: start}))
			k.wantMessage(m)
		}),
	}
}

func (k *kit) wantTransient(f Fault, err error) {
	k.Helper()
	var t *storage.TransientError
	switch {
	case !errors.As(err, &t):
		k.Fatalf("Commit that met %q = %v, want a *TransientError", f, err)
	case (f == FailAfter || f == ConnectionLost) && !t.Unknown:
		k.Errorf("Commit that met %q = %v with Unknown false: it may have happened", f, err)
	case errors.Is(err, storage.ErrFenced):
		k.Errorf("Commit that met %q = %v: that says nothing about leases", f, err)
	}
}
