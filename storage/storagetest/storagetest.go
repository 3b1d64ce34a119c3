// Package storagetest checks an implementation of package storage against its
// contract, one rule at a time.
//
// A backend's test calls [Run]:
//
//	func TestContract(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) storagetest.Harness {
//			return storagetest.Harness{Store: memory.New()}
//		})
//	}
//
// [Rules] gives the rules one by one, for tests of the suite itself. [Faulty]
// wraps a store and makes its writes fail as databases do; [Bench] measures a
// store. The package uses the standard library only.
package storagetest

import (
	"context"
	"slices"
	"testing"

	"github.com/cruster-go/cruster/storage"
)

// TB is the part of [testing.TB] that rules use, so that a test of the suite
// can record failures instead of failing. Fatalf must end the goroutine.
type TB interface {
	// Helper marks the calling function as a helper.
	Helper()
	// Logf prints when the test fails.
	Logf(format string, args ...any)
	// Errorf records a failure.
	Errorf(format string, args ...any)
	// Fatalf records a failure and ends the goroutine.
	Fatalf(format string, args ...any)
	// Context ends just before the cleanups run.
	Context() context.Context
	// Cleanup registers f to be called at the end, last one first.
	Cleanup(f func())
	// TempDir returns an empty directory that goes with the test.
	TempDir() string
}

// Harness is one store under test.
type Harness struct {
	// Store is empty, and closed by the suite.
	Store storage.Store

	// Reopen opens again what a closed Store has left. Nil when it is not
	// durable.
	Reopen func(t TB) storage.Store

	// Table is the name of a table that the rules about SQL may create and use,
	// schema included; default "storagetest_rows".
	Table string

	// CreateTable is the statement that creates it, in the store's dialect, with
	// the columns id (text, primary key) and n (64-bit integer, not null). The
	// default suits SQLite and PostgreSQL.
	CreateTable string

	// Inject makes the next commit of Store, or of a Tx of it, meet a fault in
	// the connection to the database. Optional: without it, rules about faults
	// put [Faulty] around Store.
	Inject func(Fault)
}

func (h Harness) withDefaults() Harness {
	if h.Table == "" {
		h.Table = "storagetest_rows"
	}
	if h.CreateTable == "" {
		h.CreateTable = "CREATE TABLE " + h.Table + " (id TEXT PRIMARY KEY, n BIGINT NOT NULL)"
	}
	return h
}

// Rule is one rule of the contract.
type Rule struct {
	Name string // as a subtest
	Text string // what must hold; printed with every failure
	// Applies reports whether the rule is about stores like this one; nil: all.
	Applies func(h Harness) bool
	// Check checks h, whose store is empty.
	Check func(t TB, h Harness)
}

// Rules returns all rules, in the order of the contract.
func Rules() []Rule {
	return slices.Concat(unitRules(), fenceRules(), acceptRules(), messageRules(), pendingRules(), journalRules(),
		scheduleRules(), dueRules(), ownerRules(), takeOverRules(), txRules(), sqlRules(), adminRules(), purgeRules(), listRules(),
		lifeRules(), faultRules())
}

// Run checks the stores that open returns, a fresh empty one for each rule. The
// rules run in parallel.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, r := range Rules() {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			t.Cleanup(func() {
				if err := h.Store.Close(); err != nil {
					t.Errorf("Close() = %v", err)
				}
			})
			if r.Applies != nil && !r.Applies(h) {
				t.Skipf("not about this store: %s", r.Text)
			}
			r.Check(t, h)
		})
	}
}

// rule makes a Rule of a function over the suite's own tools.
func rule(name, text string, check func(k *kit)) Rule {
	return Rule{Name: name, Text: text, Check: func(t TB, h Harness) {
		t.Helper()
		check(newKit(ruled{t, text}, h))
	}}
}

// when limits a rule to some stores.
func (r Rule) when(applies func(h Harness) bool) Rule {
	r.Applies = applies
	return r
}

func hasSQL(h Harness) bool   { return h.Store.Info().SQL }
func lacksSQL(h Harness) bool { return !h.Store.Info().SQL }
func durable(h Harness) bool  { return h.Reopen != nil }

// ruled prints the rule with each failure.
type ruled struct {
	TB
	text string
}

func (r ruled) Errorf(format string, args ...any) {
	r.Helper()
	r.TB.Errorf(format+"\n\trule: %s", append(slices.Clip(args), r.text)...)
}

func (r ruled) Fatalf(format string, args ...any) {
	r.Helper()
	r.TB.Fatalf(format+"\n\trule: %s", append(slices.Clip(args), r.text)...)
}
