package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/sharding"
	"github.com/cruster-go/cruster/storage/postgres"
)

// Environment variables of the timers' benchmarks.
const (
	envSleepers = "CRUSTER_BENCH_SLEEPERS" // workflows that sleep, and as many scheduled messages; default 10,000
	envWaking   = "CRUSTER_BENCH_WAKING"   // how many of each become due within a second; default a tenth, at most 10,000
)

// Dormant is a workflow that takes a step, sleeps for long, and says when it has
// woken up.
type Dormant struct {
	_ cruster.Workflow `cruster:"dormant"`

	woken *wakings
}

// Execute takes the step and sleeps.
func (w *Dormant) Execute(wf *cruster.WorkflowContext, req SleepRequest) (int64, error) {
	n, err := cruster.Do(wf, (*Dormant).Add, Add(req))
	if err != nil {
		return 0, err
	}
	if err := cruster.Sleep(wf, 365*24*time.Hour); err != nil {
		return 0, err
	}
	w.woken.note(wf.ExecutionID())
	return n, nil
}

// Add is its step.
func (w *Dormant) Add(_ context.Context, a Add) (int64, error) { return a.N + 1, nil }

// Alarm is an entity that says when its message came.
type Alarm struct {
	_ cruster.Entity `cruster:"alarm"`
	_ cruster.RPC    `cruster:"Ring,persisted"`

	woken *wakings
}

// Ring says so.
func (a *Alarm) Ring(ctx context.Context, _ Add) (int64, error) {
	a.woken.note(cruster.EntityID(ctx))
	return 0, nil
}

// wakings is when what woke up did so.
type wakings struct {
	mu sync.Mutex
	at map[string][]time.Time
}

func (w *wakings) note(id string) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == nil {
		w.at = make(map[string][]time.Time)
	}
	w.at[id] = append(w.at[id], now)
}

func (w *wakings) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.at)
}

// dormitory is a database with many sleepers, and the runner that has them.
type dormitory struct {
	testing.TB
	n, waking int
	conn      *pgx.Conn
	store     *postgres.Store
	svc       *cruster.Service
	workflows cruster.WorkflowClient[SleepRequest, int64]
	alarms    cruster.Client[*Alarm]
	woken     *wakings
}

// asleep is what they cost while they sleep, and awake when they wake up.
type asleep struct {
	start                   time.Duration // of the service, until it has all shards
	heap, resident          int64         // bytes: what is reachable, and the process
	statements, commits     float64       // per second
	server                  time.Duration // of the server's processors, per second
	tables                  int64         // bytes
	watched, workflow, ring time.Duration
}

type awake struct {
	rate          float64         // between the first due time and the last waking
	late          []time.Duration // sorted
	lost, doubled int
}

func (a awake) quantile(q float64) time.Duration { return a.late[int(q*float64(len(a.late)-1))] }

func newDormitory(b testing.TB, n, waking int) *dormitory {
	d := &dormitory{TB: b, n: n, waking: waking}
	dsn := database(b)
	pool := openPool(b, dsn, 4)
	d.store = must(postgres.New(pool, &postgres.Options{AutoMigrate: true}))
	b.Cleanup(func() { _ = d.store.Close() })
	d.conn = must(pgx.Connect(b.Context(), dsn))
	b.Cleanup(func() { _ = d.conn.Close(context.WithoutCancel(b.Context())) })
	d.open()
	d.pattern()
	d.close()
	d.fill()
	return d
}

func (d *dormitory) open() (took time.Duration) {
	d.woken = new(wakings)
	svc := must(cruster.New(cruster.Config{Storage: d.store, Logger: quiet}))
	d.workflows = must(cruster.RegisterWorkflow(svc, &Dormant{woken: d.woken}))
	d.alarms = must(cruster.Register(svc, &Alarm{woken: d.woken}))
	began := time.Now()
	if err := svc.Start(d.Context()); err != nil {
		d.Fatal(err)
	}
	d.svc = svc
	return time.Since(began)
}

func (d *dormitory) close() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.Context()), time.Minute)
	defer cancel()
	if err := d.svc.Shutdown(ctx); err != nil {
		d.Error(err)
	}
}

func (d *dormitory) exec(sql string, args ...any) {
	d.Helper()
	if _, err := d.conn.Exec(d.Context(), sql, args...); err != nil {
		d.Fatalf("%s: %v", sql, err)
	}
}

// until asks the database again and again for a number.
func (d *dormitory) until(limit time.Duration, want int, sql string) {
	d.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		var n int
		if err := d.conn.QueryRow(d.Context(), sql).Scan(&n); err != nil {
			d.Fatalf("%s: %v", sql, err)
		}
		if n == want {
			return
		}
		if time.Since(began) > limit {
			d.Errorf("%s = %d after %v, want %d", sql, n, limit, want)
			return
		}
	}
}

