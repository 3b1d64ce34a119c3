package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRoutes asks three nodes in turn.
func TestRoutes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "10s")
	for name, f := range map[string]func(*testing.T, *cluster){
		"counters": testCounters, "kv": testKV, "workflows": testWorkflows, "activities": testActivities, "transfers": testTransfers,
		"traits": testTraits, "timers": testTimers, "cross": testCross, "orders": testOrders, "singleton": testSingleton,
		"malformed": testMalformed, "eviction": testEviction, "concurrent": testConcurrent,
		"debug messages": testDebugMessages, "debug replies": testDebugReplies, "debug journal": testDebugJournal, "debug shards": testDebugShards,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, c)
		})
	}
}

func testCounters(t *testing.T, c *cluster) {
	for _, path := range []string{"/counter/c-1", "/stateless-counter/c-1", "/counter/a%2Fb%20%C3%A9"} {
		c.exchanges(t,
			exchange{"GET " + path, "", 0, "0"},
			exchange{"POST " + path + "/increment", "5", 0, "5"},
			exchange{"POST " + path + "/increment", " 5\n", 0, "10"},
			exchange{"POST " + path + "/decrement", "12", 0, "-2"},
			exchange{"GET " + path, "", 0, "-2"},
			exchange{"POST " + path + "/increment", "9007199254740995", 0, "9007199254740993"},
			exchange{"POST " + path + "/reset", "", 0, "null"},
			exchange{"POST " + path + "/reset", "null", 0, "null"},
			exchange{"POST " + path + "/reset", "{}", 0, "null"},
			exchange{"GET " + path, "", 0, "0"},
			exchange{"POST " + path + "/decrement", "1", 0, "-1"},
			exchange{"POST " + path + "/increment", "9223372036854775807", 0, "9223372036854775806"},
			exchange{"POST " + path + "/increment", "5", http.StatusInternalServerError, ""}, // out of range
			exchange{"GET " + path, "", 0, "9223372036854775806"},
		)
	}
	c.exchanges(t, exchange{"GET /health", "", 0, `{"status":"ok"}`}, exchange{"GET /counter/b%20%C3%A9", "", 0, "0"})
}

func testKV(t *testing.T, c *cluster) {
	const p = "/kv/s-1"
	c.exchanges(t,
		exchange{"GET " + p + "/keys", "", 0, "[]"},
		exchange{"GET " + p + "/get/a", "", 0, "null"},
		exchange{"DELETE " + p + "/delete/a", "", 0, "false"},
		exchange{"POST " + p + "/set", `{"key":"b","value":{"x": [1, 2.50, "<&>/é"], "y": null}}`, 0, "null"},
		exchange{"GET " + p + "/get/b", "", 0, `{"x":[1,2.50,"<&>/é"],"y":null}`},
		exchange{"POST " + p + "/set", `{"key":"b","value":"hello","extra":1}`, 0, "null"},
		exchange{"GET " + p + "/get/b", "", 0, `"hello"`},
		exchange{"POST " + p + "/set", `{"key":"a/b","value":12345678901234567890}`, 0, "null"},
		exchange{"GET " + p + "/get/a%2Fb", "", 0, "12345678901234567890"},
		exchange{"POST " + p + "/set", `{"key":"B","value":null}`, 0, "null"},
		exchange{"GET " + p + "/get/B", "", 0, "null"},
		exchange{"GET " + p + "/keys", "", 0, `["B","a/b","b"]`},
		exchange{"DELETE " + p + "/delete/a%2Fb", "", 0, "true"},
		exchange{"DELETE " + p + "/delete/a%2Fb", "", 0, "false"},
		exchange{"GET /kv/s-2/keys", "", 0, "[]"},
		exchange{"POST " + p + "/clear", "", 0, "null"},
		exchange{"POST " + p + "/clear", "", 0, "null"},
		exchange{"GET " + p + "/keys", "", 0, "[]"},
	)
}

