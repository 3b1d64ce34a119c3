package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func testDebugShards(t *testing.T, c *cluster) {
	got := read[map[string]any](t, c, "/debug/shards")
	if got["total_shards"] != 300.0 || got["shards_per_group"] != 300.0 || fmt.Sprint(got["shard_groups"]) != "[default]" {
		t.Errorf("shards %v", got)
	}
	e := read[struct {
		Types  []string `json:"entity_types"`
		Active *int     `json:"active_count"`
	}](t, c, "/debug/entities")
	if !slices.Equal(e.Types, registered) || e.Active == nil || *e.Active < 0 {
		t.Errorf("entities %+v", e)
	}
}

// unprocessed waits until an entity has no row that is not processed.
func unprocessed(t *testing.T, c *cluster, entityType, entityID string) {
	t.Helper()
	path := fmt.Sprintf("/debug/messages?entity_type=%s&entity_id=%s&processed=false", entityType, entityID)
	if _, text := c.do(t, "GET", path, ""); text != "[]" {
		t.Errorf("GET %s after the answer: %s, want []", path, text)
	}
}

func testDebugMessages(t *testing.T, c *cluster) {
	c.exchanges(t,
		exchange{"GET /debug/messages?entity_type=Counter&entity_id=dbg-none", "", 0, "[]"},
		exchange{"GET /counter/dbg", "", 0, "0"},
		exchange{"GET /debug/messages?entity_type=Counter&entity_id=dbg", "", 0, "[]"},
		exchange{"POST /counter/dbg/increment", "1", 0, "1"},
		exchange{"POST /counter/dbg/increment", "1", 0, "2"},
		exchange{"POST /counter/dbg/increment", "1", 0, "3"},
		exchange{"POST /counter/dbg/reset", "", 0, "null"},
		exchange{"POST /cross/dbg/send", `{"target_type":"CrossEntity","target_id":"dbg-2","message":"m"}`, 0, "null"},
		exchange{"POST /trait/dbg/update", `{"data":"d"}`, 0, "null"},
		exchange{"POST /workflow/dbg/run-long", `{"exec_id":"l","steps":3}`, 0, `"completed:l"`},
		exchange{"POST /workflow/dbg/run-failing", `{"exec_id":"f","fail_at":0}`, 500, ""},
		exchange{"POST /sql-activity/dbg/transfer", `{"to_entity":"x","amount":1}`, 0, "1"},
	)
	unprocessed(t, c, "Counter", "dbg")
	unprocessed(t, c, "CrossEntity", "dbg-2")
	unprocessed(t, c, "TraitTest", "dbg")
	rows := read[[]MessageRow](t, c, "/debug/messages?entity_type=Counter&entity_id=dbg")
	if len(rows) != 4 || rows[0].Tag != "reset" {
		t.Errorf("rows of the counter, newest first: %+v, want a reset and three increments", rows)
	}
	again := read[[]MessageRow](t, c, "/debug/messages?entity_type=Counter&entity_id=dbg")
	if !slices.Equal(rows, again) {
		t.Errorf("two nodes differ:\n%+v\n%+v", rows, again)
	}
	ids := make(map[int64]bool)
	for _, r := range rows {
		ids[r.RequestID] = true
		if r.RequestID <= 0 || r.ShardGroup != "default" || r.ShardID < 0 || r.ShardID >= 300 || !r.IsRequest || !r.Processed || r.RetryCount != 0 {
			t.Errorf("row %+v", r)
		}
		replies := read[[]ReplyRow](t, c, fmt.Sprintf("/debug/replies?request_id=%d&is_exit=true", r.RequestID))
		if len(replies) != 1 || replies[0].RequestID != r.RequestID || !replies[0].IsExit || replies[0].Sequence != 0 {
			t.Errorf("replies to %d: %+v, want one", r.RequestID, replies)
		}
	}
	if len(ids) != 4 {
		t.Errorf("the request IDs are not unique: %v", ids)
	}
	for _, r := range read[[]MessageRow](t, c, "/debug/messages?entity_type=Counter&limit=1000") {
		if r.EntityType != "Counter" {
			t.Errorf("a filter by Counter shows %+v", r)
		}
	}
	count := func(want int, query string) {
		t.Helper()
		if got := read[[]MessageRow](t, c, "/debug/messages?"+query); len(got) != want {
			t.Errorf("%d rows of %s, want %d: %+v", len(got), query, want, got)
		}
	}
	count(3, "entity_type=Counter&entity_id=dbg&tag=increment")
	count(0, "entity_type=Counter&entity_id=dbg&tag=Increment")
	count(2, "entity_type=Counter&entity_id=dbg&limit=2")
	count(0, "entity_type=Counter&entity_id=dbg&limit=0")
	count(1, "entity_type=CrossEntity&entity_id=dbg-2&processed=true&tag=receive")
	count(0, "entity_type=CrossEntity&entity_id=dbg")
	count(1, "entity_type=TraitTest&entity_id=dbg&processed=true")
	count(6, "entity_type=Workflow/LongWorkflow&entity_id=dbg/l&processed=true")
	count(3, "entity_type=Workflow%2FLongWorkflow&entity_id=dbg%2Fl&tag=__journal/complete_step")
	count(1, "entity_type=Workflow%2FFailingWorkflow&entity_id=dbg%2Ff&tag=execute&processed=true")
	count(0, "entity_type=LongWorkflow")
	if rows := read[[]MessageRow](t, c, "/debug/messages?entity_type=Workflow/SqlTransferWorkflow&processed=true"); len(rows) < 2 {
		t.Errorf("rows of a transfer: %+v", rows)
	}
	_, text := c.do(t, "GET", "/debug/messages?entity_type=Counter&entity_id=dbg", "")
	checkTimes(t, text, "created_at")
}

