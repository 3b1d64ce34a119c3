package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// filter collects conditions with their arguments.
type filter struct {
	where []string
	args  []any
}

func (f *filter) add(condition string, args ...any) {
	f.where = append(f.where, condition)
	f.args = append(f.args, args...)
}

func (f *filter) equal(column, value string) {
	if value != "" {
		f.add(column+" = ?", value)
	}
}

// prefix selects values by their first bytes.
func (f *filter) prefix(column, prefix string) {
	if prefix == "" {
		return
	}
	f.add(column+" >= ?", prefix)
	end := []byte(prefix)
	for len(end) > 0 && end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	if len(end) > 0 {
		end[len(end)-1]++
		f.add(column+" < ?", string(end))
	}
}

func (f *filter) within(column string, from, to time.Time) {
	if !from.IsZero() {
		f.add(column+" >= ?", micros(from))
	}
	if !to.IsZero() {
		f.add(column+" < ?", micros(to))
	}
}

func states[T ~uint8](f *filter, column string, values []T) {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = fmt.Sprint(uint8(v))
	}
	switch len(values) {
	case 0:
	case 1:
		f.add(column + " = " + list[0])
	default:
		f.add(column + " IN (" + strings.Join(list, ", ") + ")")
	}
}

// query lists a table, newest first. The outer sort of a few rows makes the
// whole search happen in one step, which the end of the context interrupts.
func (f *filter) query(columns, table, index, order string, limit int) string {
	where := ""
	if len(f.where) > 0 {
		where = " WHERE " + strings.Join(f.where, " AND ")
	}
	desc := strings.ReplaceAll(order, ",", " DESC,") + " DESC"
	return "WITH page AS MATERIALIZED (SELECT num FROM " + table + " INDEXED BY " + index + where +
		" ORDER BY " + desc + fmt.Sprintf(" LIMIT %d)", limit) +
		" SELECT " + columns + " FROM page CROSS JOIN " + table + " USING (num) ORDER BY " + desc
}

// listPage reads a page, and a row more to learn whether there is another one.
func listPage[T any](ctx context.Context, s *Store, limit int, query string, args []any, scan func(*row) T) ([]T, bool, error) {
	out, err := read(ctx, s, func(ctx context.Context, c *conn) (out []T, err error) {
		err = c.queryOnce(ctx, query, appendTo(&out, scan), args...)
		return out, err
	})
	if len(out) > limit {
		return out[:limit], true, err
	}
	return out, false, err
}

// Messages lists messages.
func (s *Store) Messages(ctx context.Context, mf storage.MessageFilter) ([]crustertype.Message, storage.Cursor, error) {
	pos, err := parsePlace(mf.After)
	if err != nil {
		return nil, "", err
	}
	var f filter
	if mf.After != "" {
		f.add("(created_at, id) < (?, ?)", pos.at, pos.id[:])
	}
	f.equal("type", mf.Type)
	f.equal("entity", mf.ID)
	f.equal("method", mf.Method)
	states(&f, "state", mf.States)
	f.prefix("key", mf.KeyPrefix)
	f.within("created_at", mf.From, mf.To)
	index := "cruster_message_created"
	if len(mf.States) == 1 { // few, however many are done
		switch mf.States[0] {
		case crustertype.MessagePending:
			index = "cruster_message_entity"
		case crustertype.MessageDead:
			index = "cruster_message_dead"
		}
	}
	limit := min(limited(mf.Limit), defaultLimit)
	query := f.query(messageNoBody, "cruster_message", index, "created_at, id", limit+1)
	out, more, err := listPage(ctx, s, limit, query, f.args, readMessage)
	if !more {
		return out, "", err
	}
	return out, placeOfMessage(&out[limit-1]).cursor(), nil
}

// Executions lists executions.
func (s *Store) Executions(ctx context.Context, ef storage.ExecutionFilter) ([]crustertype.Execution, storage.Cursor, error) {
	pos, err := parsePlace(ef.After)
	if err != nil {
		return nil, "", err
	}
	limit := min(limited(ef.Limit), defaultLimit)
	var out []crustertype.Execution
	for {
		page, more, err := s.executions(ctx, ef, pos, limit)
		if err != nil {
			return nil, "", err
		}
		for i := range page {
			pos = placeOfExecution(&page[i])
			if !hasTags(page[i].Tags, ef.Tags) {
				continue // the bytes looked for were part of another tag
			}
			if out = append(out, page[i]); len(out) == limit && (more || i < len(page)-1) {
				return out, pos.cursor(), nil
			}
		}
		if !more {
			return out, "", nil
		}
	}
}

func (s *Store) executions(ctx context.Context, ef storage.ExecutionFilter, pos place, limit int) ([]crustertype.Execution, bool, error) {
	var f filter
	if pos.at != firstAt {
		f.add("(created_at, type, id) < (?, ?, ?)", pos.at, pos.ref.Type, pos.ref.ID)
	}
	f.equal("type", ef.Type)
	states(&f, "status", ef.Statuses)
	f.prefix("id", ef.IDPrefix)
	f.prefix("key", ef.KeyPrefix)
	f.prefix("waiting_for", ef.WaitingFor)
	f.within("created_at", ef.From, ef.To)
	if ef.Parent != (crustertype.ExecutionRef{}) {
		f.add("parent_type = ? AND parent_id = ?", ef.Parent.Type, ef.Parent.ID)
	}
	for name, value := range ef.Tags {
		f.add("instr(tags, ?) > 0", appendTag(nil, name, value))
	}
	index := "cruster_execution_created"
	if len(ef.Statuses) > 0 && !slices.ContainsFunc(ef.Statuses, crustertype.Status.Final) {
		index = "cruster_execution_open" // few, however many have ended
		f.add(openStatus)
	}
	query := f.query(executionNoBody, "cruster_execution", index, "created_at, type, id", limit+1)
	return listPage(ctx, s, limit, query, f.args, readExecution)
}

func hasTags(tags, want map[string]string) bool {
	for name, value := range want {
		if got, ok := tags[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// openStatus is the condition of the index of executions without an outcome.
const openStatus = `status IN (1, 2, 7, 8)`

const (
	countPending = `SELECT type, 1, count(*) FROM cruster_message INDEXED BY cruster_message_entity WHERE state = 1 GROUP BY type`
	countDead    = `SELECT type, 3, count(*) FROM cruster_message INDEXED BY cruster_message_dead WHERE state = 3 GROUP BY type`
	countOpen    = `SELECT type, status, count(*) FROM cruster_execution INDEXED BY cruster_execution_open
	WHERE ` + openStatus + ` GROUP BY type, status`
)

// Counts counts what the indexes of unfinished items hold.
func (s *Store) Counts(ctx context.Context) (storage.Counts, error) {
	return read(ctx, s, func(ctx context.Context, c *conn) (storage.Counts, error) {
		counts := storage.Counts{
			Messages:   make(map[string]map[crustertype.MessageState]int64),
			Executions: make(map[string]map[crustertype.Status]int64),
		}
		for _, q := range []string{countPending, countDead} {
			if err := c.query(ctx, q, countInto(counts.Messages)); err != nil {
				return counts, err
			}
		}
		return counts, c.query(ctx, countOpen, countInto(counts.Executions))
	})
}

func countInto[K ~uint8](m map[string]map[K]int64) func(r *row) error {
	return func(r *row) error {
		name, state, n := r.text(), K(r.int64()), r.int64()
		if m[name] == nil {
			m[name] = make(map[K]int64)
		}
		m[name][state] = n
		return nil
	}
}
