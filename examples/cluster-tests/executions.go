package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// WorkflowTest shows what the workflows below have recorded for one owner.
type WorkflowTest struct {
	_ cruster.Entity `cruster:"WorkflowTest,idle=5s"`

	db *pgxpool.Pool
}

// Execution is the record of one run.
type Execution struct {
	ID             string   `json:"id"`
	StepsCompleted []string `json:"steps_completed"`
	Result         *string  `json:"result"`
}

// GetExecution returns a record, nil when there is none.
func (w *WorkflowTest) GetExecution(ctx context.Context, execID string) (*Execution, error) {
	found, err := rowsOf(ctx, w.db, pgx.RowToStructByPos[Execution], `SELECT id, steps, result
		FROM cluster_tests.executions WHERE owner = $1 AND id = $2`, cruster.EntityID(ctx), execID)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// ListExecutions returns all records by ID.
func (w *WorkflowTest) ListExecutions(ctx context.Context, _ struct{}) ([]Execution, error) {
	return rowsOf(ctx, w.db, pgx.RowToStructByPos[Execution], `SELECT id, steps, result
		FROM cluster_tests.executions WHERE owner = $1 ORDER BY id`, cruster.EntityID(ctx))
}

// Exec names an execution: that of an owner with an ID.
type Exec struct{ Owner, ID string }

// CrusterKey makes all starts with one owner and ID the same execution.
func (e Exec) CrusterKey() string { return e.Owner + "/" + e.ID }

// Recording is the activity group of the workflows below. Each of its steps
// writes in the transaction that also journals it.
type Recording struct{ _ cruster.Activity }

// Progress is an execution and what becomes of it.
type Progress struct {
	Exec Exec
	Text string // a step, or the result
}

// CreateExecution begins a record.
func (*Recording) CreateExecution(ctx context.Context, e Exec) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.executions (owner, id) VALUES ($1, $2)
		ON CONFLICT (owner, id) DO UPDATE SET steps = '{}', result = NULL`, e.Owner, e.ID)
	return err
}

// CompleteStep adds a step.
func (*Recording) CompleteStep(ctx context.Context, p Progress) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `UPDATE cluster_tests.executions SET steps = array_append(steps, $3::text)
		WHERE owner = $1 AND id = $2`, p.Exec.Owner, p.Exec.ID, p.Text)
	return err
}

// MarkCompleted sets the result.
func (*Recording) MarkCompleted(ctx context.Context, p Progress) error {
	return setResult(ctx, p.Exec, p.Text)
}

// MarkFailed says at which step the execution has failed.
func (*Recording) MarkFailed(ctx context.Context, p Progress) error {
	return setResult(ctx, p.Exec, "failed:"+p.Text)
}

func setResult(ctx context.Context, e Exec, result string) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `UPDATE cluster_tests.executions SET result = $3 WHERE owner = $1 AND id = $2`, e.Owner, e.ID, result)
	return err
}

// record is what the workflows have in common: it begins a record, completes
// steps, and sets the result. before is asked before each step.
func record(wf *cruster.WorkflowContext, e Exec, steps int, name func(i int) string, before func(i int) error) (string, error) {
	if err := cruster.DoErr(wf, (*Recording).CreateExecution, e); err != nil {
		return "", err
	}
	for i := range steps {
		if err := before(i); err != nil {
			return "", err
		}
		if err := cruster.DoErr(wf, (*Recording).CompleteStep, Progress{e, name(i)}); err != nil {
			return "", err
		}
	}
	result := "completed:" + e.ID
	return result, cruster.DoErr(wf, (*Recording).MarkCompleted, Progress{e, result})
}

func fromZero(i int) string { return fmt.Sprintf("step%d", i) }
func fromOne(i int) string  { return fmt.Sprintf("step%d", i+1) }
func always(int) error      { return nil }

// SimpleWorkflow completes three steps.
type SimpleWorkflow struct {
	_ cruster.Workflow `cruster:"SimpleWorkflow,hash=false"`
	Recording
}

// Execute completes the steps.
func (*SimpleWorkflow) Execute(wf *cruster.WorkflowContext, e Exec) (string, error) {
	return record(wf, e, 3, fromOne, always)
}

// FailingWorkflow fails at one of three steps, and leaves a mark.
type FailingWorkflow struct {
	_ cruster.Workflow `cruster:"FailingWorkflow,hash=false"`
	Recording
}

// FailingExec says where to fail. A number of 3 or more does not fail.
type FailingExec struct {
	Exec
	FailAt uint64
}

// intended is a failure at a step. Callers compare its text.
type intended int

func (i intended) Error() string { return fmt.Sprintf("Intentional failure at step %d", int(i)) }

// Execute fails at the step that it is told.
func (*FailingWorkflow) Execute(wf *cruster.WorkflowContext, e FailingExec) (string, error) {
	return record(wf, e.Exec, 3, fromZero, func(i int) error {
		if uint64(i) != e.FailAt {
			return nil
		}
		if err := cruster.DoErr(wf, (*Recording).MarkFailed, Progress{e.Exec, fromZero(i)}); err != nil {
			return err
		}
		return intended(i)
	})
}

// LongWorkflow completes as many steps as it is told.
type LongWorkflow struct {
	_ cruster.Workflow `cruster:"LongWorkflow,hash=false"`
	Recording
}

// LongExec says how many steps there are.
type LongExec struct {
	Exec
	Steps uint64
}

// Execute completes the steps.
func (*LongWorkflow) Execute(wf *cruster.WorkflowContext, e LongExec) (string, error) {
	steps := int(min(e.Steps, 1<<20)) // the library allows fewer, and says so
	return record(wf, e.Exec, steps, fromZero, always)
}
