package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/postgres"
)

// TestMain stops the server that the benchmarks shared.
func TestMain(m *testing.M) {
	code := testdb.Main(m, func() error {
		for _, f := range slices.Backward(server.ends) {
			f()
		}
		return server.failed
	})
	os.Exit(code)
}

// server is the PostgreSQL of all benchmarks of a run. Commits wait for the
// disk. It is our own unless testdb.EnvURL names another one.
var server struct {
	once   sync.Once
	ends   []func()
	failed error
}

// binary has the life of the test binary: what a benchmark starts with it is
// still there for the next one.
type binary struct{ testing.TB }

func (binary) Cleanup(f func()) { server.ends = append(server.ends, f) }

func (binary) Error(args ...any) { server.failed = fmt.Errorf("%v", args) }

// database makes an empty database on the shared server.
func database(b testing.TB) (dsn string) {
	b.Helper()
	server.once.Do(func() {
		if os.Getenv(testdb.EnvURL) == "" {
			s := testdb.StartServer(binary{b}, testdb.Config{Fsync: true, Settings: map[string]string{
				"shared_buffers": "256MB", "max_connections": "300", "track_commit_timestamp": "off", "autovacuum_naptime": "1min",
			}})
			server.failed = os.Setenv(testdb.EnvURL, s.URL())
		}
	})
	return testdb.Database(b)
}

// openPool opens a pool of so many connections.
func openPool(b testing.TB, dsn string, connections int) *pgxpool.Pool {
	b.Helper()
	cfg := must(pgxpool.ParseConfig(dsn))
	cfg.MaxConns = int32(connections)
	pool := must(pgxpool.NewWithConfig(context.WithoutCancel(b.Context()), cfg))
	b.Cleanup(pool.Close)
	return pool
}

// openPostgres opens a new database as cruster's storage. The pool is for
// handlers that use a transaction.
func openPostgres(b testing.TB, connections int) (*postgres.Store, *pgxpool.Pool) {
	b.Helper()
	pool := openPool(b, database(b), connections)
	store := must(postgres.New(pool, &postgres.Options{AutoMigrate: true}))
	b.Cleanup(func() { _ = store.Close() })
	return store, pool
}

// connections is how many a peer gets for so many callers. More made none of
// them faster.
func connections(callers int) int { return min(max(callers, 4), 32) }

// work is what one of the systems compared does.
type work struct {
	do    func(caller, i int) error
	stats func() storage.Stats // of cruster's store
	steps int                  // of a workflow
	idle  time.Duration        // waited before each operation
}

// system is one way to do the work that a benchmark is about.
type system struct {
	name string
	open func(b testing.TB, callers int) work
}

// compare measures all systems, with each number of callers in turn.
func compare(b *testing.B, callers []int, systems []system) {
	for _, n := range callers {
		b.Run("callers="+strconv.Itoa(n), func(b *testing.B) {
			for _, s := range systems {
				b.Run(s.name, func(b *testing.B) {
					w := s.open(b, n) // once: what follows runs with a growing b.N
					warm(b, n, w)
					b.Run("op", func(b *testing.B) { measure(b, n, w) })
				})
			}
		})
	}
}

// warm lets every caller do the work twice, so that connections are there and
// statements prepared.
func warm(b *testing.B, callers int, w work) {
	b.Helper()
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() {
			for i := range 2 {
				if err := w.do(caller, -1-i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	running.Wait()
}

// usage is what the server, and this process, have done.
type usage struct {
	wal, transactions int64
	client            time.Duration // of the processors
	server            time.Duration // of those of its processes that run here
}

func (u *usage) read(b testing.TB, conn *pgx.Conn) {
	b.Helper()
	var pids []int
	err := conn.QueryRow(b.Context(), `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
		(SELECT array_agg(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid())`).Scan(&u.wal, &u.transactions, &pids)
	if err != nil {
		b.Fatal(err)
	}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	u.client = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid)) // nanoseconds that ran, that waited, and how often
		if err != nil {
			return // the server runs elsewhere, or not on Linux
		}
		var ran time.Duration
		if _, err := fmt.Sscan(string(text), &ran); err == nil {
			u.server += ran
		}
	}
}

// measure runs w.do from so many callers and reports, beside the rate, the
// median and the 99th percentile of its duration, and for each operation the
// transactions that wrote and the bytes of WAL, both as the server counts them,
// and the processor time of this process and of the server's.
func measure(b *testing.B, callers int, w work) {
	conn := must(pgx.Connect(b.Context(), os.Getenv(testdb.EnvURL)))
	defer conn.Close(context.WithoutCancel(b.Context()))
	took := make([][]time.Duration, callers)
	var before, after usage
	before.read(b, conn)
	var stored storage.Stats
	if w.stats != nil {
		stored = w.stats()
	}
	run(b, callers, func(caller, i int) error {
		time.Sleep(w.idle)
		began := time.Now()
		err := w.do(caller, i)
		took[caller] = append(took[caller], time.Since(began))
		return err
	})
	after.read(b, conn)
	all := slices.Concat(took...)
	n := float64(len(all))
	if n == 0 {
		return
	}
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(seconds*1e9/n, "ns/op")
	if w.stats != nil {
		now := w.stats()
		b.ReportMetric(float64(now.Statements-stored.Statements)/n, "statements/op")
		b.ReportMetric(float64(now.Commits-stored.Commits)/n, "own-commits/op")
	}
	b.ReportMetric(float64(after.transactions-before.transactions)/n, "commits/op")
	b.ReportMetric(float64(after.wal-before.wal)/n, "WAL-B/op")
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	b.ReportMetric(micros(after.client-before.client)/n, "client-us/op")
	if before.server > 0 {
		b.ReportMetric(micros(after.server-before.server)/n, "server-us/op")
	}
	slices.Sort(all)
	b.ReportMetric(micros(all[len(all)/2]), "p50-us")
	b.ReportMetric(micros(all[len(all)*99/100]), "p99-us")
	if w.idle == 0 {
		b.ReportMetric(n/seconds, "ops/s")
	}
	if w.steps > 0 {
		b.ReportMetric(n*float64(w.steps)/seconds, "steps/s")
	}
}

// run is [loop] for systems in which one operation alone may take longer than
// many together: every caller is busy, even when b.N is less than callers, as it
// is at first. Operations then number more than b.N.
func run(b *testing.B, callers int, op func(caller, i int) error) {
	b.Helper()
	if callers == 1 {
		for i := 0; b.Loop(); i++ {
			if err := op(0, i); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	total := int64(max(b.N, 2*callers))
	var next atomic.Int64
	var running sync.WaitGroup
	b.ResetTimer()
	for caller := range callers {
		running.Go(func() {
			for i := 0; next.Add(1) <= total; i++ {
				if err := op(caller, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	b.StopTimer()
}

// tryAll runs one operation of each system, so that none is fast because it
// does nothing.
func tryAll(t *testing.T, systems []system) {
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := s.open(t, 1)
			for i := range 2 {
				if err := w.do(0, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestPostgres checks that all systems do the work of all benchmarks.
func TestPostgres(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		systems []system
	}{
		{"send", senders}, {"call", callers}, {"idle", idlers}, {"workflow", workflows(3)}, {"tx", transactions},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tryAll(t, c.systems)
		})
	}
}

// startOn starts a service on a new database.
func startOn(b testing.TB, connections int, register func(*cruster.Service, *pgxpool.Pool)) *postgres.Store {
	b.Helper()
	store, pool := openPostgres(b, connections)
	start(b, cruster.Config{Storage: store}, func(s *cruster.Service) { register(s, pool) })
	return store
}
