package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// TimerTest shows the timers of one owner, and cancels them.
type TimerTest struct {
	_ cruster.Entity `cruster:"TimerTest,idle=5s"`
	_ cruster.RPC    `cruster:"CancelTimer,persisted"`
	_ cruster.RPC    `cruster:"ClearFires,persisted"`

	db *pgxpool.Pool
}

// TimerFire is a timer that has fired.
type TimerFire struct {
	TimerID     string `json:"timer_id"`
	ScheduledAt Time   `json:"scheduled_at"`
	FiredAt     Time   `json:"fired_at"`
}

// PendingTimer is a timer that waits.
type PendingTimer struct {
	TimerID     string `json:"timer_id"`
	ScheduledAt Time   `json:"scheduled_at"`
	DelayMS     int64  `json:"delay_ms"`
	Cancelled   bool   `json:"cancelled"`
}

// GetTimerFires returns the fires in order.
func (t *TimerTest) GetTimerFires(ctx context.Context, _ struct{}) ([]TimerFire, error) {
	return rowsOf(ctx, t.db, pgx.RowToStructByPos[TimerFire], `SELECT id, scheduled, fired
		FROM cluster_tests.timer_fires WHERE owner = $1 ORDER BY fired, num`, cruster.EntityID(ctx))
}

// GetPendingTimers returns the timers that wait, in the order of their starts.
func (t *TimerTest) GetPendingTimers(ctx context.Context, _ struct{}) ([]PendingTimer, error) {
	return rowsOf(ctx, t.db, pgx.RowToStructByPos[PendingTimer], `SELECT id, scheduled, delay_ms, cancelled
		FROM cluster_tests.pending_timers WHERE owner = $1 ORDER BY scheduled, id`, cruster.EntityID(ctx))
}

// CancelTimer reports whether the timer was pending, and not yet cancelled.
func (t *TimerTest) CancelTimer(ctx context.Context, timerID string) (bool, error) {
	n, err := cruster.Tx(ctx).Exec(ctx, `UPDATE cluster_tests.pending_timers SET cancelled = true
		WHERE owner = $1 AND id = $2 AND NOT cancelled`, cruster.EntityID(ctx), timerID)
	return n > 0, err
}

// ClearFires forgets the fires.
func (t *TimerTest) ClearFires(ctx context.Context, _ struct{}) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `DELETE FROM cluster_tests.timer_fires WHERE owner = $1`, cruster.EntityID(ctx))
	return err
}

// ScheduleTimerWorkflow is a timer. It outlives the node that started it.
type ScheduleTimerWorkflow struct {
	_ cruster.Workflow `cruster:"ScheduleTimerWorkflow,hash=false"`
}

// maxDelayMS is the longest delay that a time.Duration holds.
const maxDelayMS = uint64((1<<63 - 1) / time.Millisecond)

// Schedule is a timer to be started.
type Schedule struct {
	Exec
	DelayMS uint64
}

// Timer is one whose times are known: those that the workflow has recorded, so
// that a replay does not change them.
type Timer struct {
	Exec
	DelayMS          int64
	Scheduled, Fired time.Time
}

// AddPendingTimer makes the timer visible.
func (*ScheduleTimerWorkflow) AddPendingTimer(ctx context.Context, t Timer) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.pending_timers (owner, id, scheduled, delay_ms) VALUES ($1, $2, $3, $4)
		ON CONFLICT (owner, id) DO UPDATE SET scheduled = excluded.scheduled, delay_ms = excluded.delay_ms, cancelled = false`,
		t.Owner, t.ID, t.Scheduled, t.DelayMS)
	return err
}

// CheckCancelled reports whether the timer was cancelled.
func (*ScheduleTimerWorkflow) CheckCancelled(ctx context.Context, e Exec) (cancelled bool, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, `SELECT coalesce((SELECT cancelled FROM cluster_tests.pending_timers
		WHERE owner = $1 AND id = $2), false)`, e.Owner, e.ID).Scan(&cancelled)
	return cancelled, err
}

// RecordTimerFire moves the timer from the pending ones to those that fired,
// unless it was cancelled since the check.
func (*ScheduleTimerWorkflow) RecordTimerFire(ctx context.Context, t Timer) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `WITH gone AS (
			DELETE FROM cluster_tests.pending_timers WHERE owner = $1 AND id = $2 RETURNING cancelled)
		INSERT INTO cluster_tests.timer_fires (owner, id, scheduled, fired)
		SELECT $1, $2, $3, $4 FROM gone WHERE NOT cancelled`, t.Owner, t.ID, t.Scheduled, t.Fired)
	return err
}

// RemovePendingTimer forgets a timer that was cancelled.
func (*ScheduleTimerWorkflow) RemovePendingTimer(ctx context.Context, e Exec) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `DELETE FROM cluster_tests.pending_timers WHERE owner = $1 AND id = $2`, e.Owner, e.ID)
	return err
}

// Execute waits and fires.
func (*ScheduleTimerWorkflow) Execute(wf *cruster.WorkflowContext, s Schedule) error {
	t := Timer{Exec: s.Exec, DelayMS: int64(s.DelayMS), Scheduled: wf.Now()}
	if err := cruster.DoErr(wf, (*ScheduleTimerWorkflow).AddPendingTimer, t); err != nil {
		return err
	}
	if err := cruster.Sleep(wf, time.Duration(s.DelayMS)*time.Millisecond); err != nil {
		return err
	}
	t.Fired = wf.Now()
	cancelled, err := cruster.Do(wf, (*ScheduleTimerWorkflow).CheckCancelled, s.Exec)
	if err != nil {
		return err
	}
	if cancelled {
		return cruster.DoErr(wf, (*ScheduleTimerWorkflow).RemovePendingTimer, s.Exec)
	}
	return cruster.DoErr(wf, (*ScheduleTimerWorkflow).RecordTimerFire, t)
}
