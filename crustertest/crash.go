package crustertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
)

// Scenario is what [CrashEverywhere] repeats.
type Scenario struct {
	Options

	// Run does the work and waits for its end. It is called in every process:
	// after a crash again, so it has to name its work by keys. An error in a
	// process that is about to die does not count.
	Run func(ctx context.Context) error

	// Check checks the outcome after Run has succeeded.
	Check func(t *testing.T, c *Cluster)
}

// maxCommits bounds how many crash points one scenario may have.
const maxCommits = 2000

// CrashEverywhere runs the scenario once undisturbed, and then once for every
// commit and each side of it, with a process that is killed there and another
// that goes on. Every run starts from an empty store and must end with the same
// outcome. It returns how many crashes it made.
func CrashEverywhere(t *testing.T, s Scenario) int {
	t.Helper()
	if s.Run == nil || s.Check == nil {
		t.Fatal("crustertest: Scenario needs Run and Check")
	}
	if s.Runners > 0 {
		t.Fatal("crustertest: CrashEverywhere kills one process that is alone: leave Runners 0")
	}
	crashes := 0
	if !t.Run("undisturbed", func(t *testing.T) { s.once(t, 0, 0) }) {
		return 0
	}
	for n := 1; n <= maxCommits; n++ {
		for _, when := range []When{BeforeCommit, AfterCommit} {
			died := false
			ok := t.Run(fmt.Sprintf("%s commit %d", when, n), func(t *testing.T) { died = s.once(t, n, when) })
			if !ok || !died {
				return crashes // failed, or the scenario has fewer commits
			}
			crashes++
		}
	}
	t.Errorf("crustertest: the scenario makes more than %d commits: make it smaller", maxCommits)
	return crashes
}

// once runs the scenario with a process that dies at its n-th commit, and
// reports whether it died.
func (s Scenario) once(t *testing.T, n int, when When) (died bool) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, s.Options)
		defer c.close()
		startErr := c.runners[0].start(n, when)
		if startErr == nil {
			died = s.attempt(t, c)
		} else {
			died = errors.Is(c.runners[0].proc.alive(), ErrKilled)
			if !died {
				t.Fatalf("start: %v", startErr)
			}
		}
		if died {
			c.runners[0].bury()
			c.Start()
			if err := s.Run(t.Context()); err != nil {
				t.Fatalf("killed %s commit %d: the next process ended with: %v", when, n, err)
			}
		}
		s.Check(t, c)
	})
	return died
}

// attempt runs the scenario in a process that may die in the middle.
func (s Scenario) attempt(t *testing.T, c *Cluster) (died bool) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	select {
	case err := <-result:
		if c.runners[0].proc.alive() != nil {
			return true
		}
		if err != nil {
			t.Fatalf("run: %v", err)
		}
		return false
	case <-c.runners[0].proc.killed:
		cancel()
		<-result
		return true
	}
}
