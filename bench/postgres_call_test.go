package bench

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/cruster-go/cruster"
)

// riverArgs are a job's arguments.
type riverArgs struct {
	Body string `json:"body"`
}

// Kind names the job.
func (riverArgs) Kind() string { return "letter" }

// riverWorker works jobs.
type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	worked func(id int64)
}

// Work tells that it was here.
func (w *riverWorker) Work(_ context.Context, job *river.Job[riverArgs]) error {
	w.worked(job.ID)
	return nil
}

// openRiver opens River on a new database. Without worked it inserts only; with
// it, it works jobs, with as many workers as there are callers. Connections and
// cooldown are those with which it was fastest.
func openRiver(b testing.TB, callers int, worked func(id int64)) *river.Client[pgx.Tx] {
	b.Helper()
	ctx := context.WithoutCancel(b.Context())
	n := connections(callers)
	if worked != nil {
		n = min(n, 16)
	}
	driver := riverpgxv5.New(openPool(b, database(b), n))
	migrator := must(rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet}))
	must(migrator.Migrate(ctx, rivermigrate.DirectionUp, nil))
	cfg := &river.Config{Logger: quiet}
	if worked == nil {
		return must(river.NewClient(driver, cfg))
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{worked: worked})
	cfg.Workers = workers
	cfg.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: max(callers, 16)}}
	cfg.FetchCooldown = river.FetchCooldownMin
	if callers > 1 { // a longer one makes fuller batches, and twice the rate
		cfg.FetchCooldown = 10 * time.Millisecond
	}
	client := must(river.NewClient(driver, cfg))
	if err := client.Start(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := client.Stop(ctx); err != nil {
			b.Error(err)
		}
	})
	return client
}

// arrivals matches jobs that were inserted with news of them, which may come
// first.
type arrivals struct {
	mu  sync.Mutex
	all map[int64]chan struct{}
}

// of returns the channel that is closed when job id has arrived.
func (a *arrivals) of(id int64) chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = make(map[int64]chan struct{})
	}
	ch, ok := a.all[id]
	if ok { // both have asked: nobody will again
		delete(a.all, id)
		return ch
	}
	ch = make(chan struct{})
	a.all[id] = ch
	return ch
}

func (a *arrivals) arrive(id int64) { close(a.of(id)) }

func (a *arrivals) wait(id int64) { <-a.of(id) }

// callers store a message and wait until it was handled.
var callers = []system{
	// The worker's function has run. That it has, is stored a little later.
	{"river-worked", func(b testing.TB, callers int) work {
		var a arrivals
		client := openRiver(b, callers, a.arrive)
		return work{do: func(int, int) error {
			res, err := client.Insert(b.Context(), riverArgs{Body: body}, nil)
			if err == nil {
				a.wait(res.Job.ID)
			}
			return err
		}}
	}},
	// The job is stored as completed, which is what cruster's caller waits for.
	{"river-completed", func(b testing.TB, callers int) work {
		var a arrivals
		client := openRiver(b, callers, func(int64) {})
		events, cancel := client.SubscribeConfig(&river.SubscribeConfig{ChanSize: 100_000, Kinds: []river.EventKind{river.EventKindJobCompleted}})
		b.Cleanup(cancel)
		go func() {
			for e := range events {
				a.arrive(e.Job.ID)
			}
		}()
		return work{do: func(int, int) error {
			res, err := client.Insert(b.Context(), riverArgs{Body: body}, nil)
			if err == nil {
				a.wait(res.Job.ID)
			}
			return err
		}}
	}},
	{"cruster", func(b testing.TB, _ int) work {
		ids := entityIDs(1024)
		var inboxes cruster.Client[*Inbox]
		store := startOn(b, 4, func(s *cruster.Service, _ *pgxpool.Pool) { inboxes = must(cruster.Register(s, &Inbox{})) })
		return work{stats: store.Stats, do: func(caller, _ int) error {
			_, err := cruster.Call(b.Context(), inboxes.Entity(ids[caller]), (*Inbox).Put, Letter{body})
			return err
		}}
	}},
}

// BenchmarkPostgresCall is a message that is stored, handled and answered, with
// the answer stored.
func BenchmarkPostgresCall(b *testing.B) { compare(b, []int{1, 64, 1024}, callers) }

// idlers send a message on a system that does nothing else, and wait until its
// handler has begun.
var idlers = []system{
	{"river", func(b testing.TB, _ int) work {
		var a arrivals
		client := openRiver(b, 1, a.arrive)
		return work{idle: 20 * time.Millisecond, do: func(int, int) error {
			res, err := client.Insert(b.Context(), riverArgs{Body: body}, nil)
			if err == nil {
				a.wait(res.Job.ID)
			}
			return err
		}}
	}},
	{"cruster", func(b testing.TB, _ int) work {
		put := make(chan struct{}, 1)
		var inboxes cruster.Client[*Inbox]
		store := startOn(b, 4, func(s *cruster.Service, _ *pgxpool.Pool) { inboxes = must(cruster.Register(s, &Inbox{put: put})) })
		return work{stats: store.Stats, idle: 20 * time.Millisecond, do: func(int, int) error {
			if err := cruster.Notify(b.Context(), inboxes.Entity("1"), (*Inbox).Put, Letter{body}); err != nil {
				return err
			}
			<-put
			return nil
		}}
	}},
}

// BenchmarkPostgresIdle is the time from a send to the beginning of its handler,
// a fiftieth of a second after the one before.
func BenchmarkPostgresIdle(b *testing.B) { compare(b, []int{1}, idlers) }