func testWorkflows(t *testing.T, c *cluster) {
	const p = "/workflow/w-1"
	c.exchanges(t,
		exchange{"GET " + p + "/executions", "", 0, "[]"},
		exchange{"GET " + p + "/execution/e1", "", 0, "null"},
		exchange{"POST " + p + "/run-simple", `{"exec_id":"e1"}`, 0, `"completed:e1"`},
		exchange{"POST " + p + "/run-simple", `{"exec_id":"e1"}`, 0, `"completed:e1"`},
		exchange{"GET " + p + "/execution/e1", "", 0, `{"id":"e1","steps_completed":["step1","step2","step3"],"result":"completed:e1"}`},
		exchange{"POST " + p + "/run-failing", `{"exec_id":"f0","fail_at":0}`, 500, `{"error":"Intentional failure at step 0"}`},
		exchange{"POST " + p + "/run-failing", `{"exec_id":"f1","fail_at":1}`, 500, `{"error":"Intentional failure at step 1"}`},
		exchange{"POST " + p + "/run-failing", `{"exec_id":"f1","fail_at":1}`, 500, `{"error":"Intentional failure at step 1"}`},
		exchange{"POST " + p + "/run-failing", `{"exec_id":"f1","fail_at":2}`, 409, ""},
		exchange{"POST " + p + "/run-failing", `{"exec_id":"f9","fail_at":9}`, 0, `"completed:f9"`},
		exchange{"GET " + p + "/execution/f0", "", 0, `{"id":"f0","steps_completed":[],"result":"failed:step0"}`},
		exchange{"GET " + p + "/execution/f1", "", 0, `{"id":"f1","steps_completed":["step0"],"result":"failed:step1"}`},
		exchange{"GET " + p + "/execution/f9", "", 0, `{"id":"f9","steps_completed":["step0","step1","step2"],"result":"completed:f9"}`},
		exchange{"POST " + p + "/run-long", `{"exec_id":"l","steps":12}`, 0, `"completed:l"`},
		exchange{"POST " + p + "/run-long", `{"exec_id":"none","steps":0}`, 0, `"completed:none"`},
		exchange{"GET " + p + "/execution/none", "", 0, `{"id":"none","steps_completed":[],"result":"completed:none"}`},
		exchange{"GET /workflow/w-2/executions", "", 0, "[]"},
	)
	var ids []string
	for _, x := range read[[]Execution](t, c, p+"/executions") {
		ids = append(ids, x.ID)
		if x.ID == "l" && (len(x.StepsCompleted) != 12 || x.StepsCompleted[11] != "step11") {
			t.Errorf("the long execution has steps %q", x.StepsCompleted)
		}
	}
	if want := []string{"e1", "f0", "f1", "f9", "l", "none"}; !slices.Equal(ids, want) {
		t.Errorf("executions %q, want %q", ids, want)
	}
}

func testActivities(t *testing.T, c *cluster) {
	const p = "/activity/a-1"
	run := exchange{"POST " + p + "/run", `{"exec_id":"x"}`, 0, `["x-start","response_from_https:__api.example.com_process",` +
		`"x-process","response_from_https:__api.example.com_complete","x-complete"]`}
	c.exchanges(t, exchange{"GET " + p + "/log", "", 0, "[]"}, run, run)
	var got []string
	for _, l := range read[[]ActivityRecord](t, c, p+"/log") {
		got = append(got, l.ID+" "+l.Action)
	}
	if want := []string{"x-start workflow_started", "x-process data_processed", "x-complete workflow_completed"}; !slices.Equal(got, want) {
		t.Errorf("log %q, want %q", got, want)
	}
	_, text := c.do(t, "GET", p+"/log", "")
	checkTimes(t, text, "timestamp")
}

// checkTimes looks at the form of times.
func checkTimes(t *testing.T, text string, names ...string) {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		t.Errorf("%s: %v, want a list with times", text, err)
	}
	for _, each := range list {
		for _, name := range names {
			s, _ := each[name].(string)
			if at, err := time.Parse("2006-01-02T15:04:05.000000Z", s); err != nil || time.Since(at).Abs() > time.Hour {
				t.Errorf("%s is %q, want a time of now: %v", name, s, err)
			}
		}
	}
}

func testTransfers(t *testing.T, c *cluster) {
	const p = "/sql-activity/acc-1"
	c.exchanges(t,
		exchange{"GET " + p + "/state", "", 0, `{"account_id":"acc-1","transfer_count":0,"total_transferred":0}`},
		exchange{"GET " + p + "/sql-count", "", 0, "0"},
		exchange{"POST " + p + "/transfer", `{"to_entity":"acc-2","amount":10}`, 0, "1"},
		exchange{"POST " + p + "/transfer", `{"to_entity":"acc-2","amount":10}`, 0, "2"},
		exchange{"POST " + p + "/failing-transfer", `{"to_entity":"acc-2","amount":10}`, 500, `{"error":"intentional failure for testing rollback"}`},
		exchange{"GET " + p + "/state", "", 0, `{"account_id":"acc-1","transfer_count":2,"total_transferred":20}`},
		exchange{"GET " + p + "/sql-count", "", 0, "2"},
		exchange{"POST " + p + "/transfer", `{"to_entity":"acc-2","amount":-5}`, 0, "3"},
		exchange{"GET " + p + "/state", "", 0, `{"account_id":"acc-1","transfer_count":3,"total_transferred":15}`},
		exchange{"GET /sql-activity/acc-2/sql-count", "", 0, "0"},
	)
}

