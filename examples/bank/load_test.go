package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fate is what a client knows of its transfer.
type fate int

const (
	unknown  fate = iota // some answer was lost, or left it open
	nothing              // certainly not done
	accepted             // 202
	done                 // 200
	refused              // 422
)

func (f fate) String() string {
	return [...]string{"unknown", "nothing", "accepted", "done", "refused"}[f]
}

// load is clients that make transfers, each of which it repeats, at other
// nodes too, until it knows the outcome.
type load struct {
	f       *fleet
	client  *http.Client
	timeout time.Duration // of one request
	once    bool          // only requests that no node took are repeated
	stop    atomic.Bool
	workers sync.WaitGroup

	mu     sync.Mutex
	ledger map[string]fate
	codes  map[int]int
	took   []time.Duration
	wrong  []string
}

func newLoad(f *fleet, timeout time.Duration) *load {
	return &load{
		f: f, timeout: timeout, ledger: make(map[string]fate), codes: make(map[int]int),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
	}
}

// run starts clients.
func (l *load) run(seed int64, clients int) {
	for i := range clients {
		l.workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			for n := 0; !l.stop.Load(); n++ {
				l.one(r, fmt.Sprintf("c%d-%d", i, n))
				l.f.wait(time.Duration(r.IntN(20)) * time.Millisecond)
			}
		})
	}
}

// end waits for the clients to finish what they have begun.
func (l *load) end() {
	l.stop.Store(true)
	l.workers.Wait()
	l.client.CloseIdleConnections()
}

// patience is how long a client asks for one transfer.
const clientPatience = 45 * time.Second

func (l *load) one(r *rand.Rand, id string) {
	o := order{ID: id, From: 1 + r.Int64N(accounts), Amount: 1 + r.Int64N(400), Mode: []string{"call", "workflow", "notify"}[r.IntN(3)], Wait: r.IntN(2) == 0}
	o.To = 1 + (o.From+r.Int64N(accounts-1))%accounts
	begin := time.Now()
	what := nothing
	for time.Since(begin) < clientPatience && l.f.t.Context().Err() == nil {
		ctx, cancel := context.WithTimeout(l.f.t.Context(), l.timeout)
		sent := time.Now()
		status, a, idle := post(ctx, l.client, l.f.nodes[r.IntN(len(l.f.nodes))].http, o)
		cancel()
		if idle {
			l.f.wait(20 * time.Millisecond)
			continue
		}
		l.count(status, time.Since(sent))
		switch status {
		case http.StatusOK:
			what = done
		case http.StatusAccepted:
			what = accepted
		case http.StatusUnprocessableEntity:
			what = refused
		case http.StatusServiceUnavailable, http.StatusTooManyRequests: // what was open stays open
		case 0, http.StatusGatewayTimeout:
			what = unknown
		default:
			l.complain("transfer %s: status %d, %s", id, status, a.Error)
		}
		if what >= accepted || l.once {
			break
		}
		l.f.wait(time.Duration(50+r.IntN(100)) * time.Millisecond)
	}
	l.mu.Lock()
	l.ledger[id] = what
	l.mu.Unlock()
	if what >= accepted && r.IntN(20) == 0 {
		l.again(r, o)
	}
}

// again repeats a transfer that was answered, as it is and with other content.
func (l *load) again(r *rand.Rand, o order) {
	ctx, cancel := context.WithTimeout(l.f.t.Context(), l.timeout)
	defer cancel()
	o.Amount += r.Int64N(2)
	o.Wait = true
	other := o.Amount > 400
	status, a, _ := post(ctx, l.client, l.f.nodes[r.IntN(len(l.f.nodes))].http, o)
	if status == http.StatusOK && (other || a.Amount != o.Amount) {
		l.complain("transfer %s was answered with %d for another amount", o.ID, status)
	}
}

func (l *load) count(status int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.codes[status]++
	l.took = append(l.took, took)
}

func (l *load) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// check compares what the clients know with what the database says.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.wrong[:min(10, len(l.wrong))] {
		t.Error(w)
	}
	states, err := l.f.watch.states(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tally, lies := make(map[fate]int), 0
	for id, what := range l.ledger {
		tally[what]++
		s := states[id]
		ok := true
		switch what {
		case done:
			ok = s == Done
		case accepted:
			ok = s == Done || s == Refused
		case refused:
			ok = s == Refused
		case nothing:
			ok = s == New || s == ""
		}
		if lies += 1; ok {
			lies--
		} else if lies < 10 {
			t.Errorf("transfer %s: the client was told %q, the database says %q", id, what, s)
		}
	}
	slices.Sort(l.took)
	t.Logf("%d transfers: %v; answers by status: %v; latency p50 %v p99 %v max %v", len(l.ledger), tally, l.codes,
		quantile(l.took, .5), quantile(l.took, .99), quantile(l.took, 1))
}

// states reads all transfers.
func (b *bank) states(ctx context.Context) (map[string]State, error) {
	rows, err := b.db.sql.QueryContext(ctx, `SELECT id, state FROM bank_transfer`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	states := make(map[string]State)
	for rows.Next() {
		var id string
		var s State
		if err := rows.Scan(&id, &s); err != nil {
			return nil, err
		}
		states[id] = s
	}
	return states, rows.Err()
}

// quantile of sorted durations.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return d[min(len(d)-1, int(q*float64(len(d))))].Round(time.Millisecond / 10)
}
