package main

import (
	"encoding/json"
	"net/http"

	"github.com/cruster-go/cruster"
)

// none is the request of methods that need none.
type none = struct{}

// handler is the whole HTTP interface.
func (a *app) handler() http.Handler {
	t := table{a, http.NewServeMux()}
	t.handle("/", t.notFound)
	t.handle("GET /health", func(*http.Request) (any, error) { return map[string]string{"status": "ok"}, nil })
	counterRoutes(t, "/counter/{id}", a.counters)
	counterRoutes(t, "/stateless-counter/{id}", a.stateless)
	a.storeRoutes(t)
	a.workflowRoutes(t)
	a.activityRoutes(t)
	a.traitRoutes(t)
	a.timerRoutes(t)
	a.crossRoutes(t)
	a.orderRoutes(t)
	a.singletonRoutes(t)
	a.debugRoutes(t)
	return t.mux
}

// id is what a path calls {id}.
func id(r *http.Request) string { return r.PathValue("id") }

// counterRoutes serves a type that has the methods of [Counting], whichever it
// is.
func counterRoutes[E any](t table, path string, all cruster.Client[E]) {
	of := func(r *http.Request) cruster.Ref[*Counting] { return cruster.As[*Counting](all.Entity(id(r))) }
	t.handle("GET "+path, func(r *http.Request) (any, error) {
		return cruster.Call(r.Context(), of(r), (*Counting).Get, none{})
	})
	t.handle("POST "+path+"/increment", func(r *http.Request) (any, error) {
		n, err := decode[int64](r)
		if err != nil {
			return nil, err
		}
		return cruster.Call(r.Context(), of(r), (*Counting).Increment, n)
	})
	t.handle("POST "+path+"/decrement", func(r *http.Request) (any, error) {
		n, err := decode[int64](r)
		if err != nil {
			return nil, err
		}
		return cruster.Call(r.Context(), of(r), (*Counting).Decrement, n)
	})
	t.handle("POST "+path+"/reset", func(r *http.Request) (any, error) {
		return nothing(cruster.CallErr(r.Context(), of(r), (*Counting).Reset, none{}))
	})
}

func (a *app) storeRoutes(t table) {
	t.handle("POST /kv/{id}/set", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			Key   string          `json:"key"`
			Value json.RawMessage `json:"value"`
		}](r)
		if err != nil {
			return nil, err
		}
		value, err := compact(in.Value)
		if err != nil {
			return nil, err
		}
		return nothing(cruster.CallErr(r.Context(), a.stores.Entity(id(r)), (*KVStore).Set, Pair{in.Key, value}))
	})
	t.handle("GET /kv/{id}/get/{key}", func(r *http.Request) (any, error) {
		value, err := cruster.Call(r.Context(), a.stores.Entity(id(r)), (*KVStore).Get, r.PathValue("key"))
		if value == "" {
			return nil, err
		}
		return json.RawMessage(value), err
	})
	t.handle("DELETE /kv/{id}/delete/{key}", func(r *http.Request) (any, error) {
		return cruster.Call(r.Context(), a.stores.Entity(id(r)), (*KVStore).Delete, r.PathValue("key"))
	})
	t.handle("GET /kv/{id}/keys", func(r *http.Request) (any, error) {
		return list(cruster.Call(r.Context(), a.stores.Entity(id(r)), (*KVStore).ListKeys, none{}))
	})
	t.handle("POST /kv/{id}/clear", func(r *http.Request) (any, error) {
		return nothing(cruster.CallErr(r.Context(), a.stores.Entity(id(r)), (*KVStore).Clear, none{}))
	})
}

// execBody names an execution.
type execBody struct {
	ExecID string `json:"exec_id"`
}

