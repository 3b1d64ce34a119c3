package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// listing builds a query from the conditions that a filter really has: one that
// carried all of them as "unset or equal" could use no index.
//
// For the same reason a filter that is selective reads unfinished, failed and
// finished rows in parts of their own, each with the index that has just those:
// no index has all rows of an entity or a key, since an unfinished row would
// pay for it twice.
type listing struct {
	conds strings.Builder
	args  []any
	// parts are conditions that exclude each other; none: one part, of all rows.
	parts []part
}

// part is one of the conditions that divide a table.
type part struct {
	cond string
	// whole makes the part be read and sorted as a whole. Rows in order of time
	// are an offer that the planner takes for a short way to the first few of
	// them, and when the rest of the filter matches none, it is the longest.
	whole bool
}

// where adds a condition; each "?" in it stands for one of args.
func (l *listing) where(cond string, args ...any) {
	l.conds.WriteString("\n   AND ")
	for _, a := range args {
		before, after, _ := strings.Cut(cond, "?")
		l.args = append(l.args, a)
		l.conds.WriteString(before + "$" + strconv.Itoa(len(l.args)))
		cond = after
	}
	l.conds.WriteString(cond)
}

func (l *listing) equal(column, value string) {
	if value != "" {
		l.where(column+" = ?::text", value)
	}
}

// prefix compares by bytes, and, where a bound can be told, as a range that an
// index can find. A column that can be NULL has no other prefix than the empty
// one.
func (l *listing) prefix(column, value string) {
	if value == "" {
		return
	}
	l.where("starts_with("+column+", ?::text) AND "+column+" >= ?::text", value, value)
	if end := behind(value); end != "" {
		l.where(column+" < ?::text", end)
	}
}

// behind returns the first text behind all that have a prefix, in the order of
// code points, which is that of UTF-8's bytes; "" when there is none.
func behind(prefix string) string {
	runes := []rune(prefix)
	for i := len(runes) - 1; i >= 0; i-- {
		switch r := runes[i]; {
		case r == utf8.MaxRune:
			continue
		case r == 0xd7ff: // surrogates are no text
			runes[i] = 0xe000
		default:
			runes[i]++
		}
		return string(runes[:i+1])
	}
	return ""
}

// among divides by the values of a column that are asked for, all when none is,
// along classes: the sets of values that have an index of their own. Numbers are
// written into the text, so that partial indexes match.
func among[N ~uint8](l *listing, column string, values []N, classes ...class[N]) {
	for _, c := range classes {
		var in []string
		for _, v := range c.values {
			if len(values) == 0 || slices.Contains(values, v) {
				in = append(in, strconv.Itoa(int(v)))
			}
		}
		if len(in) > 0 {
			l.parts = append(l.parts, part{column + " IN (" + strings.Join(in, ", ") + ")" + c.also, c.whole})
		}
	}
	if len(l.parts) == 0 {
		l.parts = []part{{cond: "false"}} // values that no row has
	}
}

// class is a set of values whose rows are read together.
type class[N any] struct {
	values []N
	also   string // another condition on them
	whole  bool
}

func (l *listing) between(from, to time.Time) {
	if !from.IsZero() {
		l.where("created_at >= ?::timestamptz", stamp(from))
	}
	if !to.IsZero() {
		l.where("created_at < ?::timestamptz", stamp(to))
	}
}

// query returns the text that reads the first rows in an order.
func (l *listing) query(base, order string, limit int) string {
	l.args = append(l.args, int64(limit))
	tail := fmt.Sprintf("\n ORDER BY %s LIMIT $%d::bigint", order, len(l.args))
	parts := l.parts
	if len(parts) == 0 {
		parts = []part{{cond: "true"}}
	}
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = base + "\n   AND " + p.cond + l.conds.String()
		if p.whole {
			texts[i] = "SELECT * FROM (" + texts[i] + "\nOFFSET 0) AS part"
		}
		texts[i] += tail
	}
	if len(texts) == 1 {
		return texts[0]
	}
	return "SELECT * FROM ((" + strings.Join(texts, ")\nUNION ALL\n(") + ")) AS rows" + tail
}

// ofTypes is a condition that says nothing new about finished rows: it names
// all their types, so that an index by type and ID finds an ID alone.
func ofTypes(column, types string) string {
	return "\n   AND " + column + " = ANY (ARRAY(" + types + "))"
}

// Messages lists messages.
func (s *Store) Messages(ctx context.Context, f storage.MessageFilter) ([]crustertype.Message, storage.Cursor, error) {
	var l listing
	l.equal("entity_type", f.Type)
	l.equal("entity_id", f.ID)
	l.equal("method", f.Method)
	if len(f.States) > 0 || f.Type != "" || f.ID != "" {
		types := ""
		if f.Type == "" && f.ID != "" {
			types = ofTypes("entity_type", s.q.MessageTypes)
		}
		type states = []crustertype.MessageState
		among(&l, "state", f.States,
			class[crustertype.MessageState]{values: states{crustertype.MessagePending}, whole: f.ID != ""},
			class[crustertype.MessageState]{values: states{crustertype.MessageDead}, whole: f.ID != ""},
			class[crustertype.MessageState]{values: states{crustertype.MessageDone}, also: types})
	}
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
	sql := l.query(s.q.ListMessages, "created_at DESC, id DESC", limit+1)
	out, err := read(ctx, s, "messages", s.scanMessage, sql, l.args...)
	if err != nil || len(out) <= limit {
		return out, "", err
	}
	out = out[:limit]
	return out, position{at: out[limit-1].CreatedAt, id: out[limit-1].ID}.cursor(), nil
}

// Executions lists executions.
func (s *Store) Executions(ctx context.Context, f storage.ExecutionFilter) ([]crustertype.Execution, storage.Cursor, error) {
	var l listing
	l.equal("type", f.Type)
	loose := f.IDPrefix != "" && f.Type == ""
	if few := f.KeyPrefix != "" || f.WaitingFor != "" || loose; few || len(f.Statuses) > 0 {
		types := ""
		if loose {
			types = ofTypes("type", s.q.ExecutionTypes)
		}
		type statuses = []crustertype.Status
		among(&l, "status", f.Statuses,
			class[crustertype.Status]{values: statuses{crustertype.StatusRunning}, whole: few},
			class[crustertype.Status]{values: statuses{crustertype.StatusSuspended, crustertype.StatusParked, crustertype.StatusDead}, whole: few},
			class[crustertype.Status]{values: statuses{crustertype.StatusFailed, crustertype.StatusCancelled, crustertype.StatusTerminated}, also: types, whole: few},
			class[crustertype.Status]{values: statuses{crustertype.StatusCompleted}, also: types})
	}
	l.prefix("id", f.IDPrefix)
	l.prefix("key", f.KeyPrefix)
	if l.prefix("waiting_for", f.WaitingFor); f.WaitingFor != "" {
		l.where("waiting_for <> ''")
	}
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
	sql := l.query(s.q.ListExecutions, "created_at DESC, type DESC, id DESC", limit+1)
	out, err := read(ctx, s, "executions", s.scanExecution, sql, l.args...)
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
