package handler

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of option values. They are far beyond what makes sense: their purpose
// is to catch a wrong unit or a slipped digit.
const (
	maxConcurrency = 1_000_000
	maxMailbox     = 10_000_000
	maxRetries     = 1_000_000
	maxDuration    = 10 * 365 * 24 * time.Hour
	maxName        = 128
)

// option parses one option of a tag. The value is nil if there was no "=".
type option func(value *string) error

// parseTag splits a tag into its name and its options, and applies these. All
// problems are returned, not only the first.
func parseTag(tag string, options map[string]option) (name string, problems []string) {
	items := strings.Split(tag, ",")
	name = strings.TrimSpace(items[0])
	if key, _, ok := strings.Cut(name, "="); ok {
		problems = append(problems, fmt.Sprintf("starts with the option %q: the first item is the name, which may be empty", strings.TrimSpace(key)))
		name = ""
	}
	known := make([]string, 0, len(options))
	for k := range options {
		known = append(known, k)
	}
	seen := make(map[string]bool)
	for _, item := range items[1:] {
		key, val, hasVal := strings.Cut(item, "=")
		key, val = strings.TrimSpace(key), strings.TrimSpace(val)
		if key == "" {
			problems = append(problems, fmt.Sprintf("has an empty option in %q", tag))
			continue
		}
		set, ok := options[key]
		if !ok {
			problems = append(problems, fmt.Sprintf("has the unknown option %q%s", key, hint(key, known)))
			continue
		}
		if seen[key] {
			problems = append(problems, fmt.Sprintf("has the option %q twice", key))
			continue
		}
		seen[key] = true
		var p *string
		if hasVal {
			p = &val
		}
		if err := set(p); err != nil {
			problems = append(problems, fmt.Sprintf("has a bad option %q: %v", strings.TrimSpace(item), err))
		}
	}
	return name, problems
}

func parseEntityTag(tag string) (name string, o EntityOptions, problems []string) {
	name, problems = parseTag(tag, map[string]option{
		"concurrency": intOption(&o.Concurrency, 0, maxConcurrency),
		"mailbox":     intOption(&o.Mailbox, 1, maxMailbox),
		"idle":        durationOption(&o.Idle, true),
		"shard_group": nameOption(&o.ShardGroup),
	})
	return name, o, problems
}

func parseWorkflowTag(tag string) (name string, o WorkflowOptions, problems []string) {
	name, problems = parseTag(tag, map[string]option{
		"hash":        boolOption(&o.Hash),
		"shard_group": nameOption(&o.ShardGroup),
		"timeout":     durationOption(&o.Timeout, true),
		"retention":   durationOption(&o.Retention, true),
	})
	return name, o, problems
}

func parseRPCTag(tag string) (name string, o MethodOptions, problems []string) {
	var protected, private bool
	name, problems = parseTag(tag, map[string]option{
		"persisted": flagOption(&o.Persisted),
		"protected": flagOption(&protected),
		"private":   flagOption(&private),
		"retries":   intOption(&o.Retries, 0, maxRetries),
		"timeout":   durationOption(&o.Timeout, true),
	})
	switch {
	case protected && private:
		problems = append(problems, "has both protected and private: choose one")
		o.Visibility = Private
	case protected:
		o.Visibility = Protected
	case private:
		o.Visibility = Private
	}
	if o.Retries.Set && o.Retries.V > 0 && !o.Persisted && !private {
		problems = append(problems, "has retries without persisted: a best-effort call runs at most once")
	}
	return name, o, problems
}

func parseActivityTag(tag string) (name string, o MethodOptions, problems []string) {
	var private bool
	name, problems = parseTag(tag, map[string]option{
		"private": flagOption(&private),
		"retries": intOption(&o.Retries, 0, maxRetries),
		"backoff": backoffOption(&o.Backoff),
		"initial": durationOption(&o.Initial, false),
		"max":     durationOption(&o.Max, false),
		"timeout": durationOption(&o.Timeout, true),
	})
	if private {
		o.Visibility = Private
	}
	if o.Initial.Set && o.Max.Set && o.Initial.V > o.Max.V {
		problems = append(problems, fmt.Sprintf("has initial=%s above max=%s", o.Initial.V, o.Max.V))
	}
	return name, o, problems
}

func flagOption(dst *bool) option {
	return func(v *string) error {
		if v != nil {
			return fmt.Errorf("it takes no value")
		}
		*dst = true
		return nil
	}
}

func boolOption(dst *Opt[bool]) option {
	return func(v *string) error {
		switch {
		case v == nil, *v == "true":
			*dst = Some(true)
		case *v == "false":
			*dst = Some(false)
		default:
			return fmt.Errorf("%q is neither true nor false", *v)
		}
		return nil
	}
}

func intOption(dst *Opt[int], least, most int) option {
	return func(v *string) error {
		if v == nil || *v == "" {
			return fmt.Errorf("it needs a number from %d to %d", least, most)
		}
		n, err := strconv.Atoi(*v)
		if err != nil {
			return fmt.Errorf("%q is not a whole number from %d to %d", *v, least, most)
		}
		if n < least || n > most {
			return fmt.Errorf("%d is not from %d to %d", n, least, most)
		}
		*dst = Some(n)
		return nil
	}
}

// durationOption takes a positive duration, and "-1" for off if off is true.
func durationOption(dst *Opt[time.Duration], off bool) option {
	return func(v *string) error {
		if v == nil || *v == "" {
			return fmt.Errorf("it needs a duration such as 10s")
		}
		if off && *v == "-1" {
			*dst = Some(Off)
			return nil
		}
		d, err := time.ParseDuration(*v)
		if err != nil {
			if n, err := strconv.Atoi(*v); err == nil && n > 0 {
				return fmt.Errorf("%q has no unit: write %ss or %sms", *v, *v, *v)
			}
			return fmt.Errorf("%q is not a duration such as 10s, 5m or 1h30m", *v)
		}
		switch {
		case d <= 0 && off:
			return fmt.Errorf("%s is not positive; -1 switches it off", d)
		case d <= 0:
			return fmt.Errorf("%s is not positive", d)
		case d > maxDuration:
			return fmt.Errorf("%s is more than ten years", d)
		}
		*dst = Some(d)
		return nil
	}
}

func backoffOption(dst *Opt[Backoff]) option {
	return func(v *string) error {
		got := ""
		if v != nil {
			got = *v
		}
		for _, b := range []Backoff{Exponential, Constant} {
			if got == b.String() {
				*dst = Some(b)
				return nil
			}
		}
		return fmt.Errorf("%q is neither exponential nor constant%s", got, didYouMean(got, []string{"exponential", "constant"}))
	}
}

func nameOption(dst *Opt[string]) option {
	return func(v *string) error {
		if v == nil {
			return fmt.Errorf("it needs a name")
		}
		if err := CheckName(*v); err != nil {
			return err
		}
		*dst = Some(*v)
		return nil
	}
}

// CheckName reports why s cannot be the name of an entity type, workflow,
// method or shard group. Names travel and are keys in storage: they are 1 to
// 128 bytes of letters, digits, "_", "." and "-".
func CheckName(s string) error {
	if s == "" {
		return fmt.Errorf("the name is empty")
	}
	if len(s) > maxName {
		return fmt.Errorf("the name %q... has %d bytes, more than %d", s[:16], len(s), maxName)
	}
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '.', r == '-':
		default:
			return fmt.Errorf("the name %q contains %q: only letters, digits, \"_\", \".\" and \"-\" are allowed", s, r)
		}
	}
	return nil
}
