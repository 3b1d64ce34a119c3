package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertest"
)

// books is what the handlers of all runners write to, in the test's memory.
type books struct {
	mu   sync.Mutex
	runs map[string]int
	at   map[string][]time.Time
}

func (b *books) note(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.runs == nil {
		b.runs, b.at = make(map[string]int), make(map[string][]time.Time)
	}
	b.runs[what]++
	b.at[what] = append(b.at[what], time.Now())
	return b.runs[what]
}

func (b *books) times(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.runs[what]
}

// errNoStamps is a typed error.
var errNoStamps = errors.New("no stamps left")

func init() {
	if err := cruster.RegisterError("desk.no-stamps", errNoStamps); err != nil {
		panic(err)
	}
}

// letter is what a desk is asked for.
type letter struct {
	Text string
	Wait time.Duration
	To   []string
}

// desk is an entity that does a little of everything.
type desk struct {
	_ cruster.Entity `cruster:"desk,mailbox=4"`
	_ cruster.RPC    `cruster:"Stamp,persisted"`
	_ cruster.RPC    `cruster:"Forward,persisted"`
	_ cruster.RPC    `cruster:"Circle,persisted"`
	_ cruster.RPC    `cruster:"Secret,persisted,protected"`
	_ cruster.RPC    `cruster:"Whisper,protected"`

	runner int
	books  *books
	desks  *cruster.Client[*desk]
}

func (d *desk) Where(_ context.Context, _ struct{}) (int, error) { return d.runner, nil }