func testTraits(t *testing.T, c *cluster) {
	const p = "/trait/t-1"
	c.exchanges(t,
		exchange{"GET " + p, "", 0, `""`},
		exchange{"GET " + p + "/version", "", 0, "0"},
		exchange{"GET " + p + "/audit-log", "", 0, "[]"},
		exchange{"POST " + p + "/update", `{"data":"a<b"}`, 0, "null"},
		exchange{"POST " + p + "/update", `{"data":"a<b"}`, 0, "null"},
		exchange{"POST " + p + "/update", `{"data":"c"}`, 0, "null"},
		exchange{"GET " + p, "", 0, `"c"`},
		exchange{"GET " + p + "/version", "", 0, "3"},
	)
	log := read[[]AuditEntry](t, c, p+"/audit-log")
	if len(log) != 3 {
		t.Fatalf("%d audit entries, want 3: %v", len(log), log)
	}
	for i, e := range log {
		want := []string{"a<b", "a<b", "c"}[i]
		if e.ID != fmt.Sprintf("audit-%d", i+1) || e.Action != "update" || e.Actor != "system" || e.Details == nil || *e.Details != "Updated data to: "+want {
			t.Errorf("entry %d is %+v", i, e)
		}
	}
	_, text := c.do(t, "GET", p+"/audit-log", "")
	checkTimes(t, text, "timestamp")
}

func testTimers(t *testing.T, c *cluster) {
	const p = "/timer/tm-1"
	var group sync.WaitGroup
	begin := time.Now()
	group.Go(func() {
		c.exchanges(t, exchange{"POST " + p + "/schedule", `{"timer_id":"short","delay_ms":500}`, 0, "null"})
		if took := time.Since(begin); took < 400*time.Millisecond {
			t.Errorf("a timer of 500 ms held the request for %v", took)
		}
		if fires := read[[]TimerFire](t, c, p+"/fires"); len(fires) == 0 || fires[0].TimerID != "short" {
			t.Errorf("fires %+v, want short", fires)
		}
		for _, pending := range read[[]PendingTimer](t, c, p+"/pending") {
			if pending.TimerID == "short" {
				t.Error("the timer has fired and is still pending")
			}
		}
	})
	group.Go(func() {
		c.exchanges(t, exchange{"POST " + p + "/schedule", `{"timer_id":"stopped","delay_ms":6000}`, 0, "null"})
		if took := time.Since(begin); took < 5900*time.Millisecond {
			t.Errorf("a cancelled timer of 6 s held the request for %v", took)
		}
	})
	eventually(t, "the timer is pending", func() error {
		for _, pending := range read[[]PendingTimer](t, c, p+"/pending") {
			if pending.TimerID == "stopped" && pending.DelayMS == 6000 && !pending.Cancelled {
				return nil
			}
		}
		return fmt.Errorf("it is not listed")
	})
	c.exchanges(t,
		exchange{"POST " + p + "/cancel", `{"timer_id":"stopped"}`, 0, "true"},
		exchange{"POST " + p + "/cancel", `{"timer_id":"stopped"}`, 0, "false"},
		exchange{"POST " + p + "/cancel", `{"timer_id":"unknown"}`, 0, "false"},
	)
	_, text := c.do(t, "GET", p+"/pending", "")
	checkTimes(t, text, "scheduled_at")
	if !strings.Contains(text, `"cancelled":true`) {
		t.Errorf("pending %s, want a cancelled timer", text)
	}
	group.Wait()
	_, text = c.do(t, "GET", p+"/fires", "")
	checkTimes(t, text, "scheduled_at", "fired_at")
	if fires := read[[]TimerFire](t, c, p+"/fires"); len(fires) != 1 {
		t.Errorf("fires %+v, want one", fires)
	}
	c.exchanges(t,
		exchange{"GET " + p + "/pending", "", 0, "[]"},
		exchange{"POST " + p + "/schedule", `{"timer_id":"short","delay_ms":500}`, 0, "null"}, // the same execution
		exchange{"POST " + p + "/schedule", `{"timer_id":"short","delay_ms":501}`, 409, ""},
		exchange{"POST " + p + "/clear-fires", `{"request_id":"r"}`, 0, "null"},
		exchange{"POST " + p + "/clear-fires", "", 0, "null"},
		exchange{"GET " + p + "/fires", "", 0, "[]"},
	)
}

