package replay_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/commit"
	"github.com/cruster-go/cruster/internal/invoke"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var theShard = crustertype.Shard{Group: crustertype.DefaultShardGroup}

// code is a workflow in a test: it returns a string.
type code func(r *replay.Run) (string, error)

// world is a database with one runner after the other.
type world struct {
	t     testing.TB
	store storage.Store
	inc   crustertype.Incarnation
	lease crustertype.Lease
	cfg   replay.Config // overrides
	log   *slog.Logger
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: memory.New(), log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { _ = w.store.Close() })
	return w
}

// runner is one process life.
type runner struct {
	*replay.Engine
	w      *world
	commit *commit.Committer
	mu     sync.Mutex
	lost   bool
	timers map[crustertype.ExecutionRef]*time.Timer
	end    context.CancelFunc
	wg     sync.WaitGroup
}

// start takes the shard over and runs an engine with the given workflows.
func (w *world) start(defs map[string]code) *runner {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	inc, err := w.store.Register(ctx, storage.Runner{}, 1000*time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	leases, err := w.store.TakeOver(ctx, storage.TakeOver{By: inc, From: w.inc, Shards: []crustertype.Shard{theShard}})
	if err != nil || len(leases) != 1 {
		w.t.Fatalf("TakeOver = %v, %v", leases, err)
	}
	w.inc, w.lease = inc, leases[0]
	n := &runner{w: w, timers: make(map[crustertype.ExecutionRef]*time.Timer)}
	lease := w.lease
	cfg := w.cfg
	n.commit = commit.New(w.store, commit.Options{})
	cfg.Store, cfg.Commit, cfg.Codec, cfg.Logger = w.store, n.commit, codec.Msgpack(), w.log
	cfg.Lease = func(s crustertype.Shard) (crustertype.Lease, bool) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return lease, s == theShard && !n.lost
	}
	cfg.ShardOf = func(string, string) crustertype.Shard { return theShard }
	cfg.WakeAt = n.wakeAt
	n.Engine = replay.New(cfg)
	for name, c := range defs {
		if err := n.Register(&replay.Definition{Name: name, Execute: func(r *replay.Run, c2 codec.Codec, in []byte) ([]byte, error) {
			out, err := c(r)
			if err != nil {
				return nil, err
			}
			return c2.Marshal(out)
		}}); err != nil {
			w.t.Fatal(err)
		}
	}
	run, end := context.WithCancel(ctx)
	lane, endLane := context.WithCancel(ctx)
	n.end = end
	var laneDone sync.WaitGroup
	laneDone.Go(func() { _ = n.commit.Run(lane) })
	n.wg.Go(func() {
		_ = n.Engine.Run(run)
		endLane()
		laneDone.Wait()
	})
	if err := n.Recover(ctx, []crustertype.Shard{theShard}); err != nil {
		w.t.Fatal(err)
	}
	due, _, err := w.store.Timers(ctx, storage.TimerQuery{Shards: []crustertype.Shard{theShard}, Until: time.Now().AddDate(100, 0, 0)})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range due {
		n.wakeAt(d.Execution, d.Shard, d.At)
	}
	w.t.Cleanup(n.kill)
	return n
}

func (n *runner) wakeAt(ref crustertype.ExecutionRef, _ crustertype.Shard, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.timers[ref]; t != nil {
		t.Stop()
	}
	n.timers[ref] = time.AfterFunc(time.Until(at), func() { n.Wake(ref) })
}

// kill ends the process: what is not durable by now is lost.
func (n *runner) kill() {
	n.mu.Lock()
	n.lost = true
	for _, t := range n.timers {
		t.Stop()
	}
	n.mu.Unlock()
	n.Drop([]crustertype.Shard{theShard})
	n.end()
	n.wg.Wait()
}

func (n *runner) begin(name, id string) crustertype.ExecutionRef {
	n.w.t.Helper()
	ref := crustertype.ExecutionRef{Type: name, ID: id}
	if _, err := n.Start(n.w.t.Context(), replay.StartParams{ExecutionRef: ref, Codec: "msgpack"}); err != nil {
		n.w.t.Fatalf("Start(%v) = %v", ref, err)
	}
	return ref
}

func (n *runner) result(ref crustertype.ExecutionRef) (string, error) {
	n.w.t.Helper()
	out, err := n.Wait(n.w.t.Context(), ref)
	if err != nil {
		return "", err
	}
	return text(out)
}

func text(out crustertype.Outcome) (string, error) {
	if f := out.Failure; f != nil {
		return "", &crustertype.Error{Code: f.Code, Message: f.Message, Name: f.Name}
	}
	if len(out.Payload) == 0 {
		return "", nil
	}
	var s string
	err := codec.Msgpack().Unmarshal(out.Payload, &s)
	return s, err
}

func (n *runner) wants(ref crustertype.ExecutionRef, want string) {
	n.w.t.Helper()
	if got, err := n.result(ref); got != want || err != nil {
		n.w.t.Errorf("%v ended with %q, %v, want %q", ref, got, err, want)
	}
}

func (w *world) execution(ref crustertype.ExecutionRef) crustertype.Execution {
	w.t.Helper()
	x, err := w.store.Execution(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

func (w *world) steps(ref crustertype.ExecutionRef) []crustertype.Step {
	w.t.Helper()
	rows, err := w.store.Steps(w.t.Context(), ref, w.execution(ref).Run)
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// act is a call of an activity that returns a string.
func act(name string, in any, f func(ctx context.Context) (string, error)) replay.Call {
	return replay.Call{Kind: crustertype.StepActivity, Name: name, In: in, Fn: func(ctx *invoke.Context, _ []byte) (crustertype.Outcome, error) {
		s, err := f(ctx)
		if err != nil {
			return crustertype.Outcome{}, err
		}
		b, err := codec.Msgpack().Marshal(s)
		return crustertype.Outcome{Codec: "msgpack", Payload: b}, err
	}}
}

// do makes a step and returns its text.
func do(r *replay.Run, c replay.Call) (string, error) {
	out, err := r.Do(c)
	if err != nil {
		return "", err
	}
	return text(out)
}

// counter counts calls by name.
type counter struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counter) add(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[name]++
	return c.n[name]
}

func (c *counter) get(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

func wantIs(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error is %v, want %v", err, target)
	}
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}
