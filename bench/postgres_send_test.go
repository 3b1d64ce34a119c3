package bench

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// body is what every message carries.
var body = strings.Repeat("x", 100)

// Inbox has persisted methods.
type Inbox struct {
	_ cruster.Entity `cruster:"inbox,mailbox=1000"`
	_ cruster.RPC    `cruster:"Put,persisted"`
	_ cruster.RPC    `cruster:"Hold,persisted"`

	put chan<- struct{} // told by Put, if not nil
}

// Letter is their request.
type Letter struct{ Body string }

// Put answers.
func (x *Inbox) Put(_ context.Context, l Letter) (int64, error) {
	if x.put != nil {
		x.put <- struct{}{}
	}
	return int64(len(l.Body)), nil
}

// Hold keeps the entity busy until the runner stops, so that all that follows
// stays in storage.
func (x *Inbox) Hold(ctx context.Context, _ Letter) (int64, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

// senders store a message and return when it is durable.
var senders = []system{
	{"floor-each", func(b testing.TB, callers int) work {
		pool := openBare(b, connections(callers))
		return work{do: func(int, int) error {
			_, err := pool.Exec(b.Context(), `INSERT INTO bare (body) VALUES ($1)`, body)
			return err
		}}
	}},
	{"floor-shared", func(b testing.TB, _ int) work {
		insert := groupInsert(b)
		return work{do: func(int, int) error { return insert(body) }}
	}},
	{"river", func(b testing.TB, callers int) work {
		client := openRiver(b, callers, nil)
		return work{do: func(int, int) error {
			_, err := client.Insert(b.Context(), riverArgs{Body: body}, nil)
			return err
		}}
	}},
	// The entities are busy, so nothing but accepting is measured, as with the
	// systems above.
	{"cruster", func(b testing.TB, _ int) work { return sender(b, (*Inbox).Hold) }},
	// Messages are also handled, and their answers stored, meanwhile.
	{"cruster-handled", func(b testing.TB, _ int) work { return sender(b, (*Inbox).Put) }},
}

func sender(b testing.TB, m func(*Inbox, context.Context, Letter) (int64, error)) work {
	ids := entityIDs(1024)
	var inboxes cruster.Client[*Inbox]
	store := startOn(b, 4, func(s *cruster.Service, _ *pgxpool.Pool) { inboxes = must(cruster.Register(s, &Inbox{})) })
	return work{stats: store.Stats, do: func(caller, _ int) error {
		return cruster.Notify(b.Context(), inboxes.Entity(ids[caller]), m, Letter{body})
	}}
}

// BenchmarkPostgresSend is a message that is stored: it returns when the message
// is durable, and does not wait for a handler.
func BenchmarkPostgresSend(b *testing.B) { compare(b, []int{1, 64, 1024}, senders) }

// openBare makes the table of the floors.
func openBare(b testing.TB, connections int) *pgxpool.Pool {
	pool := openPool(b, database(b), connections)
	must(pool.Exec(b.Context(), `CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL, state smallint NOT NULL DEFAULT 1)`))
	return pool
}

// groupInsert returns a function that inserts a row and returns when it is
// committed, with all rows that waited when the commit before had ended.
func groupInsert(b testing.TB) func(body string) error {
	type row struct {
		body string
		done chan error
	}
	pool := openBare(b, 1)
	rows := make(chan row, 1024)
	var running sync.WaitGroup
	b.Cleanup(func() { close(rows); running.Wait() })
	ctx := context.WithoutCancel(b.Context())
	running.Go(func() {
		for first := range rows {
			batch, bodies := []row{first}, []string{first.body}
			for waiting := len(rows); waiting > 0; waiting-- {
				r := <-rows
				batch, bodies = append(batch, r), append(bodies, r.body)
			}
			_, err := pool.Exec(ctx, `INSERT INTO bare (body) SELECT unnest($1::text[])`, bodies)
			for _, r := range batch {
				r.done <- err
			}
		}
	})
	return func(body string) error {
		r := row{body, make(chan error, 1)}
		rows <- r
		return <-r.done
	}
}
