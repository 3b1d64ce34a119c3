// Package cruster runs distributed stateful systems with durable workflows
// inside a Go program: entities that execute one request at a time, workflows
// that survive crashes, singletons, cron jobs and scheduled messages. Beside the
// program there is a database, and nothing else.
//
// # A service
//
// [New] makes a [Service], which is one runner. Everything is registered with
// it, then [Service.Start] begins to serve, and [Service.Shutdown] ends in good
// order. [Config] is one struct; its zero value is a service in memory.
//
//	store, err := sqlite.Open("app.db", nil)
//	svc, err := cruster.New(cruster.Config{Storage: store})
//	counters, err := cruster.Register(svc, &Counter{})
//	err = svc.Start(ctx)
//	defer svc.Shutdown(ctx)
//
// # Entities
//
// An entity is a type and an ID. The type is a struct with an [Entity] marker,
// and methods that take a context and one request. One registered value serves
// every ID at once, so its fields are dependencies, never an entity's state.
//
//	type Counter struct {
//		_ cruster.Entity `cruster:"counter"`
//		_ cruster.RPC    `cruster:"Increment,persisted"`
//	}
//
//	func (c *Counter) Increment(ctx context.Context, req IncrementRequest) (int64, error) {
//		...
//	}
//
// [Register] returns a [Client]; [Client.Entity] refers to one entity. [Call]
// names the method by its expression and infers both types; nothing is
// generated:
//
//	v, err := cruster.Call(ctx, counters.Entity("c-1"), (*Counter).Increment, IncrementRequest{Amount: 5})
//
// [Notify] does not wait for the reply, [Stream] reads many items. [At] and
// [After] deliver later, [Key] makes equal requests one. A method that returns
// only an error is called with the twin whose name ends in Err: [CallErr],
// [NotifyErr].
//
// A struct with [RPC] markers that entities embed is a group: its methods become
// theirs. [NewClient] makes a client for a process that does not link the
// implementation.
//
// # Delivery
//
// A method is best effort unless its tag says persisted. Best-effort requests
// run at most once and live in memory. Persisted ones are stored before they
// run, in order, at least once, whatever becomes of the caller or the process.
//
// What a persisted handler writes through [Tx] happens exactly once: the
// statements, the record of the outcome, and the requests and workflows that it
// sends are one commit. Inside a handler [EntityID], [RequestID], [Attempt] and
// [FenceToken] say what runs.
//
// # Workflows
//
// A workflow is a struct with a [Workflow] marker and a method Execute, whose
// steps are journaled. After a crash Execute is run again from the beginning,
// and the steps that are recorded return what they returned then.
//
//	func (w *OrderWorkflow) Execute(wf *cruster.WorkflowContext, req OrderRequest) (OrderResult, error) {
//		tx, err := cruster.Do(wf, (*OrderWorkflow).Charge, ChargeInput{req.OrderID, req.Amount})
//		if err != nil {
//			return OrderResult{}, err
//		}
//		if err := cruster.Sleep(wf, 24*time.Hour); err != nil {
//			return OrderResult{}, err
//		}
//		...
//	}
//
// Execute must be deterministic; what touches the world is a step:
//
//   - [Do] runs an activity: a method of the workflow, or of an activity group
//     that it embeds, that takes a [context.Context]. [Step] runs a function.
//   - [Go] begins an activity beside the code; [Future.Get], [All], [Any] and
//     [Select] wait.
//   - [Sleep], [SleepUntil] and [Timer] wait across restarts. A long wait takes
//     neither a goroutine nor memory.
//   - [Call], [Notify] and the methods of a [WorkflowClient] are steps when they
//     are given the [WorkflowContext] as their [Scope].
//   - [WorkflowContext.OnFailure] registers a compensation.
//   - [WorkflowContext.Changed] lets changed code run beside executions that the
//     old code began.
//
// [RegisterWorkflow] returns a [WorkflowClient], which starts, awaits, cancels,
// retries and describes executions. A request with a method CrusterKey() string
// names its execution, so that starting it twice is starting it once.
//
// # Singletons and crons
//
// [RegisterSingleton] runs a function on one runner at a time, again after it
// failed. [RegisterCron] runs one at the ticks of a schedule, like a persisted
// method, or sends a request or starts a workflow; see [Service.Cron].
//
// # Errors
//
// Every error of this package is an [*Error]. Conditions such as
// [ErrMailboxFull] are told apart with [errors.Is]; [Retryable] and
// [MaybeExecuted] answer what a caller wants to know. A handler's error reaches
// its caller as text; a sentinel given to [RegisterError] keeps its identity.
// [Permanent] stops retries.
//
// # Storage
//
// The packages below storage are backends: storage/memory, storage/sqlite for
// one machine, storage/postgres. Package crustertest runs a service in virtual
// time, and kills it at every commit.
//
// With a transport in its configuration a service is one of several that share
// the storage; see docs/cluster.md.
package cruster
