package postgres_test

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/storagetest"
)

// Benchmark measures the store. Set CRUSTER_TEST_POSTGRES_FSYNC=on for commits
// that reach the disk.
func Benchmark(b *testing.B) {
	storagetest.Bench(b, func(b *testing.B) storage.Store { return setup(b).Store })
}

// envHistory is the number of finished rows of BenchmarkTakeOverBesideHistory.
const envHistory = "CRUSTER_BENCH_HISTORY"

const benchShards = 300

// BenchmarkTakeOverBesideHistory takes 300 shards over and loads their pending
// work, in a schema that holds nothing else and in one with many finished rows,
// in turns. CRUSTER_BENCH_HISTORY says how many; default 100,000.
func BenchmarkTakeOverBesideHistory(b *testing.B) {
	rows := 100_000
	if v := os.Getenv(envHistory); v != "" {
		var err error
		if rows, err = strconv.Atoi(v); err != nil {
			b.Fatalf("%s: %v", envHistory, err)
		}
	}
	small, big := newBacklog(b, 0), newBacklog(b, rows)
	var smalls, bigs []time.Duration
	for b.Loop() {
		// Who comes second must not always be the same.
		if len(smalls)%2 == 0 {
			smalls = append(smalls, small.recover(b))
			bigs = append(bigs, big.recover(b))
		} else {
			bigs = append(bigs, big.recover(b))
			smalls = append(smalls, small.recover(b))
		}
	}
	slices.Sort(smalls)
	slices.Sort(bigs)
	s, l := smalls[len(smalls)/2], bigs[len(bigs)/2]
	b.ReportMetric(float64(s.Microseconds())/1000, "small-ms")
	b.ReportMetric(float64(l.Microseconds())/1000, "large-ms")
	b.ReportMetric(float64(l)/float64(s), "large/small")
}

// backlog is a schema with work to be recovered.
type backlog struct {
	*fixture
	shards []crustertype.Shard
	owner  crustertype.Incarnation
}

