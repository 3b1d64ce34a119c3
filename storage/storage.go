package storage

import (
	"context"
	"time"

	"github.com/cruster-go/cruster/crustertype"
)

// A Store is one database. All methods may be called concurrently, and honour
// the context: when it ends they return its error, and a write may or may not
// have happened.
//
// Times are kept to the microsecond; finer parts are cut off, also before two
// times are compared. A nil and an empty slice, map or outcome read back alike.
// Strings are ordered by their bytes. What a caller passes in or gets back
// shares no memory with the store. A limit of 0 is 1000.
type Store interface {
	Writer
	Reader
	Ownership
	Lister
	Admin

	// Info describes the store for logs and error texts.
	Info() Info

	// Close releases what the store holds. It waits for calls under way. Later
	// calls return [ErrClosed]. Close is idempotent. It does not close a pool
	// that the user passed in.
	Close() error
}

// Info describes a store.
type Info struct {
	Name    string // "memory", "sqlite" or "postgres"
	Durable bool   // survives the process
	SQL     bool   // transactions execute SQL
	Shared  bool   // several processes may use it at once
}

// Writer changes the store.
type Writer interface {
	// Commit applies all units in one transaction, durably before it returns,
	// or none of them. results has one entry per unit.
	//
	// It returns a [*FencedError] when a lease that a unit carries is no longer
	// the current one, a [*UnitError] when one unit can never be applied, and
	// an error for which [IsTransient] holds when trying again can help; after
	// a transient error the units may have been applied. Within one call, and
	// between calls that do not overlap, units are applied in order; an accept
	// sees the accepts of earlier units in the same call.
	Commit(ctx context.Context, units []Unit) (results []Result, err error)

	// Begin returns a transaction for user code. It may wait for a free writer;
	// it may also defer all work to the first statement.
	Begin(ctx context.Context) (Tx, error)
}

// SQL executes statements of the database's own dialect. Parameters are
// written $1, $2, ... on every backend.
type SQL interface {
	// Exec runs a statement and returns how many rows it affected.
	Exec(ctx context.Context, query string, args ...any) (rows int64, err error)
	// Query runs a query. The caller closes the rows; another statement must
	// not be started before.
	Query(ctx context.Context, query string, args ...any) (Rows, error)
	// QueryRow runs a query of which the first row is wanted. Errors, also
	// [ErrNoRows], come from Scan.
	QueryRow(ctx context.Context, query string, args ...any) Row
}

// Rows is a result set, positioned before its first row.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error   // the error that ended the iteration, if any
	Close() error // idempotent
}

// Row is the first row of a result.
type Row interface {
	Scan(dest ...any) error
}

// Tx is a transaction in which user code and the engine write together. It is
// used by one goroutine at a time.
//
// A store without SQL returns [ErrNoSQL] from the SQL methods; Commit works.
type Tx interface {
	SQL

	// Commit applies unit in this transaction and commits it; the fence is
	// checked last. Errors are those of [Writer.Commit]; after any error the
	// transaction is over and, unless the error is transient, rolled back.
	Commit(ctx context.Context, unit Unit) (Result, error)

	// Rollback undoes everything. It is idempotent, and does nothing after
	// Commit.
	Rollback(ctx context.Context) error
}

// Outbox writes sends into a transaction that user code owns, so that they are
// delivered if and only if it commits. Package storage/sqlite and
// storage/postgres put one into a context; see [WithOutbox].
type Outbox interface {
	// Send adds the unit's accepts and starts to the transaction.
	Send(ctx context.Context, unit Unit) (Result, error)
	// OnCommit registers f to be called, once, soon after the transaction has
	// committed. It is not called when the transaction rolls back.
	OnCommit(f func())
}

