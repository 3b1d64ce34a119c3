package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/cruster-go/cruster"
)

// api is the HTTP interface.
type api struct {
	db      *database
	inboxes cruster.Client[*Inbox]
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /users/{user}/reminders/{id}", a.set)
	mux.HandleFunc("GET /users/{user}", a.list)
	mux.HandleFunc("GET /digests", func(w http.ResponseWriter, r *http.Request) {
		a.answer(w, r, `SELECT tick, delivered FROM digest ORDER BY tick DESC LIMIT 10`)
	})
	mux.HandleFunc("GET /watch", func(w http.ResponseWriter, r *http.Request) {
		a.answer(w, r, `SELECT process, began, looked, ended, late FROM watch ORDER BY id DESC LIMIT 10`)
	})
	return mux
}

// wish is the body of a request to be reminded.
type wish struct {
	Text  string    `json:"text"`
	Due   time.Time `json:"due"`
	After string    `json:"after"` // in place of due, such as 90s
	Times int       `json:"times"`
	Every string    `json:"every"`
	Nag   bool      `json:"nag"`
}

func (w wish) reminder(user, id string) (r Reminder, err error) {
	r = Reminder{ID: id, User: user, Text: w.Text, Due: w.Due, Times: w.Times, Nag: w.Nag}
	var after time.Duration
	if w.After != "" {
		if after, err = time.ParseDuration(w.After); err != nil {
			return r, err
		}
		r.Due = time.Now().Add(after)
	}
	if w.Every != "" {
		if r.Every, err = time.ParseDuration(w.Every); err != nil {
			return r, err
		}
	}
	r.Due = r.Due.UTC().Truncate(time.Microsecond)
	return r, r.check()
}

// set is the same reminder as often as it is repeated: its ID is the key. A due
// time that is given by "after" is another one each time.
func (a *api) set(w http.ResponseWriter, r *http.Request) {
	var in wish
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	var reminder Reminder
	if err == nil {
		reminder, err = in.reminder(r.PathValue("user"), r.PathValue("id"))
	}
	if err != nil {
		reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	defer cancel()
	err = cruster.CallErr(ctx, a.inboxes.Entity(reminder.User), (*Inbox).Set, reminder, cruster.Key(reminder.ID))
	switch {
	case errors.Is(err, cruster.ErrKeyConflict):
		reply(w, http.StatusConflict, map[string]string{"error": "there is another reminder with this id"})
	case err != nil:
		reply(w, http.StatusServiceUnavailable, map[string]string{"error": err.Error()})
	default:
		reply(w, http.StatusOK, reminder)
	}
}

func (a *api) list(w http.ResponseWriter, r *http.Request) {
	a.answer(w, r, `SELECT r.id, r.text, r.due, d.number, d.delivered, d.process FROM reminder r LEFT JOIN delivery d ON d.reminder = r.id
		WHERE r.user_name = $1 ORDER BY r.due, r.id, d.number`, r.PathValue("user"))
}

// answer sends rows as JSON. Times are microseconds.
func (a *api) answer(w http.ResponseWriter, r *http.Request, query string, args ...any) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	rows, err := a.db.rows(ctx, query, args...)
	if err != nil {
		reply(w, http.StatusServiceUnavailable, map[string]string{"error": err.Error()})
		return
	}
	reply(w, http.StatusOK, rows)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone
}