// pattern makes one workflow sleep and schedules one message, as a program does.
func (d *dormitory) pattern() {
	if _, err := d.workflows.WithRawKey("pattern").Start(d.Context(), SleepRequest{1}); err != nil {
		d.Fatal(err)
	}
	if err := cruster.Notify(d.Context(), d.alarms.Entity("pattern"), (*Alarm).Ring, Add{1}, cruster.After(365*24*time.Hour)); err != nil {
		d.Fatal(err)
	}
	d.until(time.Minute, 1, `SELECT count(*)::int FROM cruster.execution WHERE status = 2`)
}

// fill copies the pattern on the server: starting so many one by one takes long,
// and is another benchmark's matter.
func (d *dormitory) fill() {
	d.exec(`CREATE TEMPORARY TABLE sleeper (i bigint, name text, shard integer, message uuid)`)
	i := 0
	_, err := d.conn.CopyFrom(d.Context(), pgx.Identifier{"sleeper"}, []string{"i", "name", "shard", "message"}, pgx.CopyFromFunc(func() ([]any, error) {
		if i >= d.n {
			return nil, nil
		}
		i++
		name := "s-" + strconv.Itoa(i)
		return []any{i, name, 1<<16 + sharding.ShardOf(crustertype.DefaultShardGroup, name, 300), [16]byte(crustertype.NewRequestID())}, nil
	}))
	if err != nil {
		d.Fatal(err)
	}
	columns := func(table, without string) (list string) {
		err := d.conn.QueryRow(d.Context(), `SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) FROM information_schema.columns
			WHERE table_schema = 'cruster' AND table_name = $1 AND column_name <> ALL (string_to_array($2, ','))`, table, without).Scan(&list)
		if err != nil {
			d.Fatal(err)
		}
		return list
	}
	var group int
	if err := d.conn.QueryRow(d.Context(), `SELECT shard / 65536 FROM cruster.execution`).Scan(&group); err != nil || group != 1 {
		d.Fatalf("the default group is number %d, %v, want 1", group, err)
	}
	list := columns("execution", "num,id,shard,key,digest")
	d.exec(`INSERT INTO cruster.execution (id, shard, key, digest, ` + list + `)
		SELECT s.name, s.shard, s.name, x.digest, x.` + strings.ReplaceAll(list, ", ", ", x.") + ` FROM sleeper s, cruster.execution x WHERE x.id = 'pattern'`)
	list = columns("step", "num")
	d.exec(`INSERT INTO cruster.step (num, ` + list + `) SELECT e.num, p.` + strings.ReplaceAll(list, ", ", ", p.") + `
		FROM cruster.execution e, cruster.execution x JOIN cruster.step p ON p.num = x.num WHERE x.id = 'pattern' AND e.id <> 'pattern'`)
	list = columns("message", "id,shard,entity_id")
	d.exec(`INSERT INTO cruster.message (id, shard, entity_id, ` + list + `)
		SELECT s.message, s.shard, s.name, m.` + strings.ReplaceAll(list, ", ", ", m.") + ` FROM sleeper s, cruster.message m WHERE m.entity_id = 'pattern'`)
	d.exec(`VACUUM ANALYZE`) // the server does it by itself, later
	d.exec(`CHECKPOINT`)
}

// watch starts the runner and looks at it while everybody sleeps.
func (d *dormitory) watch(watched time.Duration) (a asleep) {
	a.start = d.open()
	defer d.close()
	tick := time.NewTimer(2 * time.Second) // what the start has begun is over
	<-tick.C
	server := must(pgx.Connect(d.Context(), os.Getenv(testdb.EnvURL)))
	defer server.Close(context.WithoutCancel(d.Context()))
	var before, after usage
	before.read(d, server)
	stats := d.store.Stats()
	tick.Reset(watched)
	<-tick.C
	now := d.store.Stats()
	after.read(d, server)
	a.watched = watched
	a.statements = float64(now.Statements-stats.Statements) / watched.Seconds()
	a.commits = float64(now.Commits-stats.Commits) / watched.Seconds()
	a.server = time.Duration(float64(after.server-before.server) / watched.Seconds())
	a.heap, a.resident = int64(heap()), resident()
	if err := d.conn.QueryRow(d.Context(), `SELECT pg_database_size(current_database())`).Scan(&a.tables); err != nil {
		d.Fatal(err)
	}
	return a
}