// Unit is the smallest thing that commits or fails as a whole. Within a unit,
// and within a commit, the fields apply in the order in which they are
// declared: all accepts of a commit, unit by unit, before all starts, and so
// on.
type Unit struct {
	// Leases are the shards that the unit relies on owning. All must be
	// current when the transaction commits: same shard, epoch, token and owner.
	// A lease of owner 0 is never current. Empty for sends by somebody who owns
	// nothing.
	Leases []crustertype.Lease

	Accepts  []crustertype.Message   // insert; see AcceptResult
	Starts   []crustertype.Execution // insert; see StartResult
	Adopts   []Adopt                 // give messages their place in the order
	Attempts []Attempt               // count a delivery durably
	Finishes []Finish                // outcomes of messages
	Steps    []StepWrite             // journal rows
	Updates  []Update                // states of executions
	Cancels  []Cancel                // requests to cancel

	// Schedules are inserted (Version 1) or replaced where the stored version
	// is one less. A row that already equals the write is left alone; any other
	// stale write is a *UnitError wrapping ErrConflict. A writer waits for the
	// answer to one version before it writes the next.
	Schedules []crustertype.Schedule
}

// Adopt sets the order of a message that was stored by somebody else than the
// shard's owner. It has no effect on a message that has a Seq, or is finished.
type Adopt struct {
	ID  crustertype.RequestID
	Seq int64
}

// Attempt raises the delivery counter of a pending message to N. A lower or
// equal N changes nothing.
type Attempt struct {
	ID crustertype.RequestID
	N  int
}

// Finish ends a pending message. Finishing a message that is not pending, or
// that retention removed, changes nothing.
type Finish struct {
	ID       crustertype.RequestID
	State    crustertype.MessageState // MessageDone or MessageDead
	Attempts int
	Outcome  crustertype.Outcome
	At       time.Time
}

// StepWrite adds or completes one journal row.
//
// A row that is not done may be replaced by another one of the same kind, name
// and digest. A done row never changes: writing an equal one (same Seq and
// outcome) succeeds, and so does, without effect, writing one that is not done,
// of the same kind, name and digest: it is an earlier write that is sent again.
// Another one is a *UnitError wrapping ErrConflict. The execution must exist,
// or it is a *UnitError wrapping ErrNotFound.
type StepWrite struct {
	crustertype.ExecutionRef
	Step crustertype.Step
}

// Update replaces the state of an execution's run. It changes nothing when the
// stored run is another one, or is final already, or there is no execution.
type Update struct {
	crustertype.ExecutionRef
	Run        int
	Status     crustertype.Status
	Attempts   int
	WakeAt     time.Time
	WaitingFor string
	Outcome    crustertype.Outcome
	At         time.Time // becomes UpdatedAt, and FinishedAt when Status is final
}

// Cancel asks an execution to cancel. The first request wins; it changes
// nothing on a final execution, or when there is none.
type Cancel struct {
	crustertype.ExecutionRef
	Reason string
	At     time.Time
}

// Result is what a unit's inserts met.
type Result struct {
	// Accepts has one entry per Unit.Accepts; nil when all were new.
	Accepts []AcceptResult
	// Starts has one entry per Unit.Starts; nil when all were new.
	Starts []StartResult
}

// AcceptResult is the stored message when one with this ID was there before,
// else nil. The stored one stays as it is; the caller compares digests. It
// carries no Payload.
type AcceptResult struct {
	Existing *crustertype.Message
}

// StartResult is the stored execution when one with this type and ID was there
// before, else nil. It carries no Input.
type StartResult struct {
	Existing *crustertype.Execution
}

// Cursor continues a paged read. The zero Cursor starts it; its content is the
// backend's own.
type Cursor string

// Reader is what the engine reads.
type Reader interface {
	// Message returns one message, or ErrNotFound.
	Message(ctx context.Context, id crustertype.RequestID) (crustertype.Message, error)

	// Execution returns one execution, or ErrNotFound.
	Execution(ctx context.Context, ref crustertype.ExecutionRef) (crustertype.Execution, error)

	// Steps returns the journal of one run in order of Pos. An unknown
	// execution has none.
	Steps(ctx context.Context, ref crustertype.ExecutionRef, run int) ([]crustertype.Step, error)

	// Pending returns pending messages that are due at q.Now, at most q.Limit,
	// ordered by (Seq, ID). With q.Unadopted it returns those that no owner has
	// adopted (Seq 0), whatever the cursor says: adopting them is what gets the
	// reader on. Without, it returns the others, from behind the cursor. Its
	// cost depends on pending work, never on history.
	Pending(ctx context.Context, q PendingQuery) ([]crustertype.Message, error)

	// Runnable returns executions with StatusRunning, without Input, ordered by
	// (CreatedAt, Type, ID), from behind the cursor, at most limit; and the
	// cursor of the next page, "" when there is none.
	Runnable(ctx context.Context, shards []crustertype.Shard, after Cursor, limit int) ([]crustertype.Execution, Cursor, error)

	// Timers returns what becomes due in (q.After, q.Until], ordered by time:
	// pending messages by DeliverAt and suspended executions by WakeAt. A
	// suspended execution with a cancel request that it may not have seen is due
	// at the request's time too, so it may be listed twice; a store may leave
	// the request out only when the journal of the run has a StepCancel row. At
	// most q.Limit; and the cursor of the next page, "" when there is none.
	Timers(ctx context.Context, q TimerQuery) ([]Timer, Cursor, error)

	// Schedule returns the state of one cron or singleton, or ErrNotFound.
	Schedule(ctx context.Context, kind crustertype.ScheduleKind, name string) (crustertype.Schedule, error)

	// Schedules returns all of one kind, by name.
	Schedules(ctx context.Context, kind crustertype.ScheduleKind) ([]crustertype.Schedule, error)
}