func testCross(t *testing.T, c *cluster) {
	c.exchanges(t,
		exchange{"GET /cross/x-1/messages", "", 0, "[]"},
		exchange{"POST /cross/x-1/send", `{"target_type":"CrossEntity","target_id":"x-2","message":"hi"}`, 0, "null"},
		exchange{"POST /cross/x-2/receive", `{"from":"x-3","message":"ho"}`, 0, "null"},
		exchange{"POST /cross/x-1/send", `{"target_type":"Counter","target_id":"x-2","message":"hi"}`, 422, ""},
		exchange{"GET /cross/x-1/messages", "", 0, "[]"},
	)
	got := read[[]Message](t, c, "/cross/x-2/messages")
	if len(got) != 2 || got[0].FromEntity != "x-1" || got[0].Content != "hi" || got[1].FromEntity != "x-3" || got[1].Content != "ho" {
		t.Errorf("messages %+v", got)
	}
	_, text := c.do(t, "GET", "/cross/x-2/messages", "")
	checkTimes(t, text, "timestamp")
	c.exchanges(t,
		exchange{"POST /cross/x-2/clear", "", 0, "null"},
		exchange{"GET /cross/x-2/messages", "", 0, "[]"},
		exchange{"POST /cross/x-1/ping-pong", `{"partner_id":"x-2","count":3}`, 0, "6"},
		exchange{"POST /cross/x-1/ping-pong", `{"partner_id":"x-2","count":3}`, 0, "6"},
		exchange{"POST /cross/x-1/ping-pong", `{"partner_id":"x-2","count":0}`, 0, "0"},
	)
}

func testOrders(t *testing.T, c *cluster) {
	const p = "/activity-group/o-1"
	result := `{"order_id":"o-1","reservation_id":"res-o-1-3","transaction_id":"tx-o-1-9900","confirmation":"confirmed-res-o-1-3",` +
		`"summary":"order=o-1,res=res-o-1-3,tx=tx-o-1-9900"}`
	c.exchanges(t,
		exchange{"GET " + p + "/order-steps", "", 0, "[]"},
		exchange{"POST " + p + "/process-order", `{"item_count":3,"amount":9900}`, 0, result},
		exchange{"POST " + p + "/process-order", `{"item_count":3,"amount":9900}`, 0, result},
		exchange{"POST " + p + "/process-order", `{"item_count":4,"amount":9900}`, 409, ""},
	)
	var got []string
	for _, s := range read[[]OrderStep](t, c, p+"/order-steps") {
		got = append(got, s.Step+" "+s.Detail)
	}
	want := []string{"reserve res-o-1-3", "charge tx-o-1-9900", "confirm confirmed-res-o-1-3", "summary order=o-1,res=res-o-1-3,tx=tx-o-1-9900"}
	if !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	_, text := c.do(t, "GET", p+"/order-steps", "")
	checkTimes(t, text, "created_at")
}

func testSingleton(t *testing.T, c *cluster) {
	ticks := func(least int64) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d ticks", least), func() error {
			if n := read[int64](t, c, "/singleton/tick-count"); n < least {
				return fmt.Errorf("%d ticks", n)
			}
			return nil
		})
	}
	ticks(3)
	c.exchanges(t, exchange{"POST /singleton/reset", "", 0, "null"})
	begin := time.Now()
	ticks(1)
	t.Logf("the first tick came %v after the reset", time.Since(begin).Round(time.Millisecond))
	if n := read[int64](t, c, "/singleton/tick-count"); n > 1+int64(time.Since(begin)/time.Second) {
		t.Errorf("%d ticks at once after a reset: the count is not in the row", n)
	}
	_, text := c.do(t, "GET", "/singleton/state", "")
	checkTimes(t, "["+text+"]", "last_tick_at", "became_leader_at")
	if !strings.Contains(text, `"graceful_shutdown_at":null`) {
		t.Errorf("state %s, want no marker", text)
	}
	runner := read[string](t, c, "/singleton/current-runner")
	if !slices.ContainsFunc(c.nodes, func(n *node) bool { return n.name == runner }) {
		t.Errorf("the singleton runs on %q, which is no node", runner)
	}
}

