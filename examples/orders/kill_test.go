package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage/postgres"
)

// Environment variables of TestKillAtRandomMoments.
const (
	envKills = "CRUSTER_TEST_KILLS" // how many in all, default 40
	envSeed  = "CRUSTER_TEST_SEED"  // of the moments, default: a new one
)

const (
	// lanes are as many shops, each with a database of its own, whose processes
	// are killed one after the other.
	lanes = 4
	// ahead is how many orders a process finds at least.
	ahead = 100
	// A process is killed at most so long after at most so many steps: time alone
	// would leave some with nothing done on a busy machine.
	steps, pause = 30, 50 * time.Millisecond
)

// TestKillAtRandomMoments kills real processes at random moments while they
// work on orders on PostgreSQL. Afterwards each effect is there exactly once.
//
// Nobody waits for leases here: the test takes the record of a process that it
// has killed out of the database. TestLeaseOfAKilledProcess waits.
func TestKillAtRandomMoments(t *testing.T) {
	t.Parallel()
	kills, seed := int(number(t, envKills, 40)), number(t, envSeed, rand.Int64())
	t.Logf("%s=%d %s=%d", envKills, kills, envSeed, seed)
	begin := time.Now()
	var all tally
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range lanes {
		l := &lane{url: testdb.Database(t), rand: rand.New(rand.NewPCG(uint64(seed), uint64(i)))}
		l.pool = testdb.Pool(t, l.url)
		var err error
		if l.store, err = postgres.New(l.pool, &postgres.Options{AutoMigrate: true}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.store.Close() })
		share := kills/lanes + min(1, max(0, kills%lanes-i))
		group.Go(func() {
			err := l.run(t, share)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("shop %d: %v", i, err)
			}
			all.add(l.tally)
		})
	}
	group.Wait()
	t.Logf("%d kills in %v, %d of them while orders were unfinished, %d after commits of that very process; %d orders",
		all.kills, time.Since(begin).Round(time.Millisecond), all.busy, all.fruitful, all.orders)
	if t.Failed() {
		return
	}
	if all.kills != kills {
		t.Errorf("%d processes were killed, want %d", all.kills, kills)
	}
	if all.busy < kills*9/10 {
		t.Errorf("only %d of %d kills hit a process with unfinished orders", all.busy, kills)
	}
	if all.fruitful < kills*7/10 {
		t.Errorf("only %d of %d killed processes had committed something", all.fruitful, kills)
	}
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// tally is what happened to processes.
type tally struct {
	kills    int // processes that were killed
	busy     int // of these: with unfinished orders
	fruitful int // of these: after commits of their own
	orders   int
}

func (a *tally) add(b tally) {
	a.kills += b.kills
	a.busy += b.busy
	a.fruitful += b.fruitful
	a.orders += b.orders
}

// lane is one shop.
type lane struct {
	tally
	url   string
	pool  *pgxpool.Pool
	store *postgres.Store
	rand  *rand.Rand
}

// run kills so many processes, lets a last one finish, and looks at the tables.
func (l *lane) run(t *testing.T, kills int) error {
	l.orders = 1
	if _, err := l.process(t, 0, 0); err != nil { // makes the tables
		return err
	}
	for tries := 0; l.kills < kills; tries++ {
		if tries > 2*kills {
			return fmt.Errorf("only %d of %d processes could be killed while they worked", l.kills, tries)
		}
		before, err := l.look(t.Context())
		if err != nil {
			return err
		}
		l.orders = max(l.orders, before.done+ahead)
		killed, err := l.process(t, 1+l.rand.IntN(steps), time.Duration(l.rand.Int64N(int64(pause))))
		if err != nil {
			return err
		}
		if !killed {
			continue
		}
		after, err := l.look(t.Context())
		if err != nil {
			return err
		}
		l.kills++
		if after.open > 0 {
			l.busy++
		}
		if after.effects > before.effects {
			l.fruitful++
		}
	}
	if _, err := l.process(t, 0, 0); err != nil {
		return err
	}
	return l.check(t.Context())
}

// process runs the program and kills it so long after so many steps; after 0
// steps: never.
func (l *lane) process(t *testing.T, steps int, pause time.Duration) (killed bool, err error) {
	cmd := program(t, "-storage", "postgres", "-pg", l.url, "-lease", longLease, "-orders", strconv.Itoa(l.orders))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	out := bufio.NewReader(stdout)
	for {
		b, err := out.ReadByte()
		if err != nil {
			break // the end
		}
		if b != '.' {
			continue
		}
		if steps--; steps == 0 {
			defer time.AfterFunc(pause, func() { _ = cmd.Process.Kill() }).Stop()
		}
	}
	err = cmd.Wait()
	if !wasKilled(err) {
		if err != nil {
			err = fmt.Errorf("orders: %w\n%s", err, stderr.String())
		}
		return false, err
	}
	return true, endLeases(t.Context(), l.store)
}

// endLeases says that no process lives.
func endLeases(ctx context.Context, store *postgres.Store) error {
	dead, err := store.Runners(ctx)
	for _, r := range dead {
		err = errors.Join(err, store.Unregister(ctx, r.Incarnation))
	}
	return err
}

// sight is what the tables of a shop say.
type sight struct {
	effects int // rows of all orders
	done    int // orders that are confirmed
	open    int // orders that are begun and not finished
}

func (l *lane) look(ctx context.Context) (s sight, err error) {
	err = l.pool.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM public.reservations) + (SELECT count(*) FROM public.payments) + (SELECT count(*) FROM public.parcels) + count(*),
		count(*), (SELECT count(*) FROM cruster.execution WHERE status IN (1, 2)) FROM public.confirmations`).Scan(&s.effects, &s.done, &s.open)
	return s, err
}

// check reports effects that are missing or doubled, and work that is not done.
func (l *lane) check(ctx context.Context) error {
	var errs []error
	for _, table := range tables {
		var rows, orders int
		if err := l.pool.QueryRow(ctx, `SELECT count(*), count(DISTINCT order_id) FROM public.`+table).Scan(&rows, &orders); err != nil {
			return err
		}
		if rows != l.orders || orders != l.orders {
			errs = append(errs, fmt.Errorf("%s has %d rows of %d orders, want one of each of the %d", table, rows, orders, l.orders))
		}
	}
	var done, executions, waiting int
	err := l.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE status = 3), count(*), (SELECT count(*) FROM cruster.message WHERE state <> 2)
		FROM cruster.execution`).Scan(&done, &executions, &waiting)
	if err != nil {
		return err
	}
	if done != l.orders || executions != l.orders || waiting > 0 {
		errs = append(errs, fmt.Errorf("%d of %d executions are completed, and %d messages are not done; want all of %d, and none",
			done, executions, waiting, l.orders))
	}
	return errors.Join(errs...)
}
