package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster"
)

// TraitTest keeps a text, and has the methods of two RPC groups.
type TraitTest struct {
	_ cruster.Entity `cruster:"TraitTest,idle=5s"`
	_ cruster.RPC    `cruster:"Update,persisted"`
	Auditable
	Versioned

	db *pgxpool.Pool
}

// Get returns the text, "" for a new entity.
func (t *TraitTest) Get(ctx context.Context, _ struct{}) (data string, err error) {
	err = t.db.QueryRow(ctx, `SELECT coalesce((SELECT data FROM cluster_tests.traits WHERE id = $1), '')`, cruster.EntityID(ctx)).Scan(&data)
	return data, err
}

// Update sets the text. The audit entry and the new version are written in the
// same transaction: the methods of the groups are called like any others.
func (t *TraitTest) Update(ctx context.Context, data string) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.traits (id, data) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET data = excluded.data`, cruster.EntityID(ctx), data)
	if err != nil {
		return err
	}
	details := "Updated data to: " + data
	if err := t.LogAction(ctx, Action{Action: "update", Actor: "system", Details: &details}); err != nil {
		return err
	}
	_, err = t.BumpVersion(ctx, struct{}{})
	return err
}

// Auditable is an RPC group: entities that embed it have an audit log.
type Auditable struct {
	_ cruster.RPC `cruster:"LogAction,persisted"`

	db *pgxpool.Pool
}

// Action is what is logged.
type Action struct {
	Action, Actor string
	Details       *string
}

// AuditEntry is a line of the log.
type AuditEntry struct {
	ID        string  `json:"id"`
	Action    string  `json:"action"`
	Actor     string  `json:"actor"`
	Timestamp Time    `json:"timestamp"`
	Details   *string `json:"details"`
}

// LogAction adds to the log.
func (a *Auditable) LogAction(ctx context.Context, act Action) error {
	_, err := cruster.Tx(ctx).Exec(ctx, `INSERT INTO cluster_tests.audit (owner, num, action, actor, details)
		SELECT $1, coalesce(max(num), 0) + 1, $2, $3, $4 FROM cluster_tests.audit WHERE owner = $1`,
		cruster.EntityID(ctx), act.Action, act.Actor, act.Details)
	return err
}

// GetAuditLog returns the log, oldest first.
func (a *Auditable) GetAuditLog(ctx context.Context, _ struct{}) ([]AuditEntry, error) {
	return rowsOf(ctx, a.db, pgx.RowToStructByPos[AuditEntry], `SELECT 'audit-' || num, action, actor, at, details
		FROM cluster_tests.audit WHERE owner = $1 ORDER BY num`, cruster.EntityID(ctx))
}

// Versioned is an RPC group: entities that embed it have a version.
type Versioned struct {
	_ cruster.RPC `cruster:"BumpVersion,persisted"`

	db *pgxpool.Pool
}

// GetVersion returns the version, 0 for a new entity.
func (v *Versioned) GetVersion(ctx context.Context, _ struct{}) (version int64, err error) {
	err = v.db.QueryRow(ctx, `SELECT coalesce((SELECT version FROM cluster_tests.versions WHERE id = $1), 0)`, cruster.EntityID(ctx)).Scan(&version)
	return version, err
}

// CheckVersion reports whether the version is the expected one.
func (v *Versioned) CheckVersion(ctx context.Context, expected int64) (bool, error) {
	version, err := v.GetVersion(ctx, struct{}{})
	return version == expected, err
}

// BumpVersion raises the version and returns it.
func (v *Versioned) BumpVersion(ctx context.Context, _ struct{}) (version int64, err error) {
	err = cruster.Tx(ctx).QueryRow(ctx, `INSERT INTO cluster_tests.versions AS v (id, version) VALUES ($1, 1)
		ON CONFLICT (id) DO UPDATE SET version = v.version + 1 RETURNING version`, cruster.EntityID(ctx)).Scan(&version)
	return version, err
}