// Wait takes its time, best effort, and stops when it is told to.
func (d *desk) Wait(ctx context.Context, l letter) (int, error) {
	n := d.books.note(l.Text)
	select {
	case <-time.After(l.Wait):
		return n, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Stamp takes its time, and stops when it is told to.
func (d *desk) Stamp(ctx context.Context, l letter) (int, error) {
	n := d.books.note(l.Text)
	select {
	case <-time.After(l.Wait):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	d.books.note("done " + l.Text)
	return n, nil
}

// Stubborn takes its time, and does not listen.
func (d *desk) Stubborn(_ context.Context, l letter) (int, error) {
	time.Sleep(l.Wait)
	return d.books.note(l.Text), nil
}

// Forward sends the letter on when it commits.
func (d *desk) Forward(ctx context.Context, l letter) (int, error) {
	for _, to := range l.To {
		err := cruster.Notify(ctx, d.desks.Entity(to), (*desk).Stamp, letter{Text: l.Text + " to " + to})
		if err != nil {
			return 0, err
		}
	}
	return len(l.To), nil
}

// Round sends the letter on to the first receiver, and waits for it.
func (d *desk) Round(ctx context.Context, l letter) (int, error) {
	if len(l.To) == 0 {
		return d.books.note(l.Text), nil
	}
	return cruster.Call(ctx, d.desks.Entity(l.To[0]), (*desk).Round, letter{Text: l.Text, To: l.To[1:]})
}

// Circle is Round for stored requests.
func (d *desk) Circle(ctx context.Context, l letter) (int, error) {
	if len(l.To) == 0 {
		return d.books.note(l.Text), nil
	}
	return cruster.Call(ctx, d.desks.Entity(l.To[0]), (*desk).Circle, letter{Text: l.Text, To: l.To[1:]})
}

func (d *desk) Fail(_ context.Context, text string) (int, error) {
	return 0, fmt.Errorf("%s: %w", text, errNoStamps)
}

func (d *desk) Secret(_ context.Context, _ letter) (int, error)  { return 1, nil }
func (d *desk) Whisper(_ context.Context, _ letter) (int, error) { return 2, nil }

// Confide calls what is protected.
func (d *desk) Confide(ctx context.Context, l letter) (int, error) {
	a, err := cruster.Call(ctx, d.desks.Entity(l.To[0]), (*desk).Secret, letter{})
	if err != nil {
		return 0, err
	}
	b, err := cruster.Call(ctx, d.desks.Entity(l.To[0]), (*desk).Whisper, letter{})
	return a + b, err
}

// Count streams numbers.
func (d *desk) Count(ctx context.Context, l letter) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range len(l.To) {
			select {
			case <-time.After(l.Wait):
			case <-ctx.Done():
				yield(0, context.Cause(ctx))
				return
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

// round is a workflow of steps, sleeps and children.
type round struct {
	_ cruster.Workflow `cruster:"round"`
	_ cruster.Activity `cruster:"Pack"`

	books  *books
	desks  cruster.Client[*desk]
	rounds *cruster.WorkflowClient[tripPlan, int]
}

type tripPlan struct {
	Name     string
	Stops    int
	Children int
	Sleep    time.Duration
}

func (w *round) Pack(_ context.Context, p tripPlan) (int, error) {
	return w.books.note("packed " + p.Name), nil
}

func (w *round) Execute(wf *cruster.WorkflowContext, p tripPlan) (int, error) {
	if _, err := cruster.Do(wf, (*round).Pack, p); err != nil {
		return 0, err
	}
	sum := 0
	var children []cruster.Future[int]
	for i := range p.Children {
		name := fmt.Sprintf("%s/%d", p.Name, i)
		children = append(children, w.rounds.WithRawKey(name).Go(wf, tripPlan{Name: name, Stops: 1}))
	}
	for i := range p.Stops {
		stop := fmt.Sprintf("%s-%d", p.Name, i)
		if _, err := cruster.Call(wf, w.desks.Entity(stop), (*desk).Stamp, letter{Text: stop}); err != nil {
			return 0, err
		}
		sum++
		if p.Sleep > 0 {
			if err := cruster.Sleep(wf, p.Sleep); err != nil {
				return 0, err
			}
		}
	}
	for _, c := range children {
		n, err := c.Get(wf)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// office is a cluster whose runners have desks.
type office struct {
	*crustertest.Cluster
	t      *testing.T
	books  *books
	desks  []cruster.Client[*desk]
	rounds []cruster.WorkflowClient[tripPlan, int]
}

// inOffice runs f with n runners that have shared the shards.
func inOffice(t *testing.T, n int, change func(*crustertest.Options), f func(o *office)) {
	t.Helper()
	o := &office{t: t, books: &books{}, desks: make([]cruster.Client[*desk], n), rounds: make([]cruster.WorkflowClient[tripPlan, int], n)}
	var mu sync.Mutex // runners start at once
	opts := crustertest.Options{Runners: n, Config: cruster.Config{Logger: officeLog(t)}}
	opts.SetupRunner = func(i int, svc *cruster.Service) error {
		mu.Lock()
		defer mu.Unlock()
		d := &desk{runner: i, books: o.books, desks: &o.desks[i]}
		desks, err := cruster.Register(svc, d)
		if err != nil {
			return err
		}
		o.desks[i] = desks
		w := &round{books: o.books, desks: desks, rounds: new(cruster.WorkflowClient[tripPlan, int])}
		*w.rounds, err = cruster.RegisterWorkflow(svc, w)
		o.rounds[i] = *w.rounds
		return err
	}
	if change != nil {
		change(&opts)
	}
	crustertest.Run(t, opts, func(t *testing.T, c *crustertest.Cluster) {
		o.Cluster, o.t = c, t
		c.Settle()
		f(o)
	})
}

// officeLog returns a quiet logger, unless CRUSTER_TEST_LOG is set.
func officeLog(t *testing.T) *slog.Logger {
	if os.Getenv("CRUSTER_TEST_LOG") == "" {
		return slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// owner returns the runner that a desk is on, asked from runner i.
func (o *office) owner(from int, id string) int {
	o.t.Helper()
	at, err := cruster.Call(o.t.Context(), o.desks[from].Entity(id), (*desk).Where, struct{}{})
	if err != nil {
		o.t.Fatalf("where is %s, asked from %d: %v", id, from, err)
	}
	return at
}

// on returns the ID of a desk that is on runner i. Different names give
// different desks.
func (o *office) on(i int, name string) string {
	o.t.Helper()
	for n := range 1000 {
		id := fmt.Sprintf("%s.%d", name, n)
		if o.owner(i, id) == i {
			return id
		}
	}
	o.t.Fatalf("no desk is on runner %d", i)
	return ""
}