func testMalformed(t *testing.T, c *cluster) {
	for _, path := range []string{
		"/counter/m/increment", "/counter/m/decrement", "/stateless-counter/m/increment", "/kv/m/set", "/workflow/m/run-simple", "/workflow/m/run-failing",
		"/workflow/m/run-long", "/activity/m/run", "/sql-activity/m/transfer", "/sql-activity/m/failing-transfer", "/trait/m/update",
		"/timer/m/schedule", "/timer/m/cancel", "/cross/m/send", "/cross/m/receive", "/cross/m/ping-pong", "/activity-group/m/process-order",
	} {
		for _, body := range []string{"", "{", "5 5", "{} x", "nul", "\"\xff\""} {
			c.exchanges(t, exchange{"POST " + path, body, 400, ""})
		}
		for _, body := range []string{"null", `"text"`, "[]", "{}", "true"} {
			c.exchanges(t, exchange{"POST " + path, body, 422, ""})
		}
	}
	c.exchanges(t,
		exchange{"POST /counter/m/increment", "1.5", 422, ""},
		exchange{"POST /counter/m/increment", "9223372036854775808", 422, ""},
		exchange{"POST /kv/m/set", `{"key":"a"}`, 422, ""},
		exchange{"POST /kv/m/set", `{"key":null,"value":1}`, 422, ""},
		exchange{"POST /workflow/m/run-simple", `{"exec_id":5}`, 422, ""},
		exchange{"POST /workflow/m/run-failing", `{"exec_id":"x"}`, 422, ""},
		exchange{"POST /workflow/m/run-failing", `{"exec_id":"x","fail_at":-1}`, 422, ""},
		exchange{"POST /activity-group/m/process-order", `{"item_count":2147483648,"amount":1}`, 422, ""},
		exchange{"POST /timer/m/schedule", `{"timer_id":"x","delay_ms":18446744073709551615}`, 422, ""},
		exchange{"POST /cross/m/ping-pong", `{"partner_id":"x","count":4294967296}`, 422, ""},
		exchange{"GET /debug/messages?processed=yes", "", 400, ""},
		exchange{"GET /debug/messages?limit=-1", "", 400, ""},
		exchange{"GET /debug/replies?request_id=x", "", 400, ""},
		exchange{"GET /debug/replies?is_exit=1", "", 400, ""},
		exchange{"GET /debug/journal?completed=1", "", 400, ""},
		exchange{"GET /debug/journal?limit=x", "", 400, ""},
		exchange{"GET /counter/" + strings.Repeat("x", 600), "", 422, ""},
		exchange{"GET /nothing", "", 404, ""},
		exchange{"GET /counter/m", "", 0, "0"},
	)
}

// testEviction looks at values after the entities have left memory.
func testEviction(t *testing.T, c *cluster) {
	c.exchanges(t,
		exchange{"POST /counter/ev/increment", "7", 0, "7"},
		exchange{"POST /kv/ev/set", `{"key":"k","value":[1]}`, 0, "null"},
		exchange{"POST /trait/ev/update", `{"data":"d"}`, 0, "null"},
	)
	pass(t, 7*time.Second)
	c.exchanges(t,
		exchange{"GET /counter/ev", "", 0, "7"},
		exchange{"POST /counter/ev/increment", "1", 0, "8"},
		exchange{"GET /kv/ev/get/k", "", 0, "[1]"},
		exchange{"GET /trait/ev/version", "", 0, "1"},
	)
}

// testConcurrent writes through all nodes at once: a read after a write sees
// it on every node.
func testConcurrent(t *testing.T, c *cluster) {
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			path := fmt.Sprintf("/counter/many-%d", i%2)
			for range 10 {
				if status, text := c.do(t, "POST", path+"/increment", "1"); status != http.StatusOK {
					t.Errorf("increment: %d %s", status, text)
				}
			}
		})
	}
	group.Wait()
	for range 3 {
		c.exchanges(t, exchange{"GET /counter/many-0", "", 0, "40"}, exchange{"GET /counter/many-1", "", 0, "40"})
	}
}