// resident returns the memory of the process, or 0 where /proc does not tell.
func resident() int64 {
	runtime.GC()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// wake lets some sleepers become due, evenly over a second, and watches.
func (d *dormitory) wake(workflows bool) (a awake) {
	var due time.Time
	if err := d.conn.QueryRow(d.Context(), `SELECT date_trunc('milliseconds', clock_timestamp() + make_interval(secs => 5 + $1))`,
		float64(d.waking)/2000).Scan(&due); err != nil {
		d.Fatal(err)
	}
	at := func(i int) time.Time { return due.Add(time.Duration(i-1) * time.Second / time.Duration(d.waking)) }
	const when = `$1::timestamptz + (s.i - 1) * interval '1 second' / $2::bigint`
	if workflows {
		d.exec(`UPDATE cruster.execution e SET wake_at = `+when+` FROM sleeper s WHERE s.i <= $2 AND e.type = 'dormant' AND e.id = s.name`, due, int64(d.waking))
		d.exec(`UPDATE cruster.step p SET due = e.wake_at FROM cruster.execution e, sleeper s
			WHERE s.i <= $1 AND e.type = 'dormant' AND e.id = s.name AND p.num = e.num AND p.due IS NOT NULL`, int64(d.waking))
	} else {
		d.exec(`UPDATE cruster.message m SET deliver_at = `+when+` FROM sleeper s WHERE s.i <= $2 AND m.id = s.message`, due, int64(d.waking))
	}
	d.open()
	defer d.close()
	if time.Now().After(due) {
		d.Errorf("the runner has started %v after the first sleeper was due: nothing was measured", time.Since(due))
	}
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	what := `SELECT count(*)::int FROM cruster.message WHERE state = 2 AND finished_at >= deliver_at`
	if workflows {
		what = `SELECT count(*)::int FROM cruster.execution WHERE status = 3`
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for d.woken.count() < d.waking && time.Since(due) < 2*time.Minute {
		<-tick.C
	}
	d.until(2*time.Minute, d.waking, what)
	var last time.Time
	d.woken.mu.Lock()
	defer d.woken.mu.Unlock()
	for i := 1; i <= d.waking; i++ {
		woken := d.woken.at["s-"+strconv.Itoa(i)]
		if len(woken) == 0 {
			a.lost++
			continue
		}
		a.doubled += len(woken) - 1
		a.late = append(a.late, woken[0].Sub(at(i)))
		if woken[0].After(last) {
			last = woken[0]
		}
	}
	slices.Sort(a.late)
	a.rate = float64(d.waking) / last.Sub(due).Seconds()
	if len(d.woken.at) != d.waking {
		d.Errorf("%d have woken up, want %d", len(d.woken.at), d.waking)
	}
	return a
}

func number(b testing.TB, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		b.Fatalf("%s=%s: it must be a number above 0", name, s)
	}
	return n
}

// TestSleepers is what many workflows that sleep and as many scheduled messages
// cost a runner on PostgreSQL, and how they wake up. With the numbers that it
// has by default it is a test; the report is in its output, with -v.
func TestSleepers(t *testing.T) {
	n := number(t, envSleepers, 10_000)
	waking := number(t, envWaking, min(n/10, 10_000))
	began := time.Now()
	d := newDormitory(t, n, waking)
	t.Logf("%d workflows and %d messages were made in %v", n, n, time.Since(began).Round(time.Millisecond))
	a := d.watch(6 * time.Second)
	t.Logf("asleep: start %v; heap %.1f MB, process %.1f MB, database %.0f MB; %.1f statements/s, %.1f commits/s, server %v/s",
		a.start.Round(time.Millisecond), float64(a.heap)/1e6, float64(a.resident)/1e6, float64(a.tables)/1e6, a.statements, a.commits, a.server.Round(time.Microsecond))
	if a.resident > 1<<30 {
		t.Errorf("the runner takes %d bytes, want less than 1 GiB", a.resident)
	}
	if a.statements > 5 {
		t.Errorf("%.1f statements a second while everybody sleeps: they must not depend on how many do", a.statements)
	}
	for _, what := range []string{"workflows", "messages"} {
		w := d.wake(what == "workflows")
		if len(w.late) == 0 {
			t.Fatalf("no %s woke up", what)
		}
		t.Logf("%d %s due within a second: %.0f/s; late p50 %v, p99 %v, max %v; earliest %v", waking, what, w.rate,
			w.quantile(.5).Round(time.Millisecond), w.quantile(.99).Round(time.Millisecond), w.quantile(1).Round(time.Millisecond), w.late[0].Round(time.Microsecond))
		if w.lost > 0 || w.doubled > 0 {
			t.Errorf("%d %s did not wake up, and %d did so twice", w.lost, what, w.doubled)
		}
		if w.late[0] < 0 { // the server and this process have one clock
			t.Errorf("one of the %s woke up %v too early", what, -w.late[0])
		}
	}
}
