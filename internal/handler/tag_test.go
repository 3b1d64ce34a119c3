package handler

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseTags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		tag  string
		name string
		want EntityOptions
	}{
		{"", "", EntityOptions{}},
		{"counter", "counter", EntityOptions{}},
		{" counter , concurrency = 3 ", "counter", EntityOptions{Concurrency: Some(3)}},
		{",idle=1h30m", "", EntityOptions{Idle: Some(90 * time.Minute)}},
		{"a,idle=-1,mailbox=1", "a", EntityOptions{Idle: Some(Off), Mailbox: Some(1)}},
		{"a,concurrency=0,shard_group=g-1", "a", EntityOptions{Concurrency: Some(0), ShardGroup: Some("g-1")}},
	} {
		name, got, problems := parseEntityTag(tc.tag)
		if name != tc.name || len(problems) > 0 {
			t.Errorf("%q: name %q, problems %q", tc.tag, name, problems)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.tag, diff)
		}
	}
	_, w, problems := parseWorkflowTag("w,hash,retention=-1")
	if len(problems) > 0 || w.Hash != Some(true) || w.Retention != Some(Off) {
		t.Errorf("workflow options %+v, problems %q", w, problems)
	}
	_, a, problems := parseActivityTag("Charge,private,retries=0")
	if len(problems) > 0 || a.Visibility != Private || a.Retries != Some(0) || a.Backoff.Set {
		t.Errorf("activity options %+v, problems %q", a, problems)
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"a": true, "A.b_c-9": true, strings.Repeat("x", 128): true,
		"": false, strings.Repeat("x", 129): false, "a b": false, "a/b": false, "é": false, "a\x00": false, "a,b": false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	options := []string{"concurrency", "mailbox", "idle", "shard_group"}
	for name, want := range map[string]string{
		"concurency": "concurrency", "Mailbox": "mailbox", "idel": "idle", "shardgroup": "shard_group", "shard-group": "shard_group",
		"x": "", "": "", "persisted": "", strings.Repeat("z", 300): "",
	} {
		if got := nearest(name, options); got != want {
			t.Errorf("nearest(%q) = %q, want %q", name, got, want)
		}
	}
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"same", "same", 0}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

func FuzzTags(f *testing.F) {
	for _, s := range []string{"", "a", "a,b=c", ",,,", "a,retries=9999999999999999999", "a,timeout=9223372036854775807ns", "=,=,=", "a,timeout=-1", "\xff,\xff=\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		for _, parse := range []func(string) []string{
			func(s string) []string { _, _, p := parseEntityTag(s); return p },
			func(s string) []string { _, _, p := parseWorkflowTag(s); return p },
			func(s string) []string { _, _, p := parseRPCTag(s); return p },
			func(s string) []string { _, _, p := parseActivityTag(s); return p },
		} {
			for _, p := range parse(tag) {
				if p == "" {
					t.Errorf("%q has a problem without text", tag)
				}
			}
		}
		parseFuncName(tag)
		CheckName(tag) //nolint:errcheck // it must not panic
	})
}
