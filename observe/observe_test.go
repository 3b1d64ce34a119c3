package observe_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/observe"
)

func events() []observe.Event {
	shards := []crustertype.Shard{{Group: "default", Index: 7}}
	m := observe.Member{Incarnation: 3, Address: "a:1"}
	return []observe.Event{
		observe.Joined{Member: m}, observe.Detached{Member: m}, observe.MemberJoined{Member: m}, observe.MemberLeft{Member: m},
		observe.MemberSuspected{Member: m, Revoked: true}, observe.ShardsAcquired{Shards: shards}, observe.ShardsTakenOver{Shards: shards, From: 2},
		observe.ShardsMoved{Shards: shards, To: 4}, observe.ShardsLost{Shards: shards}, observe.ShardsFenced{Shards: shards},
		observe.CommitFlushed{Units: 5, Took: time.Millisecond}, observe.CallRouted{Tries: 1, OK: true},
		observe.Handled{Type: "t", Method: "M", Kind: observe.Activity, Attempt: 1, Code: crustertype.CodeUser}, observe.DeadLettered{Type: "t", Method: "M"},
		observe.NotificationDropped{Type: "t", Method: "M"},
	}
}

func TestEventsHaveNamesAndAttributes(t *testing.T) {
	seen := make(map[string]bool)
	for _, e := range events() {
		name := observe.Name(e)
		if seen[name] || name == "" || strings.ToLower(name) != name {
			t.Errorf("%T: name %q", e, name)
		}
		seen[name] = true
		if len(observe.Attrs(e)) == 0 {
			t.Errorf("%T has no attributes", e)
		}
	}
}

func TestJoinTellsAll(t *testing.T) {
	var a, b int
	o := observe.Join(observe.Func(func(observe.Event) { a++ }), nil, observe.Func(func(observe.Event) { b++ }))
	for _, e := range events() {
		o.Observe(e)
	}
	if want := len(events()); a != want || b != want {
		t.Errorf("told %d and %d times, want %d", a, b, want)
	}
}

func TestLogLevels(t *testing.T) {
	var out bytes.Buffer
	o := observe.Log(slog.New(slog.NewTextHandler(&out, nil)))
	o.Observe(observe.CommitFlushed{Units: 1}) // debug: not enabled
	o.Observe(observe.ShardsLost{Shards: []crustertype.Shard{{Group: "default", Index: 7}}})
	if got := out.String(); strings.Contains(got, "commit_flushed") || !strings.Contains(got, "level=WARN msg=shards_lost shards=1 first=default/7") {
		t.Errorf("log is %q", got)
	}
}

func ExampleFunc() {
	var o observe.Observer = observe.Func(func(e observe.Event) {
		if m, ok := e.(observe.ShardsMoved); ok {
			fmt.Println("moved", len(m.Shards), "shards to", m.To)
		}
	})
	o.Observe(observe.ShardsMoved{Shards: make([]crustertype.Shard, 2), To: 9})
	// Output: moved 2 shards to 9
}
