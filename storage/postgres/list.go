package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// listing builds a query from the conditions that a filter really has: one that
// carried all of them as "unset or equal" could use no index.
type listing struct {
	sql  strings.Builder
	args []any
}

// where adds a condition; each "?" in it stands for one of args.
func (l *listing) where(cond string, args ...any) {
	l.sql.WriteString("\n   AND ")
	for _, a := range args {
		before, after, _ := strings.Cut(cond, "?")
		l.args = append(l.args, a)
		l.sql.WriteString(before + "$" + strconv.Itoa(len(l.args)))
		cond = after
	}
	l.sql.WriteString(cond)
}

func (l *listing) equal(column, value string) {
	if value != "" {
		l.where(column+" = ?::text", value)
	}
}

// prefix compares by bytes. A column that can be NULL has no other prefix
// than the empty one.
func (l *listing) prefix(column, value string) {
	if value != "" {
		l.where("starts_with("+column+", ?::text)", value)
	}
}

// among writes the numbers into the text, so that partial indexes match.
func among[N ~uint8](l *listing, column string, values []N) {
	if len(values) == 0 {
		return
	}
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = strconv.Itoa(int(v))
	}
	l.where(column + " IN (" + strings.Join(list, ", ") + ")")
}

func (l *listing) between(from, to time.Time) {
	if !from.IsZero() {
		l.where("created_at >= ?::timestamptz", stamp(from))
	}
	if !to.IsZero() {
		l.where("created_at < ?::timestamptz", stamp(to))
	}
}

// Messages lists messages.
func (s *Store) Messages(ctx context.Context, f storage.MessageFilter) ([]crustertype.Message, storage.Cursor, error) {
	var l listing
	l.sql.WriteString(s.q.ListMessages)
	l.equal("entity_type", f.Type)
	l.equal("entity_id", f.ID)
	l.equal("method", f.Method)
	among(&l, "state", f.States)
	l.prefix("key", f.KeyPrefix)
	l.between(f.From, f.To)
	if f.After != "" {
		at, err := parseCursor(f.After)
		if err != nil {
			return nil, "", err
		}
		l.where("(created_at, id) < (?::timestamptz, ?::uuid)", at.at, at.id.String())
	}
	limit := min(limitOf(f.Limit), 1000)
	l.args = append(l.args, int64(limit)+1)
	fmt.Fprintf(&l.sql, "\n ORDER BY created_at DESC, id DESC LIMIT $%d::bigint", len(l.args))
	out, err := read(ctx, s, "messages", s.scanMessage, l.sql.String(), l.args...)
	if err != nil || len(out) <= limit {
		return out, "", err
	}
	out = out[:limit]
	return out, position{at: out[limit-1].CreatedAt, id: out[limit-1].ID}.cursor(), nil
}

// Executions lists executions.
func (s *Store) Executions(ctx context.Context, f storage.ExecutionFilter) ([]crustertype.Execution, storage.Cursor, error) {
	var l listing
	l.sql.WriteString(s.q.ListExecutions)
	l.equal("type", f.Type)
	among(&l, "status", f.Statuses)
	l.prefix("id", f.IDPrefix)
	l.prefix("key", f.KeyPrefix)
	l.prefix("waiting_for", f.WaitingFor)
	l.between(f.From, f.To)
	if f.Parent != (crustertype.ExecutionRef{}) {
		l.where("coalesce(parent_type, '') = ?::text AND coalesce(parent_id, '') = ?::text", f.Parent.Type, f.Parent.ID)
		if f.Parent.Type != "" && f.Parent.ID != "" {
			l.where("parent_type = ?::text AND parent_id = ?::text", f.Parent.Type, f.Parent.ID)
		}
	}
	if len(f.Tags) > 0 {
		b, err := json.Marshal(f.Tags)
		if err != nil {
			return nil, "", invalid("postgres: tags: %w", err)
		}
		l.where("tags @> ?::text::jsonb", string(b))
	}
	if f.After != "" {
		at, err := parseCursor(f.After)
		if err != nil {
			return nil, "", err
		}
		l.where("(created_at, type, id) < (?::timestamptz, ?::text, ?::text)", at.at, at.ref.Type, at.ref.ID)
	}
	limit := min(limitOf(f.Limit), 1000)
	l.args = append(l.args, int64(limit)+1)
	fmt.Fprintf(&l.sql, "\n ORDER BY created_at DESC, type DESC, id DESC LIMIT $%d::bigint", len(l.args))
	out, err := read(ctx, s, "executions", s.scanExecution, l.sql.String(), l.args...)
	if err != nil || len(out) <= limit {
		return out, "", err
	}
	out = out[:limit]
	return out, position{at: out[limit-1].CreatedAt, ref: out[limit-1].ExecutionRef}.cursor(), nil
}

// count is one group of a count.
type count struct {
	name  string
	state int16
	n     int64
}

func scanCount(rows pgx.Rows, c *count) error { return rows.Scan(&c.name, &c.state, &c.n) }

// Counts returns how much work is not finished.
func (s *Store) Counts(ctx context.Context) (storage.Counts, error) {
	messages, err := read(ctx, s, "the number of messages", scanCount, s.q.CountMessages)
	if err != nil {
		return storage.Counts{}, err
	}
	executions, err := read(ctx, s, "the number of executions", scanCount, s.q.CountExecutions)
	if err != nil {
		return storage.Counts{}, err
	}
	return storage.Counts{
		Messages:   tally[crustertype.MessageState](messages),
		Executions: tally[crustertype.Status](executions),
	}, nil
}

func tally[K ~uint8](counts []count) map[string]map[K]int64 {
	out := make(map[string]map[K]int64)
	for _, c := range counts {
		if out[c.name] == nil {
			out[c.name] = make(map[K]int64)
		}
		out[c.name][K(c.state)] = c.n
	}
	return out
}