func (a *app) workflowRoutes(t table) {
	t.handle("POST /workflow/{id}/run-simple", func(r *http.Request) (any, error) {
		in, err := decode[execBody](r)
		if err != nil {
			return nil, err
		}
		return a.simple.Execute(r.Context(), Exec{id(r), in.ExecID})
	})
	t.handle("POST /workflow/{id}/run-failing", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			ExecID string `json:"exec_id"`
			FailAt uint64 `json:"fail_at"`
		}](r)
		if err != nil {
			return nil, err
		}
		return a.failing.Execute(r.Context(), FailingExec{Exec{id(r), in.ExecID}, in.FailAt})
	})
	t.handle("POST /workflow/{id}/run-long", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			ExecID string `json:"exec_id"`
			Steps  uint64 `json:"steps"`
		}](r)
		if err != nil {
			return nil, err
		}
		return a.long.Execute(r.Context(), LongExec{Exec{id(r), in.ExecID}, in.Steps})
	})
	t.handle("GET /workflow/{id}/execution/{exec_id}", func(r *http.Request) (any, error) {
		x, err := cruster.Call(r.Context(), a.executions.Entity(id(r)), (*WorkflowTest).GetExecution, r.PathValue("exec_id"))
		if x == nil {
			return nil, err
		}
		return x.shown(), err
	})
	t.handle("GET /workflow/{id}/executions", func(r *http.Request) (any, error) {
		all, err := cruster.Call(r.Context(), a.executions.Entity(id(r)), (*WorkflowTest).ListExecutions, none{})
		for i := range all {
			all[i] = *all[i].shown()
		}
		return list(all, err)
	})
}

// shown has a list of steps where there are none: encoded values do not tell
// an empty list from no list.
func (x *Execution) shown() *Execution {
	if x.StepsCompleted == nil {
		x.StepsCompleted = []string{}
	}
	return x
}

func (a *app) activityRoutes(t table) {
	t.handle("POST /activity/{id}/run", func(r *http.Request) (any, error) {
		in, err := decode[execBody](r)
		if err != nil {
			return nil, err
		}
		return list(a.activity.Execute(r.Context(), Exec{id(r), in.ExecID}))
	})
	t.handle("GET /activity/{id}/log", func(r *http.Request) (any, error) {
		return list(cruster.Call(r.Context(), a.activities.Entity(id(r)), (*ActivityTest).GetActivityLog, none{}))
	})

	for verb, workflow := range map[string]cruster.WorkflowClient[Transfer, int64]{"transfer": a.transfer, "failing-transfer": a.noTransfer} {
		t.handle("POST /sql-activity/{id}/"+verb, func(r *http.Request) (any, error) {
			in, err := decode[struct {
				To     string `json:"to_entity"`
				Amount int64  `json:"amount"`
			}](r)
			if err != nil {
				return nil, err
			}
			return workflow.Execute(r.Context(), Transfer{id(r), in.To, in.Amount})
		})
	}
	t.handle("GET /sql-activity/{id}/state", func(r *http.Request) (any, error) {
		return cruster.Call(r.Context(), a.accounts.Entity(id(r)), (*SqlActivityTest).GetState, none{})
	})
	t.handle("GET /sql-activity/{id}/sql-count", func(r *http.Request) (any, error) {
		return a.count.Execute(r.Context(), id(r))
	})
}

func (a *app) traitRoutes(t table) {
	t.handle("GET /trait/{id}", func(r *http.Request) (any, error) {
		return cruster.Call(r.Context(), a.traits.Entity(id(r)), (*TraitTest).Get, none{})
	})
	t.handle("POST /trait/{id}/update", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			Data string `json:"data"`
		}](r)
		if err != nil {
			return nil, err
		}
		return nothing(cruster.CallErr(r.Context(), a.traits.Entity(id(r)), (*TraitTest).Update, in.Data))
	})
	t.handle("GET /trait/{id}/audit-log", func(r *http.Request) (any, error) { // a group's method, called through the group
		return list(cruster.Call(r.Context(), cruster.As[*Auditable](a.traits.Entity(id(r))), (*Auditable).GetAuditLog, none{}))
	})
	t.handle("GET /trait/{id}/version", func(r *http.Request) (any, error) { // and through the entity's type
		return cruster.Call(r.Context(), a.traits.Entity(id(r)), (*TraitTest).GetVersion, none{})
	})
}

