// Package settings has what configurations share: defaults, checks that report
// every fault at once, and values from the environment.
package settings

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Default sets *p to v when it is the zero value.
func Default[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Checks collects the faults of a configuration.
type Checks struct {
	Prefix string // of each text
	errs   []error
}

// Bad adds a fault.
func (c *Checks) Bad(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(c.Prefix+format, args...))
}

// AtLeast adds a fault when v is below least.
func (c *Checks) AtLeast(name string, v, least int) {
	if v < least {
		c.Bad("%s is %d: it must be at least %d", name, v, least)
	}
}

// Longer adds a fault when v is below least. off: -1 is allowed too.
func (c *Checks) Longer(name string, v, least time.Duration, off bool) {
	if v >= least || off && v == -1 {
		return
	}
	hint := ""
	if off {
		hint = ", or -1 for off"
	}
	c.Bad("%s is %v: it must be at least %v%s", name, v, least, hint)
}

// Err returns all faults as one error, or nil.
func (c *Checks) Err() error { return errors.Join(c.errs...) }

// FromEnv sets the values whose variables are there. Names are without prefix. It
// reports all faults at once.
func FromEnv(prefix string, numbers map[string]*int, durations map[string]*time.Duration) error {
	var errs []error
	read := func(name, kind string, set func(s string) error) {
		if s, ok := os.LookupEnv(prefix + name); ok && set(s) != nil {
			errs = append(errs, fmt.Errorf("environment: %s%s=%q is not %s", prefix, name, s, kind))
		}
	}
	for name, p := range numbers {
		read(name, "a whole number", func(s string) (err error) { *p, err = strconv.Atoi(s); return err })
	}
	for name, p := range durations {
		read(name, "a duration such as 90s or 5m", func(s string) (err error) {
			if s == "-1" {
				*p = -1
				return nil
			}
			*p, err = time.ParseDuration(s)
			return err
		})
	}
	return errors.Join(errs...)
}
