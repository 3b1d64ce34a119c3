package storagetest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// plants are the faults and the rules that must each find them.
var plants = []struct {
	name  string
	plant func(p *planted)
	rules []string
}{
	{"no fence", func(p *planted) {
		rewrite(p, func(_ context.Context, u *storage.Unit) { u.Leases = nil })
	}, []string{
		"StaleTokenIsFenced", "StaleEpochIsFenced", "WrongOwnerIsFenced", "LeaseOfNeverOwnedShardIsFenced", "GroupsAreDifferentShards", "LeaseAloneIsChecked",
		"FencedErrorNamesExactlyTheLostShards", "FenceCoversEveryMutation", "CommitsEndWithTheTakeOver", "TakeOverMovesAShard", "TakeOverCutsOffAnOpenTx", "RefusedTxIsOver",
		"HandOverGivesShardsAway",
	}},
	{"fence ignores the owner", func(p *planted) {
		rewrite(p, func(ctx context.Context, u *storage.Unit) {
			u.Leases = slices.Clone(u.Leases)
			for i := range u.Leases {
				if now, err := p.Owners(ctx, []crustertype.Shard{u.Leases[i].Shard}); err == nil {
					u.Leases[i].Owner = now[0].Owner
				}
			}
		})
	}, []string{"WrongOwnerIsFenced"}},
	{"fence ignores the token", func(p *planted) {
		rewrite(p, func(ctx context.Context, u *storage.Unit) {
			u.Leases = slices.Clone(u.Leases)
			for i := range u.Leases {
				if now, err := p.Owners(ctx, []crustertype.Shard{u.Leases[i].Shard}); err == nil {
					u.Leases[i].Token = now[0].Token
				}
			}
		})
	}, []string{"StaleTokenIsFenced"}},
	{"fence before the transaction", func(p *planted) {
		var mu sync.Mutex // the check happens, some time before the write
		p.commit = func(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
			bare := slices.Clone(units)
			var leases []storage.Unit
			for i := range bare {
				leases = append(leases, storage.Unit{Leases: bare[i].Leases})
				bare[i].Leases = nil
			}
			if _, err := p.Store.Commit(ctx, leases); err != nil {
				return nil, err
			}
			mu.Lock() // one writer: others wait here with a check that grows old
			defer mu.Unlock()
			timer := time.NewTimer(2 * time.Millisecond)
			defer timer.Stop()
			<-timer.C
			return p.Store.Commit(ctx, bare)
		}
	}, []string{"CommitsEndWithTheTakeOver"}},
	{"commit is not atomic", func(p *planted) {
		p.commit = func(ctx context.Context, units []storage.Unit) (out []storage.Result, err error) {
			for i, u := range units {
				res, err := p.Store.Commit(ctx, []storage.Unit{u})
				if err != nil {
					var bad *storage.UnitError
					if errors.As(err, &bad) {
						bad.Index = i
					}
					return nil, err
				}
				out = append(out, res...)
			}
			return out, nil
		}
	}, []string{"CommitIsAtomic", "RefusedUnitIsNamed", "FencedErrorNamesExactlyTheLostShards", "FieldsApplyInOrderAcrossUnits", "ConflictWithinOneCommit"}},
	{"units in reverse", func(p *planted) {
		p.commit = func(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
			units = slices.Clone(units)
			slices.Reverse(units)
			out, err := p.Store.Commit(ctx, units)
			slices.Reverse(out)
			return out, err
		}
	}, []string{"UnitsApplyInOrder", "StepsApplyInOrder", "AcceptSeesEarlierOnes"}},
	{"dedupe overwrites the body", func(p *planted) {
		bodies := sync.Map{}
		rewrite(p, func(_ context.Context, u *storage.Unit) {
			for _, m := range u.Accepts {
				bodies.Store(m.ID, m.Payload)
			}
		})
		p.message = func(ctx context.Context, id crustertype.RequestID) (crustertype.Message, error) {
			m, err := p.Store.Message(ctx, id)
			if b, ok := bodies.Load(id); ok && err == nil {
				m.Payload = slices.Clone(b.([]byte))
			}
			return m, err
		}
	}, []string{"AcceptMeetsExisting", "AcceptSeesEarlierOnes"}},
	{"existing is not reported", func(p *planted) {
		p.commit = func(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
			out, err := p.Store.Commit(ctx, units)
			clear(out)
			return out, err
		}
	}, []string{"AcceptMeetsExisting", "AcceptMeetsFinished", "AcceptSeesEarlierOnes", "OneOfRacingAcceptsIsNew", "StartMeetsExisting", "StartSeesEarlierOnes", "TxCommitAppliesTheUnit"}},
	{"upsert overwrites a done step", func(p *planted) {
		var mu sync.Mutex
		over := map[crustertype.ExecutionRef]crustertype.Step{}
		p.commit = func(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
			out, err := p.Store.Commit(ctx, units)
			if !errors.Is(err, storage.ErrConflict) || len(units[0].Steps) == 0 {
				return out, err
			}
			mu.Lock()
			defer mu.Unlock()
			over[units[0].Steps[0].ExecutionRef] = units[0].Steps[0].Step
			return make([]storage.Result, len(units)), nil
		}
		p.steps = func(ctx context.Context, ref crustertype.ExecutionRef, run int) ([]crustertype.Step, error) {
			out, err := p.Store.Steps(ctx, ref, run)
			mu.Lock()
			defer mu.Unlock()
			if s, ok := over[ref]; ok && len(out) > 0 {
				out[0] = s
			}
			return out, err
		}
	}, []string{"DoneStepNeverChanges", "PendingStepOfOtherIdentityConflicts", "ConflictWithinOneCommit"}},
	{"late step is a conflict", func(p *planted) {
		p.commit = func(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
			for i, u := range units {
				for _, w := range u.Steps {
					old, err := p.Store.Steps(ctx, w.ExecutionRef, w.Step.Run)
					if err != nil {
						return nil, err
					}
					for _, s := range old {
						if s.Pos == w.Step.Pos && s.Done() && !w.Step.Done() {
							return nil, &storage.UnitError{Index: i, Err: storage.ErrConflict}
						}
					}
				}
			}
			return p.Store.Commit(ctx, units)
		}
	}, []string{"ResentStepsOfOneCommitChangeNothing", "LatePendingStepIsIgnored"}},
	{"finish applies twice", func(p *planted) {
		ends := sync.Map{}
		rewrite(p, func(_ context.Context, u *storage.Unit) {
			for _, f := range u.Finishes {
				ends.Store(f.ID, f)
			}
		})
		p.message = func(ctx context.Context, id crustertype.RequestID) (crustertype.Message, error) {
			m, err := p.Store.Message(ctx, id)
			if f, ok := ends.Load(id); ok && err == nil {
				m.Outcome, m.State = f.(storage.Finish).Outcome, f.(storage.Finish).State
			}
			return m, err
		}
	}, []string{"FinishHappensOnce"}},
	{"attempts are dropped", func(p *planted) {
		rewrite(p, func(_ context.Context, u *storage.Unit) { u.Attempts = nil })
	}, []string{"AttemptsOnlyGrow"}},
	{"cancels are dropped", func(p *planted) {
		rewrite(p, func(_ context.Context, u *storage.Unit) { u.Cancels = nil })
	}, []string{"FirstCancelWins", "CancelRequestIsDue"}},
	{"Pending loses the order", func(p *planted) {
		p.pending = func(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
			out, err := p.Store.Pending(ctx, q)
			slices.SortFunc(out, func(a, b crustertype.Message) int { return slices.Compare(a.ID[:], b.ID[:]) })
			return out, err
		}
	}, []string{"PendingIsOrderedBySeq", "UnadoptedAreFoundByState"}},
	{"the cursor hides unadopted messages", func(p *planted) {
		p.pending = func(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
			out, err := p.Store.Pending(ctx, q)
			return slices.DeleteFunc(out, func(m crustertype.Message) bool { return m.Seq == 0 && q.AfterSeq > 0 }), err
		}
	}, []string{"UnadoptedAreFoundByState", "RetryMessageRevivesADeadLetter"}},
	{"Pending returns what is not due", func(p *planted) {
		p.pending = func(ctx context.Context, q storage.PendingQuery) ([]crustertype.Message, error) {
			q.Now = q.Now.Add(24 * time.Hour)
			return p.Store.Pending(ctx, q)
		}
	}, []string{"PendingLeavesOutWhatIsNotDue"}},
	{"timers are dropped", func(p *planted) {
		p.timers = func(ctx context.Context, q storage.TimerQuery) ([]storage.Timer, storage.Cursor, error) {
			out, _, err := p.Store.Timers(ctx, q)
			return out, "", err
		}
	}, []string{"TimersPage", "LimitZeroIsAThousand"}},
	{"cancel requests are not due", func(p *planted) {
		p.timers = func(ctx context.Context, q storage.TimerQuery) ([]storage.Timer, storage.Cursor, error) {
			out, c, err := p.Store.Timers(ctx, q)
			return slices.DeleteFunc(out, func(t storage.Timer) bool {
				e, err := p.Execution(ctx, t.Execution)
				return err == nil && e.CancelAt.Equal(t.At)
			}), c, err
		}
	}, []string{"CancelRequestIsDue", "RetryOfFailedOpensTheNextRun"}},
	{"take-over without owner condition", func(p *planted) {
		p.takeOver = func(ctx context.Context, t storage.TakeOver) (out []crustertype.Lease, err error) {
			for _, sh := range t.Shards {
				now, err := p.Owners(ctx, []crustertype.Shard{sh})
				if err != nil {
					return nil, err
				}
				one := t
				one.Shards, one.From = []crustertype.Shard{sh}, now[0].Owner
				got, err := p.Store.TakeOver(ctx, one)
				if err != nil {
					return nil, err
				}
				out = append(out, got...)
			}
			return out, nil
		}
	}, []string{"TakeOverIsFromTheNamedOwnerOnly", "OneOfRacingTakeOversWins"}},
	{"take-over ignores the lock revision", func(p *planted) {
		p.takeOver = func(ctx context.Context, t storage.TakeOver) ([]crustertype.Lease, error) {
			t.LockRev = 0
			return p.Store.TakeOver(ctx, t)
		}
	}, []string{"LockRevisionOrdersTakeOvers"}},
	{"hand-over one by one", func(p *planted) {
		p.handOver = func(ctx context.Context, leases []crustertype.Lease, to crustertype.Incarnation) (out []crustertype.Lease, err error) {
			for _, l := range leases {
				got, err := p.Store.HandOver(ctx, []crustertype.Lease{l}, to)
				if err != nil {
					return nil, err
				}
				out = append(out, got...)
			}
			return out, nil
		}
	}, []string{"FencedHandOverChangesNothing"}},
	{"Renew revives the dead", func(p *planted) {
		p.renew = func(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error {
			if err := p.Store.Renew(ctx, inc, draining, ttl); !errors.Is(err, storage.ErrFenced) {
				return err
			}
			return nil
		}
	}, []string{"ExpiredRecordCannotBeRenewed"}},
	{"Tx.Commit acknowledges without writing", func(p *planted) {
		p.begin = func(ctx context.Context) (storage.Tx, error) {
			tx, err := p.Store.Begin(ctx)
			return &plantedTx{Tx: tx, commit: func(_ context.Context, us []storage.Unit) ([]storage.Result, error) {
				return make([]storage.Result, len(us)), nil
			}}, err
		}
	}, []string{"TxCommitAppliesTheUnit", "TxEndsOnce", "TxWithoutSQLSaysSo"}},
	{"purge touches pending items", func(p *planted) {
		p.purge = func(ctx context.Context, pu storage.Purge) (int, error) {
			ms, _, err := p.Messages(ctx, storage.MessageFilter{States: []crustertype.MessageState{crustertype.MessagePending}})
			if err != nil {
				return 0, err
			}
			for _, m := range ms {
				f := storage.Finish{ID: m.ID, State: crustertype.MessageDone, At: pu.Before.Add(-time.Hour)}
				if _, err := p.Store.Commit(ctx, []storage.Unit{{Finishes: []storage.Finish{f}}}); err != nil {
					return 0, err
				}
			}
			return p.Store.Purge(ctx, pu)
		}
	}, []string{"PurgeLeavesUnfinishedAlone"}},
	{"purge takes all types", func(p *planted) {
		p.purge = func(ctx context.Context, pu storage.Purge) (int, error) {
			pu.Messages, pu.Executions = storage.AllTypes, storage.AllTypes
			return p.Store.Purge(ctx, pu)
		}
	}, []string{"PurgeIsByType"}},
	{"purge forgets keys", func(p *planted) {
		p.purge = func(ctx context.Context, pu storage.Purge) (int, error) {
			pu.KeysBefore = pu.Before
			return p.Store.Purge(ctx, pu)
		}
	}, []string{"PurgeKeepsTombstones", "TombstonesKeepSmallOutcomesOnly", "TombstonesGoByKeysBefore"}},
	{"pages by number", func(p *planted) {
		p.messages = func(ctx context.Context, f storage.MessageFilter) ([]crustertype.Message, storage.Cursor, error) {
			skip, limit := len(f.After), f.Limit
			f.After, f.Limit = "", 1000
			all, _, err := p.Store.Messages(ctx, f)
			all = all[min(skip, len(all)):]
			if limit == 0 || len(all) <= limit {
				return all, "", err
			}
			return all[:limit], storage.Cursor(strings.Repeat("x", skip+limit)), err
		}
	}, []string{"PagesAreStableUnderWrites"}},
	{"times in milliseconds", func(p *planted) {
		rewrite(p, func(_ context.Context, u *storage.Unit) {
			u.Accepts = slices.Clone(u.Accepts)
			for i := range u.Accepts {
				u.Accepts[i].CreatedAt = u.Accepts[i].CreatedAt.Truncate(time.Millisecond)
			}
		})
	}, []string{"TimesKeepMicroseconds", "AcceptKeepsEveryField"}},
	{"contexts are ignored", func(p *planted) {
		p.commit = func(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
			return p.Store.Commit(context.WithoutCancel(ctx), units)
		}
	}, []string{"EndedContextEndsCalls"}},
	{"Close does nothing", func(p *planted) {
		p.close = func() error { return nil }
	}, []string{"ClosedStoreRefuses"}},
}
