package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cruster-go/cruster"
)

// order is the body of POST /v1/transfers.
type order struct {
	ID     string `json:"id"`
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Amount int64  `json:"amount"`
	// Mode is how it is done: call (an entity call, the default), workflow or
	// notify.
	Mode string `json:"mode"`
	// Wait asks for the outcome of a workflow or a notification; a call always
	// waits.
	Wait bool `json:"wait"`
}

// answer is what the interface says about a transfer.
type answer struct {
	ID     string `json:"id,omitempty"`
	From   int64  `json:"from,omitempty"`
	To     int64  `json:"to,omitempty"`
	Amount int64  `json:"amount,omitempty"`
	Mode   string `json:"mode,omitempty"`
	State  State  `json:"state,omitempty"`
	Error  string `json:"error,omitempty"`
}

func (b *bank) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/transfers", b.postTransfer)
	mux.HandleFunc("GET /v1/transfers/{id}", b.getTransfer)
	mux.HandleFunc("GET /v1/accounts/{n}", b.getAccount)
	mux.HandleFunc("GET /v1/topology", b.getTopology)
	mux.HandleFunc("GET /healthz", b.getHealth)
	mux.HandleFunc("GET /readyz", b.getReady)
	mux.HandleFunc("GET /metrics", b.getMetrics)
	return http.MaxBytesHandler(mux, 64<<10)
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

// limit bounds one request: longer than a call looks for the owner of an
// account.
func (b *bank) limit(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), b.o.ttl+10*time.Second)
}

func (b *bank) postTransfer(w http.ResponseWriter, r *http.Request) {
	var o order
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		reply(w, http.StatusBadRequest, answer{Error: "the body is not a transfer: " + err.Error()})
		return
	}
	if o.Mode == "" {
		o.Mode = "call"
	}
	if text := b.fault(o); text != "" {
		reply(w, http.StatusBadRequest, answer{ID: o.ID, Error: text})
		return
	}
	ctx, cancel := b.limit(r)
	defer cancel()
	begin := time.Now()
	status, state, err := b.transfer(ctx, o)
	a := answer{ID: o.ID, From: o.From, To: o.To, Amount: o.Amount, Mode: o.Mode, State: state}
	if err != nil {
		a.Error = err.Error()
	}
	b.answers.add(o.Mode, status, time.Since(begin))
	reply(w, status, a)
}

func (b *bank) fault(o order) string {
	switch {
	case o.ID == "" || len(o.ID) > 100:
		return "id has to have 1 to 100 bytes"
	case o.Amount <= 0:
		return "amount has to be positive"
	case o.From < 1 || o.From > int64(b.o.accounts) || o.To < 1 || o.To > int64(b.o.accounts):
		return "accounts are numbered from 1 to " + strconv.Itoa(b.o.accounts)
	case o.From == o.To:
		return "from and to are the same account"
	case o.Mode != "call" && o.Mode != "workflow" && o.Mode != "notify":
		return "mode is call, workflow or notify"
	}
	return ""
}

// transfer does a transfer, or finds what has become of it, and returns the
// status of the answer.
func (b *bank) transfer(ctx context.Context, o order) (status int, state State, err error) {
	t := Transfer{ID: o.ID, From: o.From, To: o.To, Amount: o.Amount}
	// A line without effects, which makes the ID mean one transfer whatever its
	// source and mode are.
	_, err = b.db.exec(ctx, `INSERT INTO bank_transfer (id, source, target, amount, mode, state) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		t.ID, t.From, t.To, t.Amount, o.Mode, string(New))
	if err != nil {
		return http.StatusServiceUnavailable, "", err
	}
	seen, err := b.db.look(ctx, t.ID)
	switch {
	case err != nil:
		return http.StatusServiceUnavailable, "", err
	case seen.From != o.From || seen.To != o.To || seen.Amount != o.Amount || seen.Mode != o.Mode:
		return http.StatusConflict, seen.State, errors.New("the id is that of another transfer")
	case seen.State != New:
		return final(seen.State), seen.State, nil
	}
	source := b.accounts.Entity(accountID(t.From))
	switch o.Mode {
	case "call":
		state, err = cruster.Call(ctx, source, (*Account).Transfer, t, cruster.Key(t.ID))
	case "workflow":
		if o.Wait {
			state, err = b.transfers.Execute(ctx, t)
		} else if _, err = b.transfers.Start(ctx, t); err == nil {
			return http.StatusAccepted, New, nil
		}
	case "notify":
		err = cruster.Notify(ctx, source, (*Account).Transfer, t, cruster.Key(t.ID))
		if err == nil && o.Wait {
			state = b.db.await(ctx, t.ID)
		}
		if err == nil && (state == "" || state == New) {
			return http.StatusAccepted, New, nil
		}
	}
	if err != nil {
		return failed(err), "", err
	}
	return final(state), state, nil
}

func final(s State) int {
	if s == Refused {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}

// failed says what an error means for the client. 504 is the only answer that
// leaves open whether the transfer happens: the same request again will tell.
func failed(err error) int {
	switch {
	case errors.Is(err, cruster.ErrKeyConflict):
		return http.StatusConflict
	case errors.Is(err, cruster.ErrMailboxFull):
		return http.StatusTooManyRequests
	case cruster.Retryable(err):
		return http.StatusServiceUnavailable
	case cruster.MaybeExecuted(err):
		return http.StatusGatewayTimeout
	case errors.Is(err, cruster.ErrCancelled), errors.Is(err, cruster.ErrTimeout):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (b *bank) getTransfer(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := b.limit(r)
	defer cancel()
	a, err := b.db.look(ctx, r.PathValue("id"))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		reply(w, http.StatusNotFound, answer{ID: r.PathValue("id"), Error: "there is no such transfer"})
	case err != nil:
		reply(w, http.StatusServiceUnavailable, answer{ID: r.PathValue("id"), Error: err.Error()})
	default:
		reply(w, http.StatusOK, a)
	}
}

func (b *bank) getAccount(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := b.limit(r)
	defer cancel()
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 1 || n > int64(b.o.accounts) {
		reply(w, http.StatusNotFound, answer{Error: "accounts are numbered from 1 to " + strconv.Itoa(b.o.accounts)})
		return
	}
	balance, err := cruster.Call(ctx, b.accounts.Entity(accountID(n)), (*Account).Balance, struct{}{})
	if err != nil {
		reply(w, failed(err), answer{Error: err.Error()})
		return
	}
	reply(w, http.StatusOK, balance)
}

// look reads what is known of a transfer.
func (d *database) look(ctx context.Context, id string) (a answer, err error) {
	a.ID = id
	err = d.sql.QueryRowContext(ctx, `SELECT source, target, amount, mode, state FROM bank_transfer WHERE id = $1`, id).
		Scan(&a.From, &a.To, &a.Amount, &a.Mode, &a.State)
	return a, err
}

// await waits until a transfer is decided. It returns New when ctx ends before.
func (d *database) await(ctx context.Context, id string) State {
	wait := 5 * time.Millisecond
	for {
		if a, err := d.look(ctx, id); err == nil && a.State != New {
			return a.State
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, 250*time.Millisecond)
		case <-ctx.Done():
			return New
		}
	}
}
