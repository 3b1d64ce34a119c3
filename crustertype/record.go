package crustertype

import "time"

// MessageState says how far a persisted request is.
type MessageState uint8

// The states of a persisted request.
const (
	MessagePending MessageState = 1 // accepted, not finished; also when scheduled for later
	MessageDone    MessageState = 2 // finished, with a result or the handler's error
	MessageDead    MessageState = 3 // dead letter: kept, listed, can be retried
)

// String returns "pending", "done" or "dead".
func (s MessageState) String() string {
	switch s {
	case MessagePending:
		return "pending"
	case MessageDone:
		return "done"
	case MessageDead:
		return "dead"
	}
	return "invalid"
}

// Message is one persisted request to an entity.
type Message struct {
	ID      RequestID
	Shard   Shard
	Address Address
	Method  string
	Key     string   // the caller's key, or ""
	Digest  [16]byte // digest of the body, compared when a key is used again; zero without a key
	Codec   string
	Payload []byte
	Meta    []byte // encoded [Meta]

	// Seq orders the messages of a shard as its owner admitted them. 0 means
	// that no owner has adopted the message yet.
	Seq           int64
	State         MessageState
	Attempts      int       // deliveries counted durably
	DeliverAt     time.Time // not before; zero means at once
	CreatedAt     time.Time
	FinishedAt    time.Time // zero while pending
	Outcome       Outcome   // valid when done; when dead, Outcome.Failure says why
	Uninterrupted bool      // at drain the handler gets the whole budget
}

// Meta is what travels with a request beside its body.
type Meta struct {
	Chain       []Address // awaited callers, outermost first; at most 16
	TraceParent string    // W3C traceparent, or ""
	TraceState  string
	Caller      string // address of the sender, for people; may be ""
	Internal    bool   // sent from inside a handler or workflow: protected methods are allowed
}

// Status says how far an execution is.
type Status uint8

// The statuses of an execution.
const (
	StatusRunning    Status = 1 // to be run, or running
	StatusSuspended  Status = 2 // sleeping in storage until WakeAt or a cancel
	StatusCompleted  Status = 3
	StatusFailed     Status = 4
	StatusCancelled  Status = 5
	StatusTerminated Status = 6
	StatusParked     Status = 7 // nondeterministic: waits for a person
	StatusDead       Status = 8 // crashed too often: waits for a person
)

var statusNames = [...]string{"invalid", "running", "suspended", "completed", "failed", "cancelled", "terminated", "parked", "dead"}

// String returns the lower-case name.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "invalid"
}

// Final reports whether the execution's run has ended with an outcome. Parked
// and dead ones have not: they can be retried.
func (s Status) Final() bool { return s >= StatusCompleted && s <= StatusTerminated }

// Execution is one workflow execution.
type Execution struct {
	ExecutionRef
	Shard    Shard
	Run      int      // from 1; a retry of a finished execution opens the next
	Key      string   // the caller's key, or ""
	Digest   [16]byte // digest of the input, compared when a key is used again; zero without a key
	Codec    string
	Input    []byte
	Meta     []byte // encoded [Meta]
	Status   Status
	Attempts int       // recoveries that made no progress, counted durably
	WakeAt   time.Time // when suspended: not before; zero: only a cancel wakes it
	// WaitingFor says for people what a run waits for, such as "sleep" or
	// "activity Charge".
	WaitingFor   string
	CancelReason string
	CancelAt     time.Time // when a cancel was requested; zero: never
	Outcome      Outcome   // valid when final; when parked or dead, Outcome.Failure says why
	CreatedAt    time.Time
	UpdatedAt    time.Time
	FinishedAt   time.Time
	Deadline     time.Time // the execution fails with CodeTimeout past it; zero: none
	Parent       ExecutionRef
	Tags         map[string]string
}

// StepKind says what a step of an execution does.
type StepKind uint8

// The kinds of steps.
const (
	StepActivity StepKind = 1 // a method of the workflow, journaled
	StepLocal    StepKind = 2 // a journaled function literal (Step)
	StepSleep    StepKind = 3 // a durable timer
	StepCall     StepKind = 4 // an awaited entity call
	StepNotify   StepKind = 5 // an entity call that is not awaited
	StepStart    StepKind = 6 // the start of another execution
	StepExecute  StepKind = 7 // another execution, awaited
	StepMarker   StepKind = 8 // Changed: code version marker
	StepCancel   StepKind = 9 // the point where the cancel was noticed
)

var stepKindNames = [...]string{"invalid", "activity", "step", "sleep", "call", "notify", "start", "execute", "changed", "cancel"}

// String returns the name that people see, such as "activity".
func (k StepKind) String() string {
	if int(k) < len(stepKindNames) {
		return stepKindNames[k]
	}
	return "invalid"
}

// Step is one row of an execution's journal. Its identity is (execution, Run,
// Pos).
type Step struct {
	Run    int
	Pos    int // from 0, in the order the workflow code asked for it
	Kind   StepKind
	Name   string
	Digest [16]byte // digest of the arguments
	Args   []byte   // encoded arguments, up to 4 KiB, for error reports; may be nil
	Codec  string   // codec of Args

	// Seq orders the completions of an execution's steps, from 1. 0 means that
	// the step is not done: the row then holds its attempts and its due time.
	Seq      int64
	Attempts int       // attempts started or failed so far, counted durably
	Due      time.Time // sleep: when it ends; activity: when the next attempt starts
	Outcome  Outcome   // valid when done; otherwise the last attempt's failure
	At       time.Time // when the row was made; a done step's time is the workflow's Now
}

// Done reports whether the step has its final outcome.
func (s *Step) Done() bool { return s.Seq > 0 }

// ScheduleKind tells the two users of schedule rows apart.
type ScheduleKind uint8

// The kinds of schedules.
const (
	ScheduleCron      ScheduleKind = 1
	ScheduleSingleton ScheduleKind = 2
)

// Schedule is the durable state of one cron or singleton.
type Schedule struct {
	Kind      ScheduleKind
	Name      string
	Shard     Shard
	LastTick  time.Time // cron: the newest tick that was decided; singleton: last start
	NextTick  time.Time // cron: the next tick, for people
	Paused    bool
	Holder    Incarnation // singleton: who runs it; 0: nobody
	Since     time.Time   // singleton: since when
	Restarts  int
	LastError string
	UpdatedAt time.Time
	// Version is compared when the row is written: a write must carry the
	// stored version plus one, from 1. A stale write is refused.
	Version int64
	History []byte // what the scheduler remembers beside LastTick, in its own form
}
