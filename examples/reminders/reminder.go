package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cruster-go/cruster"
)

// Reminder is what somebody wants to be told.
type Reminder struct {
	ID    string        `json:"id"`
	User  string        `json:"user"`
	Text  string        `json:"text"`
	Due   time.Time     `json:"due"`
	Times int           `json:"times,omitempty"` // more than one: again and again
	Every time.Duration `json:"every,omitempty"` // in nanoseconds; for Times
	Nag   bool          `json:"nag,omitempty"`   // by a workflow, also if it is once
}

// CrusterKey makes all workflows of one reminder the same execution.
func (r Reminder) CrusterKey() string { return r.ID }

func (r Reminder) check() error {
	switch {
	case r.ID == "" || r.User == "" || r.Text == "" || r.Due.IsZero():
		return errors.New("a reminder needs id, user, text and due")
	case r.Times < 0 || r.Times > 100 || r.Every < 0:
		return fmt.Errorf("times is %d and every %v: times is at most 100, and neither is negative", r.Times, r.Every)
	}
	return nil
}

// docs:begin inbox

// Inbox is one user's. Its ID is the user's name.
type Inbox struct {
	_ cruster.Entity `cruster:"inbox"`
	_ cruster.RPC    `cruster:"Set,persisted"`
	_ cruster.RPC    `cruster:"Deliver,persisted,protected"`

	desk    Desk
	inboxes cruster.Client[*Inbox]
	nags    cruster.WorkflowClient[Reminder, int]
}

// Set notes a reminder, and sends the user's inbox the message that delivers it
// when it is due, or starts a workflow that does. All of it is one commit.
func (i *Inbox) Set(ctx context.Context, r Reminder) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO reminder (id, user_name, text, due) VALUES ($1, $2, $3, $4)`, r.ID, r.User, r.Text, r.Due.UnixMicro())
	if err != nil {
		return err
	}
	if r.Nag || r.Times > 1 {
		_, err = i.nags.Start(ctx, r)
		return err
	}
	return cruster.NotifyErr(ctx, i.inboxes.Entity(r.User), (*Inbox).Deliver, r, cruster.At(r.Due))
}

// Deliver is called by Set's message.
func (i *Inbox) Deliver(ctx context.Context, r Reminder) error {
	return i.desk.Hand(ctx, Delivery{Reminder: r.ID, Number: 1, Due: r.Due})
}

// docs:end inbox

// docs:begin nag

// Nag reminds several times. While it sleeps it takes no goroutine and no
// memory, and it goes on wherever a process is up when it is due.
type Nag struct {
	_ cruster.Workflow `cruster:"nag"`
	Desk
}

// Execute sleeps and delivers in turn.
func (n *Nag) Execute(wf *cruster.WorkflowContext, r Reminder) (int, error) {
	due := r.Due
	for i := range max(1, r.Times) {
		if err := cruster.SleepUntil(wf, due); err != nil {
			return i, err
		}
		if err := cruster.DoErr(wf, (*Nag).Hand, Delivery{Reminder: r.ID, Number: i + 1, Due: due}); err != nil {
			return i, err
		}
		due = due.Add(r.Every)
	}
	return max(1, r.Times), nil
}

// docs:end nag

// Delivery is one time that a user is told.
type Delivery struct {
	Reminder string
	Number   int
	Due      time.Time
}

// Desk hands out reminders. It is an activity group: workflows embed it.
type Desk struct {
	_ cruster.Activity `cruster:"Hand,retries=10"`

	db      *database
	process string
}

// Hand writes down that a reminder was delivered. The table has no key: what
// would be delivered twice is seen.
func (d *Desk) Hand(ctx context.Context, x Delivery) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO delivery (reminder, number, due, delivered, process) VALUES ($1, $2, $3, `+d.db.clock+`, $4)`,
		x.Reminder, x.Number, x.Due.UnixMicro(), d.process)
	return err
}

// docs:begin digest

// Digest sums up what was delivered since the last one. A cron starts it, once
// for each tick.
type Digest struct {
	_ cruster.Workflow `cruster:"digest"`
	_ cruster.Activity `cruster:"Write,retries=10"`

	db *database
}

// Execute writes the digest of a tick.
func (d *Digest) Execute(wf *cruster.WorkflowContext, tick time.Time) (int64, error) {
	return cruster.Do(wf, (*Digest).Write, tick)
}

// Write counts and writes in one transaction.
func (d *Digest) Write(ctx context.Context, tick time.Time) (n int64, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, `INSERT INTO digest (tick, written, delivered)
		SELECT $1, `+d.db.clock+`, count(*) FROM delivery
		 WHERE delivered < $1 AND delivered >= coalesce((SELECT max(tick) FROM digest WHERE tick < $1), 0)
		RETURNING delivered`, tick.UnixMicro()).Scan(&n)
	return n, err
}

// docs:end digest
