package storagetest_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder keeps failures instead of failing.
type recorder struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	failures []string
	cleanups []func()
}

var _ storagetest.TB = (*recorder)(nil)

func (r *recorder) Helper()                     {}
func (r *recorder) Logf(string, ...any)         {}
func (r *recorder) Context() context.Context    { return r.ctx }
func (r *recorder) TempDir() string             { return r.t.TempDir() }
func (r *recorder) Fatalf(f string, arg ...any) { r.Errorf(f, arg...); runtime.Goexit() }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

// record checks one rule and returns its failures.
func record(t *testing.T, rule storagetest.Rule, h storagetest.Harness) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &recorder{t: t, ctx: ctx}
	alone := func(f func()) { // so that Fatalf ends f only
		var wg sync.WaitGroup
		wg.Go(f)
		wg.Wait()
	}
	alone(func() { rule.Check(r, h) })
	cancel()
	for _, f := range slices.Backward(r.cleanups) {
		alone(f)
	}
	return r.failures
}

// find returns a rule by name.
func find(t *testing.T, name string) storagetest.Rule {
	t.Helper()
	rules := storagetest.Rules()
	i := slices.IndexFunc(rules, func(r storagetest.Rule) bool { return r.Name == name })
	if i < 0 {
		t.Fatalf("there is no rule %q", name)
	}
	return rules[i]
}
