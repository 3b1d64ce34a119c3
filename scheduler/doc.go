// Package scheduler computes when things happen.
//
// A [Schedule] is a parsed cron expression: it finds the next and the previous
// fire in a time zone. A [Cron] decides, from the last tick that was decided
// and the time, which ticks fire now, which are dropped, and when to look
// again. A [Policy] computes the pauses between attempts. A [Heap] orders
// timers by due time.
//
// The package is pure: no clock, no goroutine, no I/O. The same input gives the
// same decision on every runner and after every crash, and a test needs no
// waiting. DESIGN.md says why the rules are as they are.
package scheduler
