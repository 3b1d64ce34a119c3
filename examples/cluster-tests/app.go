package main

import (
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"github.com/cruster-go/cruster"
)

// app is what the HTTP routes work with: the clients of all that is registered.
type app struct {
	svc    *cruster.Service
	db     *pgxpool.Pool
	log    *slog.Logger
	tracer trace.Tracer

	counters   cruster.Client[*Counter]
	stateless  cruster.Client[*StatelessCounter]
	stores     cruster.Client[*KVStore]
	executions cruster.Client[*WorkflowTest]
	activities cruster.Client[*ActivityTest]
	traits     cruster.Client[*TraitTest]
	timers     cruster.Client[*TimerTest]
	crossed    cruster.Client[*CrossEntity]
	accounts   cruster.Client[*SqlActivityTest]
	orderSteps cruster.Client[*ActivityGroupTest]

	simple     cruster.WorkflowClient[Exec, string]
	failing    cruster.WorkflowClient[FailingExec, string]
	long       cruster.WorkflowClient[LongExec, string]
	activity   cruster.WorkflowClient[Exec, []string]
	transfer   cruster.WorkflowClient[Transfer, int64]
	noTransfer cruster.WorkflowClient[Transfer, int64]
	count      cruster.WorkflowClient[string, int64]
	schedule   cruster.WorkflowClient[Schedule, struct{}]
	orders     cruster.WorkflowClient[Order, OrderResult]

	singleton *SingletonTest
}

// registered names what register registers, as the debug rows do.
var registered = []string{
	"Counter", "StatelessCounter", "KVStore", "WorkflowTest", "ActivityTest", "TraitTest", "TimerTest", "CrossEntity", "SqlActivityTest", "ActivityGroupTest",
	"Workflow/SimpleWorkflow", "Workflow/FailingWorkflow", "Workflow/LongWorkflow", "Workflow/ActivityWorkflow",
	"Workflow/SqlTransferWorkflow", "Workflow/SqlFailingTransferWorkflow", "Workflow/SqlCountWorkflow",
	"Workflow/ScheduleTimerWorkflow", "Workflow/OrderWorkflow",
	"SingletonTest (singleton)",
}

// register makes a node host everything.
func register(svc *cruster.Service, db *pgxpool.Pool, node string, log *slog.Logger) (*app, error) {
	a := &app{svc: svc, db: db, log: log, singleton: &SingletonTest{db: db, node: node}}
	var errs [20]error
	a.counters, errs[0] = cruster.Register(svc, &Counter{Counting: Counting{db: db, table: "cluster_tests.counters"}})
	a.stateless, errs[1] = cruster.Register(svc, &StatelessCounter{Counting: Counting{db: db, table: "cluster_tests.stateless_counters"}})
	a.stores, errs[2] = cruster.Register(svc, &KVStore{db: db})
	a.executions, errs[3] = cruster.Register(svc, &WorkflowTest{db: db})
	a.activities, errs[4] = cruster.Register(svc, &ActivityTest{db: db})
	a.traits, errs[5] = cruster.Register(svc, &TraitTest{db: db, Auditable: Auditable{db: db}, Versioned: Versioned{db: db}})
	a.timers, errs[6] = cruster.Register(svc, &TimerTest{db: db})
	a.crossed, errs[7] = cruster.Register(svc, &CrossEntity{db: db})
	a.accounts, errs[8] = cruster.Register(svc, &SqlActivityTest{db: db})
	a.orderSteps, errs[9] = cruster.Register(svc, &ActivityGroupTest{db: db})

	a.simple, errs[10] = cruster.RegisterWorkflow(svc, &SimpleWorkflow{})
	a.failing, errs[11] = cruster.RegisterWorkflow(svc, &FailingWorkflow{})
	a.long, errs[12] = cruster.RegisterWorkflow(svc, &LongWorkflow{})
	a.activity, errs[13] = cruster.RegisterWorkflow(svc, &ActivityWorkflow{})
	a.transfer, errs[14] = cruster.RegisterWorkflow(svc, &SqlTransferWorkflow{})
	a.noTransfer, errs[15] = cruster.RegisterWorkflow(svc, &SqlFailingTransferWorkflow{})
	a.count, errs[16] = cruster.RegisterWorkflow(svc, &SqlCountWorkflow{})
	a.schedule, errs[17] = cruster.RegisterWorkflowErr(svc, &ScheduleTimerWorkflow{})
	a.orders, errs[18] = cruster.RegisterWorkflow(svc, &OrderWorkflow{})

	errs[19] = cruster.RegisterSingleton(svc, cruster.Singleton{Name: singletonName, Run: a.singleton.Run})
	return a, errors.Join(errs[:]...)
}