// PendingQuery selects pending messages.
type PendingQuery struct {
	Shards    []crustertype.Shard // nil: all
	Address   crustertype.Address // zero: all of the shards
	Unadopted bool
	AfterSeq  int64                 // continue behind this pair of the last
	AfterID   crustertype.RequestID // message seen; not with Unadopted
	Now       time.Time
	Limit     int
}

// TimerQuery selects timers. After zero: from the beginning.
type TimerQuery struct {
	Shards       []crustertype.Shard // nil: all
	After, Until time.Time
	Cursor       Cursor
	Limit        int
}

// Timer is one thing that becomes due. Exactly one of Message and Execution is
// set.
type Timer struct {
	At        time.Time
	Shard     crustertype.Shard
	Message   crustertype.RequestID
	Execution crustertype.ExecutionRef
}

// Runner describes one runner process.
type Runner struct {
	Incarnation crustertype.Incarnation
	Address     string   // where peers reach it, "" when they cannot
	Groups      []string // shard groups it hosts
	Weight      int      // 0: takes no shards
	Version     string
	LeaseUntil  time.Time // by the database's clock
	Draining    bool
}

// Ownership decides who may write for a shard.
type Ownership interface {
	// Register issues a new incarnation, larger than all before, whose runner
	// record lives for ttl unless renewed.
	Register(ctx context.Context, r Runner, ttl time.Duration) (crustertype.Incarnation, error)

	// Renew extends the record of a live incarnation and updates Draining. It
	// returns ErrFenced when the record is gone or has expired.
	Renew(ctx context.Context, inc crustertype.Incarnation, draining bool, ttl time.Duration) error

	// Unregister removes the record. It does not touch shards. It is
	// idempotent.
	Unregister(ctx context.Context, inc crustertype.Incarnation) error

	// Runners returns the records that have not expired, by incarnation.
	Runners(ctx context.Context) ([]Runner, error)

	// Owners returns the current lease of each shard in the order asked for. A
	// shard never owned has Owner 0 and Epoch 0.
	Owners(ctx context.Context, shards []crustertype.Shard) ([]crustertype.Lease, error)

	// TakeOver makes t.By the owner of those of t.Shards that t.From owns (0:
	// nobody) and whose lock revision is below t.LockRev, each with epoch plus
	// one and a new token, and returns the new leases. When it returns, every
	// commit that relied on an old lease has either happened, and is visible,
	// or never will: a holder that is stuck is cut off.
	TakeOver(ctx context.Context, t TakeOver) ([]crustertype.Lease, error)

	// HandOver gives shards away: leases are the caller's current ones, to the
	// next owner (0: nobody), each with epoch plus one and a new token. It fails
	// with a *FencedError naming those that are not current; then nothing has
	// changed. It returns the new owner's leases.
	HandOver(ctx context.Context, leases []crustertype.Lease, to crustertype.Incarnation) ([]crustertype.Lease, error)
}

// TakeOver asks for shards of another incarnation.
type TakeOver struct {
	By, From crustertype.Incarnation
	Shards   []crustertype.Shard
	// LockRev orders take-overs that an outside lock service decided. 0 means
	// none does: the revision is then not looked at.
	LockRev int64
}
