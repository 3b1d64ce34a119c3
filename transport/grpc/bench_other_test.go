//go:build !unix

package grpctransport_test

import "time"

func cpuTime() time.Duration { return 0 }
