package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// Stage tells what happens, and kills the process at a chosen point, so that
// one can watch what the next one does.
type Stage struct {
	out        io.Writer
	crashAfter int  // points to pass; 0: none
	quiet      bool // a dot for each step is enough: too much happens

	mu     sync.Mutex
	points int
	ran    map[string]bool // steps whose code ran in this process
}

// running is called when a step's code begins.
func (s *Stage) running(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ran == nil {
		s.ran = make(map[string]bool)
	}
	s.ran[step] = true
	s.point("in " + step + ", before it wrote")
}

// wrote is called when a step has written, and not committed yet.
func (s *Stage) wrote(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet {
		fmt.Fprint(s.out, ".")
	}
	s.point("in " + step + ", after it wrote and before it committed")
}

// reached is called when the workflow has passed a step.
func (s *Stage) reached(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how := "replayed"
	if s.ran[step] {
		how = "ran"
	} else if step == "sleep" {
		how = "slept"
	}
	if !s.quiet {
		fmt.Fprintf(s.out, "  %-8s %s\n", step, how)
	}
	s.point("after " + step)
}

func (s *Stage) point(where string) {
	if s.points++; s.points == s.crashAfter {
		fmt.Fprintf(s.out, "killed at point %d: %s\n", s.points, where)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal arrives
	}
}
