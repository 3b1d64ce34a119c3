package main

import (
	_ "embed"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed debug.sql
var debugSQL string

// MessageRow is one call: a persisted request, an execution, or a step of one.
type MessageRow struct {
	RequestID  int64  `json:"request_id"`
	ShardGroup string `json:"shard_group"`
	ShardID    int64  `json:"shard_id"`
	EntityType string `json:"entity_type"`
	EntityID   string `json:"entity_id"`
	Tag        string `json:"tag"`
	IsRequest  bool   `json:"is_request"`
	Processed  bool   `json:"processed"`
	RetryCount int64  `json:"retry_count"`
	CreatedAt  Time   `json:"created_at"`
}

// ReplyRow is the outcome of a call.
type ReplyRow struct {
	ID        int64 `json:"id"`
	RequestID int64 `json:"request_id"`
	Sequence  int64 `json:"sequence"`
	IsExit    bool  `json:"is_exit"`
	CreatedAt Time  `json:"created_at"`
}

// JournalRow is a step of an execution.
type JournalRow struct {
	Key         string `json:"key"`
	ValueSize   int64  `json:"value_size"`
	CreatedAt   Time   `json:"created_at"`
	UpdatedAt   Time   `json:"updated_at"`
	CompletedAt *Time  `json:"completed_at"`
}

func (a *app) debugRoutes(t table) {
	t.handle("GET /debug/shards", func(*http.Request) (any, error) {
		groups := []string{"default"}
		return map[string]any{"total_shards": shardsPerGroup * len(groups), "shards_per_group": shardsPerGroup, "shard_groups": groups}, nil
	})
	t.handle("GET /debug/entities", func(*http.Request) (any, error) {
		return map[string]any{"entity_types": registered, "active_count": a.svc.Health().Entities}, nil
	})
	t.handle("GET /debug/messages", func(r *http.Request) (any, error) {
		f := newFilter(r)
		f.text("entity_type", "entity_type = ")
		f.text("entity_id", "entity_id = ")
		f.text("tag", "tag = ")
		f.bool("processed", "processed", "NOT processed")
		return query[MessageRow](a, r, "messages", f)
	})
	t.handle("GET /debug/replies", func(r *http.Request) (any, error) {
		f := newFilter(r)
		f.int("request_id", "request_id = ")
		f.bool("is_exit", "is_exit", "NOT is_exit")
		return query[ReplyRow](a, r, "replies", f)
	})
	t.handle("GET /debug/journal", func(r *http.Request) (any, error) {
		f := newFilter(r)
		f.prefix("prefix", "key")
		f.bool("completed", "completed_at IS NOT NULL", "completed_at IS NULL")
		return query[JournalRow](a, r, "journal", f)
	})
}

// query runs one of the statements of debug.sql.
func query[T any](a *app, r *http.Request, name string, f *filter) (any, error) {
	limit := f.limit()
	if f.err != nil {
		return nil, f.err
	}
	sql := strings.NewReplacer("{{calls}}", statement("calls"), "{{where}}", f.where(), "{{limit}}", strconv.Itoa(limit)).Replace(statement(name))
	return list(rowsOf(r.Context(), a.db, pgx.RowToStructByPos[T], sql, f.args...))
}

// statement returns a named part of debug.sql.
func statement(name string) string {
	_, text, _ := strings.Cut(debugSQL, "-- name: "+name+"\n")
	text, _, _ = strings.Cut(text, "-- name: ")
	return text
}

// filter turns query parameters into conditions.
type filter struct {
	given      map[string][]string
	conditions []string
	args       []any
	err        error
}

func newFilter(r *http.Request) *filter {
	return &filter{given: r.URL.Query()}
}

// get returns a parameter, if it is given and not empty.
func (f *filter) get(name string) (string, bool) {
	if v := f.given[name]; len(v) > 0 && v[0] != "" {
		return v[0], true
	}
	return "", false
}

func (f *filter) add(condition string, arg any) {
	f.args = append(f.args, arg)
	f.conditions = append(f.conditions, strings.ReplaceAll(condition, "?", fmt.Sprintf("$%d", len(f.args))))
}

func (f *filter) refuse(name, text, want string) {
	f.err = bad(http.StatusBadRequest, "%s is %q: it must be %s", name, text, want)
}

func (f *filter) text(name, condition string) {
	if v, ok := f.get(name); ok {
		f.add(condition+"?::text", strings.ToValidUTF8(strings.ReplaceAll(v, "\x00", "\uFFFD"), "\uFFFD"))
	}
}

func (f *filter) int(name, condition string) {
	v, ok := f.get(name)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		f.refuse(name, v, "a whole number")
		return
	}
	f.add(condition+"?::bigint", n)
}

func (f *filter) bool(name, yes, no string) {
	switch v, ok := f.get(name); {
	case !ok:
	case v == "true":
		f.conditions = append(f.conditions, yes)
	case v == "false":
		f.conditions = append(f.conditions, no)
	default:
		f.refuse(name, v, "true or false")
	}
}

func (f *filter) prefix(name, column string) {
	if v, ok := f.get(name); ok {
		f.add("starts_with("+column+", ?::text)", strings.ToValidUTF8(v, "\uFFFD"))
	}
}

// limit is how many rows are wanted, 100 unless told.
func (f *filter) limit() int {
	v, ok := f.get("limit")
	if !ok {
		return 100
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		f.refuse("limit", v, "a whole number")
	}
	return int(n)
}

func (f *filter) where() string {
	if len(f.conditions) == 0 {
		return "true"
	}
	return strings.Join(f.conditions, " AND ")
}
