package storagetest_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/storage/storagetest"
)

// TestPlantedFaultsAreFound breaks the store in many ways and demands that the
// rules made against each of them fail.
func TestPlantedFaultsAreFound(t *testing.T) {
	t.Parallel()
	for _, fault := range plants {
		for _, name := range fault.rules {
			t.Run(fault.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				rule := find(t, name)
				inner := memory.New()
				t.Cleanup(func() { closeStore(t, inner) })
				p := &planted{Store: inner}
				fault.plant(p)
				failures := record(t, rule, storagetest.Harness{Store: p})
				if len(failures) == 0 {
					t.Fatalf("the rule holds for a store in which %s", fault.name)
				}
				if !strings.Contains(failures[0], rule.Text) {
					t.Errorf("the failure does not print its rule: %s", failures[0])
				}
			})
		}
	}
}

func closeStore(t *testing.T, s storage.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// TestPlantedLossIsFound opens stores again that kept everything, and that
// acknowledged their last commits before they were durable.
func TestPlantedLossIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		keep bool
	}{{"kept", true}, {"lost", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inner := memory.New()
			t.Cleanup(func() { closeStore(t, inner) })
			later := []storage.Unit(nil) // acknowledged, but not written
			open := func() storage.Store {
				p := &planted{Store: inner, close: func() error { return nil }}
				if c.keep {
					return p
				}
				p.commit = func(ctx context.Context, units []storage.Unit) ([]storage.Result, error) {
					for _, u := range units {
						for i := range u.Steps {
							later = append(later, storage.Unit{Steps: u.Steps[i : i+1]})
						}
					}
					units = slices.Clone(units)
					for i := range units {
						units[i].Steps = nil
					}
					return p.Store.Commit(ctx, units)
				}
				p.steps = func(ctx context.Context, ref crustertype.ExecutionRef, run int) ([]crustertype.Step, error) {
					var out []crustertype.Step
					for _, u := range later {
						if w := u.Steps[0]; w.ExecutionRef == ref && w.Step.Run == run {
							out = append(out, w.Step)
						}
					}
					return out, nil
				}
				return p
			}
			h := storagetest.Harness{Store: open(), Reopen: func(storagetest.TB) storage.Store {
				later = nil
				return open()
			}}
			failures := record(t, find(t, "ReopenKeepsEverything"), h)
			if c.keep && len(failures) > 0 {
				t.Errorf("the rule fails for a store that keeps everything: %q", failures)
			}
			if !c.keep && len(failures) == 0 {
				t.Error("the rule holds for a store that loses what it has acknowledged")
			}
		})
	}
}

// TestRulesAreWellFormed keeps names unique and texts present.
func TestRulesAreWellFormed(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, r := range storagetest.Rules() {
		if seen[r.Name] || r.Name == "" || r.Text == "" || r.Check == nil {
			t.Errorf("rule %q: names are unique, texts and checks are there", r.Name)
		}
		seen[r.Name] = true
	}
	if len(seen) < 80 {
		t.Errorf("%d rules: some list is missing from Rules", len(seen))
	}
}