// newBacklog makes a schema with 3,000 pending messages, 600 of them not
// adopted and 600 scheduled, 600 executions of which half are suspended, and
// the given number of finished rows: 6 of 10 messages, 1 executions, 3 steps.
func newBacklog(b testing.TB, finished int) *backlog {
	b.Helper()
	l := &backlog{fixture: setup(b)}
	for i := range benchShards {
		l.shards = append(l.shards, crustertype.Shard{Group: "default", Index: i})
	}
	l.owner = l.register(b)
	if _, err := l.TakeOver(b.Context(), storage.TakeOver{By: l.owner, Shards: l.shards}); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	for _, s := range []struct {
		sql string
		n   int
	}{
		{`INSERT INTO @.message (id, shard, seq, state, attempts, uninterrupted, created_at, finished_at, entity_type, entity_id, method, codec,
			digest, payload, outcome)
		  SELECT (lpad(to_hex(1700000000000 + i * 1000), 12, '0') || '7' || substr(md5(i::text), 1, 19))::uuid, 65536 + i % 300, i,
			2, 1, false, now() - interval '1 day' + i * interval '1 microsecond', now(), 'counter', 'entity-' || i % 100003, 'Add', 'msgpack',
			decode(md5(i::text), 'hex'), decode(repeat('ab', 64), 'hex'), '\x0100076d73677061636bc0'
		  FROM generate_series(1, $1::bigint) AS i`, finished * 6 / 10},
		{`INSERT INTO @.execution (type, id, shard, run, status, attempts, created_at, updated_at, finished_at, key, codec, waiting_for,
			cancel_reason, input, outcome)
		  SELECT 'order', md5(i::text), 65536 + i % 300, 1, CASE WHEN i % 100 = 0 THEN 4 ELSE 3 END, 0, now() - interval '1 day', now(), now(),
			'order-' || i, 'msgpack', '', '', decode(repeat('ab', 64), 'hex'), '\x0100076d73677061636bc0'
		  FROM generate_series(1, $1::bigint) AS i`, finished / 10},
		{`INSERT INTO @.step (num, run, pos, kind, attempts, seq, at, name, codec, digest, args, outcome)
		  SELECT i / 3, 1, i % 3, 1, 1, 1 + i % 3, now(), 'Charge', 'msgpack', decode(md5(i::text), 'hex'), '\xc0', '\x0100076d73677061636bc0'
		  FROM generate_series(3, $1::bigint + 2) AS i`, finished * 3 / 10},
		{`INSERT INTO @.message (id, shard, seq, state, attempts, uninterrupted, created_at, deliver_at, entity_type, entity_id, method, codec, payload)
		  SELECT gen_random_uuid(), 65536 + i % 300, CASE WHEN i % 5 = 0 THEN 0 ELSE $1::bigint + i END, 1, 0, false, now(),
			CASE WHEN i % 5 = 1 THEN now() + interval '1 hour' END, 'counter', 'entity-' || i, 'Add', 'msgpack', decode(repeat('ab', 64), 'hex')
		  FROM generate_series(1, 3000) AS i`, finished},
		{`INSERT INTO @.execution (type, id, shard, run, status, attempts, created_at, updated_at, wake_at, codec, waiting_for, cancel_reason, input)
		  SELECT 'order', 'open-' || i, 65536 + i % 300, 1, 1 + i % 2, 0, now(), now(), now() + interval '1 hour', 'msgpack', '', '',
			decode(repeat('ab', 64), 'hex') FROM generate_series(1, $1::bigint) AS i`, 600},
	} {
		l.exec(b, l.in(s.sql), s.n)
	}
	for _, table := range []string{"message", "execution", "step"} {
		l.exec(b, l.in("VACUUM (ANALYZE) @."+table))
	}
	b.Logf("%d finished rows in %v, %d MB", finished, time.Since(begin).Round(time.Second),
		l.number(b, `SELECT (sum(pg_total_relation_size(c.oid)) / 1000000)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind = 'r' AND n.nspname = $1`, l.schema))
	return l
}

func (l *backlog) register(b testing.TB) crustertype.Incarnation {
	b.Helper()
	inc, err := l.Register(b.Context(), storage.Runner{Weight: 1}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	return inc
}

// recover is what a runner does that takes all shards over. It returns how long
// that took, registration apart.
func (l *backlog) recover(b testing.TB) time.Duration {
	b.Helper()
	next := l.register(b)
	if _, err := l.Runners(b.Context()); err != nil { // connects
		b.Fatal(err)
	}
	if _, err := l.Schedules(b.Context(), crustertype.ScheduleCron); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	got, err := l.TakeOver(b.Context(), storage.TakeOver{By: next, From: l.owner, Shards: l.shards})
	if err != nil || len(got) != benchShards {
		b.Fatalf("TakeOver = %d leases, %v", len(got), err)
	}
	fresh, err := l.Pending(b.Context(), storage.PendingQuery{Shards: l.shards, Unadopted: true, Now: begin})
	if err != nil {
		b.Fatal(err)
	}
	q := storage.PendingQuery{Shards: l.shards, Now: begin}
	var adopted int
	for {
		page, err := l.Pending(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		adopted += len(page)
		q.AfterSeq, q.AfterID = page[len(page)-1].Seq, page[len(page)-1].ID
	}
	runnable, _, err := l.Runnable(b.Context(), l.shards, "", 1000)
	if err != nil {
		b.Fatal(err)
	}
	timers, _, err := l.Timers(b.Context(), storage.TimerQuery{Shards: l.shards, Until: begin.Add(2 * time.Hour), Limit: 2000})
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	if len(fresh) != 600 || adopted != 1800 || len(runnable) != 300 || len(timers) != 900 {
		b.Fatalf("found %d unadopted, %d adopted, %d runnable and %d timers, want 600, 1800, 300 and 900", len(fresh), adopted, len(runnable), len(timers))
	}
	l.owner = next
	return took
}
