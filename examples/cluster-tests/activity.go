package main

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// ActivityTest shows what the activities below have logged for one owner.
type ActivityTest struct {
	_ cruster.Entity `cruster:"ActivityTest,idle=5s"`

	db *pgxpool.Pool
}

// ActivityRecord is a line of the log.
type ActivityRecord struct {
	ID        string `json:"id"`
	Action    string `json:"action"`
	Timestamp Time   `json:"timestamp"`
}

// GetActivityLog returns the log, oldest first.
func (a *ActivityTest) GetActivityLog(ctx context.Context, _ struct{}) ([]ActivityRecord, error) {
	return rowsOf(ctx, a.db, pgx.RowToStructByPos[ActivityRecord], `SELECT id, action, at
		FROM cluster_tests.activity_log WHERE owner = $1 ORDER BY num`, cruster.EntityID(ctx))
}

// ActivityWorkflow logs and calls another system, in turn.
type ActivityWorkflow struct {
	_ cruster.Workflow `cruster:"ActivityWorkflow,hash=false"`
}

// Logged is a line to be logged.
type Logged struct{ Owner, ID, Action string }

// LogActivity writes to the log, in the transaction that journals it, and
// returns the ID of the line.
func (*ActivityWorkflow) LogActivity(ctx context.Context, l Logged) (string, error) {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.activity_log (owner, id, action) VALUES ($1, $2, $3)`, l.Owner, l.ID, l.Action)
	return l.ID, err
}

// ExternalCall stands for a request to another system.
func (*ActivityWorkflow) ExternalCall(_ context.Context, url string) (string, error) {
	return "response_from_" + strings.ReplaceAll(url, "/", "_"), nil
}

// Execute returns what each step has returned.
func (*ActivityWorkflow) Execute(wf *cruster.WorkflowContext, e Exec) ([]string, error) {
	const url = "https://api.example.com/"
	var results []string
	for _, step := range []struct{ name, action string }{
		{"start", "workflow_started"}, {"process", "data_processed"}, {"complete", "workflow_completed"},
	} {
		if step.name != "start" {
			got, err := cruster.Do(wf, (*ActivityWorkflow).ExternalCall, url+step.name)
			if err != nil {
				return nil, err
			}
			results = append(results, got)
		}
		got, err := cruster.Do(wf, (*ActivityWorkflow).LogActivity, Logged{e.Owner, e.ID + "-" + step.name, step.action})
		if err != nil {
			return nil, err
		}
		results = append(results, got)
	}
	return results, nil
}