func testDebugReplies(t *testing.T, c *cluster) {
	c.exchanges(t,
		exchange{"POST /workflow/rep/run-failing", `{"exec_id":"f","fail_at":0}`, 500, ""},
		exchange{"GET /debug/replies?is_exit=false", "", 0, "[]"},
		exchange{"GET /debug/replies?request_id=1", "", 0, "[]"},
	)
	rows := read[[]MessageRow](t, c, "/debug/messages?entity_type=Workflow/FailingWorkflow&entity_id=rep/f&tag=execute")
	if len(rows) != 1 {
		t.Fatalf("rows %+v, want one", rows)
	}
	path := fmt.Sprintf("/debug/replies?request_id=%d", rows[0].RequestID)
	if replies := read[[]ReplyRow](t, c, path); len(replies) != 1 || !replies[0].IsExit {
		t.Errorf("replies to a failed execution: %+v, want one", replies)
	}
	_, text := c.do(t, "GET", path, "")
	checkTimes(t, text, "created_at")
	all, ids := read[[]ReplyRow](t, c, "/debug/replies?limit=1000"), make(map[int64]bool)
	for _, r := range all {
		ids[r.ID] = true
	}
	if len(ids) != len(all) {
		t.Errorf("%d replies have %d IDs", len(all), len(ids))
	}
}

func testDebugJournal(t *testing.T, c *cluster) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.exchanges(t, exchange{"POST /timer/jr/schedule", `{"timer_id":"[]","delay_ms":6000}`, 0, "null"})
	}()
	c.exchanges(t, exchange{"POST /workflow/jr/run-simple", `{"exec_id":"50%_a"}`, 0, ""})
	const simple = "__journal/Workflow/SimpleWorkflow/jr/"
	rows := read[[]JournalRow](t, c, "/debug/journal?completed=true&limit=200&prefix="+simple)
	if len(rows) != 5 {
		t.Errorf("journal rows %+v, want five", rows)
	}
	keys := make(map[string]bool)
	for _, r := range rows {
		keys[r.Key] = true
		if !strings.HasPrefix(r.Key, simple) || r.CompletedAt == nil || r.ValueSize < 0 {
			t.Errorf("row %+v", r)
		}
	}
	if len(keys) != 5 {
		t.Errorf("the keys are not unique: %v", keys)
	}
	c.exchanges(t,
		exchange{"GET /debug/journal?completed=false&prefix=" + simple, "", 0, "[]"},
		exchange{"GET /debug/journal?prefix=__journal/Workflow/Simple_orkflow", "", 0, "[]"}, // no pattern
		exchange{"GET /debug/journal?prefix=%25", "", 0, "[]"},
	)
	const timer = "/debug/journal?prefix=__journal/Workflow/ScheduleTimerWorkflow/jr/"
	eventually(t, "the timer has a row without completed_at", func() error {
		_, text := c.do(t, "GET", timer+"&completed=false", "")
		var list []map[string]any
		if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
			return fmt.Errorf("%s: %w", text, err)
		}
		if at, ok := list[0]["completed_at"]; !ok || at != nil || strings.Contains(text, "[]") {
			t.Errorf("rows %s", text)
		}
		return nil
	})
	<-done
	status, text := c.do(t, "GET", timer+"&completed=true", "")
	if status != http.StatusOK || strings.Contains(text, "[]") {
		t.Errorf("rows %d %s, want no []", status, text)
	}
	checkTimes(t, text, "created_at", "updated_at", "completed_at")
}