func (a *app) timerRoutes(t table) {
	t.handle("POST /timer/{id}/schedule", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			TimerID string `json:"timer_id"`
			DelayMS uint64 `json:"delay_ms"`
		}](r)
		if err != nil {
			return nil, err
		}
		if in.DelayMS > maxDelayMS {
			return nil, bad(http.StatusUnprocessableEntity, "delay_ms is %d: at most %d can be waited for", in.DelayMS, maxDelayMS)
		}
		_, err = a.schedule.Execute(r.Context(), Schedule{Exec{id(r), in.TimerID}, in.DelayMS})
		return nothing(err)
	})
	t.handle("POST /timer/{id}/cancel", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			TimerID string `json:"timer_id"`
		}](r)
		if err != nil {
			return nil, err
		}
		return cruster.Call(r.Context(), a.timers.Entity(id(r)), (*TimerTest).CancelTimer, in.TimerID)
	})
	t.handle("GET /timer/{id}/fires", func(r *http.Request) (any, error) {
		return list(cruster.Call(r.Context(), a.timers.Entity(id(r)), (*TimerTest).GetTimerFires, none{}))
	})
	t.handle("POST /timer/{id}/clear-fires", func(r *http.Request) (any, error) {
		return nothing(cruster.CallErr(r.Context(), a.timers.Entity(id(r)), (*TimerTest).ClearFires, none{}))
	})
	t.handle("GET /timer/{id}/pending", func(r *http.Request) (any, error) {
		return list(cruster.Call(r.Context(), a.timers.Entity(id(r)), (*TimerTest).GetPendingTimers, none{}))
	})
}

func (a *app) crossRoutes(t table) {
	t.handle("POST /cross/{id}/send", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			Type    string `json:"target_type"`
			ID      string `json:"target_id"`
			Message string `json:"message"`
		}](r)
		if err != nil {
			return nil, err
		}
		if in.Type != "CrossEntity" {
			return nil, bad(http.StatusUnprocessableEntity, "target_type %q takes no messages: use CrossEntity", in.Type)
		}
		return nothing(cruster.CallErr(r.Context(), a.crossed.Entity(in.ID), (*CrossEntity).Receive, Letter{id(r), in.Message}))
	})
	t.handle("POST /cross/{id}/receive", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			From    string `json:"from"`
			Message string `json:"message"`
		}](r)
		if err != nil {
			return nil, err
		}
		return nothing(cruster.CallErr(r.Context(), a.crossed.Entity(id(r)), (*CrossEntity).Receive, Letter(in)))
	})
	t.handle("GET /cross/{id}/messages", func(r *http.Request) (any, error) {
		return list(cruster.Call(r.Context(), a.crossed.Entity(id(r)), (*CrossEntity).GetMessages, none{}))
	})
	t.handle("POST /cross/{id}/clear", func(r *http.Request) (any, error) {
		return nothing(cruster.CallErr(r.Context(), a.crossed.Entity(id(r)), (*CrossEntity).ClearMessages, none{}))
	})
	t.handle("POST /cross/{id}/ping-pong", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			Partner string `json:"partner_id"`
			Count   uint32 `json:"count"`
		}](r)
		if err != nil {
			return nil, err
		}
		return pingPong(r.Context(), a.crossed, id(r), in.Partner, in.Count)
	})
}

func (a *app) orderRoutes(t table) {
	t.handle("POST /activity-group/{id}/process-order", func(r *http.Request) (any, error) {
		in, err := decode[struct {
			ItemCount int32 `json:"item_count"`
			Amount    int64 `json:"amount"`
		}](r)
		if err != nil {
			return nil, err
		}
		return a.orders.Execute(r.Context(), Order{id(r), in.ItemCount, in.Amount})
	})
	t.handle("GET /activity-group/{id}/order-steps", func(r *http.Request) (any, error) {
		return list(cruster.Call(r.Context(), a.orderSteps.Entity(id(r)), (*ActivityGroupTest).GetOrderSteps, none{}))
	})
}

func (a *app) singletonRoutes(t table) {
	state := func(r *http.Request, f func(s *SingletonState) any) (any, error) {
		s, err := a.singleton.State(r.Context())
		if err != nil {
			return nil, err
		}
		return f(s), nil
	}
	t.handle("GET /singleton/state", func(r *http.Request) (any, error) {
		return state(r, func(s *SingletonState) any { return s })
	})
	t.handle("GET /singleton/tick-count", func(r *http.Request) (any, error) {
		return state(r, func(s *SingletonState) any {
			if s == nil {
				return 0
			}
			return s.TickCount
		})
	})
	t.handle("GET /singleton/current-runner", func(r *http.Request) (any, error) {
		return state(r, func(s *SingletonState) any {
			if s == nil {
				return ""
			}
			return s.RunnerID
		})
	})
	t.handle("POST /singleton/reset", func(r *http.Request) (any, error) {
		return nothing(a.singleton.Reset(r.Context()))
	})
}
