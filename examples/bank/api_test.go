package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cruster-go/cruster/internal/testdb"
)

// alone runs a bank in this process and returns its address.
func alone(t *testing.T, o options) (address string) {
	t.Helper()
	o.id, o.http, o.shards, o.accounts, o.opening, o.ttl, o.drain = "alone", freeAddress(t), 4, 3, 100, 5*time.Second, time.Second
	o.logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serve() = %v", err)
		}
	})
	f := &fleet{t: t}
	f.eventually(30*time.Second, "the bank is ready", func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatal(err)
		default:
		}
		res, err := http.Get("http://" + o.http + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d", res.StatusCode)
			}
		}
		return err
	})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return o.http
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// TestAnswers sees every status that one runner can answer with.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]options{
		"sqlite":   {storage: "sqlite", file: filepath.Join(t.TempDir(), "bank.db")},
		"postgres": {storage: "postgres", pg: testdb.Database(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := alone(t, o)
			for _, tt := range []struct {
				o      order
				status int
				state  State
			}{
				{order{ID: "a", From: 1, To: 2, Amount: 60, Mode: "call"}, 200, Debited},
				{order{ID: "a", From: 1, To: 2, Amount: 60, Mode: "call"}, 200, ""}, // the same again
				{order{ID: "a", From: 1, To: 2, Amount: 61, Mode: "call"}, 409, ""},
				{order{ID: "a", From: 1, To: 3, Amount: 60, Mode: "call"}, 409, ""},
				{order{ID: "a", From: 1, To: 2, Amount: 60, Mode: "workflow"}, 409, ""},
				{order{ID: "b", From: 1, To: 2, Amount: 60}, 422, Refused},
				{order{ID: "b", From: 1, To: 2, Amount: 60}, 422, Refused},
				{order{ID: "c", From: 1, To: 2, Amount: 30, Mode: "workflow", Wait: true}, 200, Done},
				{order{ID: "d", From: 1, To: 2, Amount: 30, Mode: "workflow", Wait: true}, 422, Refused},
				{order{ID: "e", From: 2, To: 3, Amount: 1, Mode: "workflow"}, 202, New},
				{order{ID: "f", From: 2, To: 3, Amount: 1, Mode: "notify"}, 202, New},
				{order{ID: "g", From: 3, To: 1, Amount: 1, Mode: "notify", Wait: true}, 200, ""},
				{order{ID: "h", From: 3, To: 3, Amount: 1}, 400, ""},
				{order{ID: "h", From: 3, To: 4, Amount: 1}, 400, ""},
				{order{ID: "h", From: 3, To: 1, Amount: 0}, 400, ""},
				{order{ID: "h", From: 3, To: 1, Amount: 1, Mode: "cash"}, 400, ""},
				{order{From: 3, To: 1, Amount: 1}, 400, ""},
			} {
				status, a, _ := post(t.Context(), http.DefaultClient, address, tt.o)
				if status != tt.status || tt.state != "" && a.State != tt.state {
					t.Errorf("%+v: status %d, %+v; want %d, %s", tt.o, status, a, tt.status, tt.state)
				}
				if (a.Error == "") != (status < 300 || status == 422) {
					t.Errorf("%+v: status %d with error %q", tt.o, status, a.Error)
				}
			}
			(&fleet{t: t}).eventually(10*time.Second, "what was accepted is done", func() error {
				for _, id := range []string{"a", "e", "f", "g"} {
					if _, body := get(t, "http://"+address+"/v1/transfers/"+id); !strings.Contains(body, `"state":"done"`) {
						return fmt.Errorf("%s", body)
					}
				}
				return nil
			})
			for path, want := range map[string]string{
				"/v1/accounts/1":     `{"account":1,"balance":11,"runner":"alone"}`,
				"/v1/topology":       `"runner":"alone"`,
				"/healthz":           `{}`,
				"/metrics":           `bank_transfers_seconds_count{mode="call",status="409"} 2`,
				"/v1/transfers/nope": `no such transfer`,
				"/v1/accounts/9":     `numbered from 1 to 3`,
			} {
				if _, body := get(t, "http://"+address+path); !strings.Contains(body, want) {
					t.Errorf("%s answers %s, want %s in it", path, body, want)
				}
			}
		})
	}
}

// TestVerifyFinds breaks one invariant after the other by hand.
func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		broken []string
		want   []string // words of the invariants
	}{
		"nothing":         {nil, nil},
		"lost money":      {[]string{`UPDATE bank_account SET balance = balance - 1 WHERE id = 1`}, []string{"the sum", "entries say"}},
		"applied twice":   {[]string{`INSERT INTO bank_entry (transfer, account, amount) VALUES ('ok', 1, -5)`}, []string{"entries say", "exactly two"}},
		"wrong account":   {[]string{`UPDATE bank_entry SET account = 3 WHERE transfer = 'ok' AND amount > 0`}, []string{"entries say", "exactly two"}},
		"half":            {[]string{`UPDATE bank_transfer SET state = 'debited' WHERE id = 'ok'`}, []string{"the sum", "half done"}},
		"refused, done":   {[]string{`UPDATE bank_transfer SET state = 'refused' WHERE id = 'ok'`}, []string{"no entries"}},
		"nobody's entry":  {[]string{`DELETE FROM bank_transfer WHERE id = 'ok'`}, []string{"belongs to"}},
		"overlap":         {[]string{`INSERT INTO bank_execution VALUES (1, 7, 150, 160, 'r2', 'b')`}, []string{"do not overlap"}},
		"inside":          {[]string{`INSERT INTO bank_execution VALUES (1, 7, 110, 120, 'r2', 'b')`}, []string{"do not overlap"}},
		"old epoch":       {[]string{`INSERT INTO bank_execution VALUES (1, 6, 300, 310, 'r2', 'b')`}, []string{"epochs"}},
		"request twice":   {[]string{`INSERT INTO bank_execution VALUES (1, 7, 300, 310, 'r1', 'b')`}, []string{"executed twice"}},
		"another account": {[]string{`INSERT INTO bank_execution VALUES (2, 3, 150, 160, 'r3', 'b')`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := openDatabase(t.Context(), options{storage: "sqlite", file: filepath.Join(t.TempDir(), "bank.db"), accounts: 3, opening: 100})
			if err != nil {
				t.Fatal(err)
			}
			defer db.close()
			for _, query := range append([]string{
				`INSERT INTO bank_transfer (id, source, target, amount, mode, state) VALUES ('ok', 1, 2, 5, 'call', 'done')`,
				`INSERT INTO bank_entry (transfer, account, amount) VALUES ('ok', 1, -5), ('ok', 2, 5)`,
				`UPDATE bank_account SET balance = CASE id WHEN 1 THEN 95 WHEN 2 THEN 105 ELSE 100 END`,
				`INSERT INTO bank_execution VALUES (1, 7, 100, 200, 'r1', 'a')`,
			}, tt.broken...) {
				if _, err := db.exec(t.Context(), query); err != nil {
					t.Fatalf("%s: %v", query, err)
				}
			}
			r, err := db.verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			text, _ := json.Marshal(r.Faults)
			if len(r.Faults) != len(tt.want) {
				t.Errorf("%d faults, want %d: %s", len(r.Faults), len(tt.want), text)
			}
			for _, word := range tt.want {
				if !strings.Contains(string(text), word) {
					t.Errorf("no fault with %q: %s", word, text)
				}
			}
		})
	}
}
