//go:build unix

package grpctransport_test

import (
	"syscall"
	"time"
)

// cpuTime returns what the process has used. Other than elapsed time, it does
// not depend on what else the machine does.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
